/** What optimizers know of each other: which parameters one trains, and how to copy what it remembers. */

import type { Tensor } from '@otimes/core';
import type { Journal } from './journal.ts';
import type { Optimizer } from './optimizer.ts';

type Saver = (journal: Journal) => void;

const TRAINED = new WeakMap<Optimizer, readonly Tensor[]>();
const SAVERS = new WeakMap<Optimizer, Saver>();

/** Says which parameters an optimizer trains; returns them. */
export function noteTrained<P extends Tensor>(optimizer: Optimizer, parameters: readonly P[]): readonly P[] {
  TRAINED.set(optimizer, parameters);
  return parameters;
}

/** The parameters that an optimizer trains; undefined where nobody has said. */
export const trainedBy = (optimizer: Optimizer): readonly Tensor[] | undefined => TRAINED.get(optimizer);

/** Says how a journal takes what an optimizer remembers, without reading a value. */
export function noteSaver(optimizer: Optimizer, save: Saver): void {
  SAVERS.set(optimizer, save);
}

/** Of a `GradientOptimizer`, without its parameters; undefined for another optimizer. */
export const saverOf = (optimizer: Optimizer): Saver | undefined => SAVERS.get(optimizer);
