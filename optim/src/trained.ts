/** What optimizers know of each other: which parameters one trains, and copies of what it remembers. */

import { type Tensor, unscoped } from '@otimes/core';
import { held } from '@otimes/core/extend';
import type { Optimizer } from './optimizer.ts';

const TRAINED = new WeakMap<Optimizer, readonly Tensor[]>();
const SNAPSHOTS = new WeakMap<Optimizer, () => Snapshot>();

/** Copies of what an optimizer remembers. */
export type Snapshot = {
  /** Puts all back, bit for bit, without reading a value. */
  readonly restore: () => void;
  /** Gives the copies' memory back. */
  readonly release: () => void;
};

/** Says which parameters an optimizer trains; returns them. */
export function noteTrained<P extends Tensor>(optimizer: Optimizer, parameters: readonly P[]): readonly P[] {
  TRAINED.set(optimizer, parameters);
  return parameters;
}

/** The parameters that an optimizer trains; undefined where nobody has said. */
export const trainedBy = (optimizer: Optimizer): readonly Tensor[] | undefined => TRAINED.get(optimizer);

/** Says how copies of what an optimizer remembers are made. */
export function noteSnapshot(optimizer: Optimizer, make: () => Snapshot): void {
  SNAPSHOTS.set(optimizer, make);
}

/** Of a `GradientOptimizer`, without its parameters; undefined for another optimizer. */
export const snapshotOf = (optimizer: Optimizer): Snapshot | undefined => SNAPSHOTS.get(optimizer)?.();

/** A tensor, and its elements as they are now in memory that nobody else gives back. */
export const copied = (x: Tensor): { readonly x: Tensor; readonly copy: Tensor } => ({
  x,
  copy: unscoped(() => held(x.detach().clone())),
});
