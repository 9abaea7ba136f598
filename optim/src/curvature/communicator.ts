/** Processes that train one model together, each on its own part of every batch. */

import type { Tensor } from '@otimes/core';

/**
 * How such processes exchange tensors. All of them call the same methods in the same order with tensors of the same shapes, and
 * have the same bits in them afterwards. Curvature needs it at two seams, and nowhere else:
 *
 * - **sum**: what a step learns from its batch is a sum over examples, so the statistics of the whole batch are the sum of those of
 *   its parts: the factors A and G, the gradients D̃, and the verdict whether all of that is finite.
 * - **refresh**: a basis is computed by the one process that owns the block (`owner`), and the others receive it.
 */
export interface Communicator {
  /** This process, 0 … size − 1. */
  readonly rank: number;
  /** How many processes there are. */
  readonly size: number;
  /** Replaces each tensor by its sum over all processes, in place. A promise where the others have to be waited for. */
  sum(tensors: readonly Tensor[]): void | Promise<void>;
  /** Replaces each tensor by the one of process `from`, in place. */
  broadcast(tensors: readonly Tensor[], from: number): void | Promise<void>;
}

/** One process: all sums are there, and it costs nothing. */
export const alone: Communicator = { rank: 0, size: 1, sum() {}, broadcast() {} };

/** The process that decomposes the factors of the block at this position in the list of all. */
export const owner = ({ size }: Communicator, block: number): number => block % size;
