/** What is known while modules run: how deep calls are nested, who owns the tensors that are made, and who watches. */

import { owningIntermediates, Tensor } from '@otimes/core';
import { aTensor, checkArgument, nameOf } from '@otimes/core/extend';
import type { AnyModule } from './module.ts';

type Observer = (module: AnyModule, output: unknown, inputs: readonly unknown[]) => void;

export const running = {
  /** How many calls are running, one inside another. */
  depth: 0,
  /** How many containers are running that own what is made inside them. */
  owners: 0,
  /** Counts calls of code of the program, which may have kept a tensor that a container would have owned. */
  foreign: 0,
  /** Is told of each call; hooks are not while there is one. */
  observer: null as Observer | null,
};

/**
 * Runs the forward pass of `container`. The tensors that it makes on the way are released with the graph. If it calls a layer
 * that may keep tensors, or a hook that does not borrow, they live as long as they can be reached, like all other tensors.
 */
export function insides(container: object, run: () => Tensor): Tensor {
  const before = running.foreign;
  const checked = () => tensorFrom(run(), container, () => 'its output');
  running.owners++;
  try {
    return owningIntermediates(checked, () => running.foreign === before);
  } finally {
    running.owners--;
  }
}

/** Returns `value`; throws if a layer of the program gave `container` something that is no tensor. `what` names it. */
export function tensorFrom(value: Tensor, container: object, what: () => string): Tensor {
  if (!(value instanceof Tensor)) checkArgument(nameOf(container), what(), value, aTensor);
  return value;
}

/** Runs `run`; meanwhile `see` is told of every call, and hooks do not run. */
export function observed<T>(see: Observer, run: () => T): T {
  const before = running.observer;
  running.observer = see;
  try {
    return run();
  } finally {
    running.observer = before;
  }
}

/** Keeps tensors that code of the program sees: no container releases them, nor what that code makes of them. */
export function keepAll(values: readonly unknown[]): void {
  running.foreign++;
  for (const x of values) if (x instanceof Tensor) x.keep();
}
