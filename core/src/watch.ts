/** Who wants to know what a stretch of the program reads of tensors with gradients, writes in place, and draws. */

import type { Generator } from './random.ts';
import type { Tensor } from './tensor.ts';

export interface Watch {
  /** The inputs of a differentiable operation that is not recorded. */
  read(x: readonly Tensor[]): void;
  /** Before the elements of `y` change. */
  write(y: Tensor): void;
  /** Before a generator draws, or gets another state. */
  draw(rng: Generator): void;
}

/** Whoever watches now. */
export let watching: Watch | null = null;

/** Runs `run` while `own` watches; whoever watched before is not told of what happens meanwhile. */
export function watched<T>(own: Watch | null, run: () => T): T {
  const before = watching;
  watching = own;
  try {
    return run();
  } finally {
    watching = before;
  }
}
