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

/** Whether all that a step of this optimizer changes is written in place by kernels that heed `skipIf`: a class of the library with gradients alone. */
export const isGuarded = (optimizer: Optimizer): boolean =>
  SAVERS.has(optimizer) && Object.hasOwn(optimizer.constructor, 'builtIn') && !Object.hasOwn(optimizer, 'update');

type Scaled = { lossScale: number };
const SCALED = new WeakMap<Optimizer, Scaled | null>();

/** Says where an optimizer that looks at more than gradients is told what the loss was multiplied by; null if it must not be. */
export function noteScaled(optimizer: Optimizer, settings: Scaled | null): void {
  SCALED.set(optimizer, settings);
}

export const scaledBy = (optimizer: Optimizer): Scaled | null | undefined => SCALED.get(optimizer);

/** Of parameters whose gradients a GradScaler has divided and not yet stepped with: whether one overflowed, or on the device 1 if one did. */
const JUDGED = new WeakMap<Tensor, boolean | Tensor>();

/** Says what a GradScaler has found in the gradients of these parameters, by which it skips a step; null once that is over. */
export function noteJudged(parameters: Iterable<Tensor>, found: boolean | Tensor | null): void {
  for (const p of parameters) {
    if (found === null) JUDGED.delete(p);
    else JUDGED.set(p, found);
  }
}

export const judgedOf = (parameter: Tensor): boolean | Tensor | undefined => JUDGED.get(parameter);

/** Says how a journal takes what an optimizer remembers, without reading a value. */
export function noteSaver(optimizer: Optimizer, save: Saver): void {
  SAVERS.set(optimizer, save);
}

/** Of a `GradientOptimizer`, without its parameters; undefined for another optimizer. */
export const saverOf = (optimizer: Optimizer): Saver | undefined => SAVERS.get(optimizer);
