/** Processes that train one model together, each on its own part of every batch. */

import type { Tensor } from '@otimes/core';
import { aFunction, type Kind } from '@otimes/core/extend';

/**
 * How such processes exchange tensors. All of them call the same methods in the same order with tensors of the same shapes and
 * dtypes, and have the same bits in them afterwards. Where that fails, on time or by shapes that differ, the call throws or rejects
 * in all of them: an optimizer then is what it was before the step. Curvature needs it at two seams, and nowhere else:
 *
 * - **sum**: what a step learns from its batch is a sum over examples, so the statistics of the whole batch are the sum of those of
 *   its parts: the factors A and G, the gradients D̃ or D, and second moments. A number that is not finite in one process is so in
 *   all after that, and what else a process has to tell (how many examples it has, an error) is a row of a table that is summed.
 * - **refresh**: a basis is computed by the one process that owns the block (`owner`), and the others receive it.
 *
 * Tensors are float32 or float64, of any rank, without gaps, and lie on the device of the model or on 'cpu'. `data`, `copy_`, and all
 * else that tensors have, may be used on them; they are the communicator's until the call returns or its promise is settled.
 */
export interface Communicator {
  /** This process, 0 … size − 1. */
  readonly rank: number;
  /** How many processes there are. With 1 neither method is called. */
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

const fieldOf = (v: unknown, name: string): unknown =>
  typeof v === 'object' && v !== null ? Reflect.get(v, name) : undefined;

/** What the option `communicator` must be. */
export const aCommunicator: Kind = {
  expected: 'a communicator { rank, size, sum, broadcast } with integers 0 ≤ rank < size',
  is(v) {
    const [rank, size] = [fieldOf(v, 'rank'), fieldOf(v, 'size')];
    const isPlace =
      Number.isInteger(rank) && Number.isInteger(size) && Number(rank) >= 0 && Number(rank) < Number(size);
    return isPlace && aFunction.is(fieldOf(v, 'sum')) && aFunction.is(fieldOf(v, 'broadcast'));
  },
  hint(v) {
    const [rank, size] = [fieldOf(v, 'rank'), fieldOf(v, 'size')];
    if (typeof v !== 'object' || v === null) return '';
    const missing = ['sum', 'broadcast'].filter(name => !aFunction.is(fieldOf(v, name)));
    return missing.length > 0
      ? `it has no function ${missing.join(' and no ')}`
      : `its rank is ${String(rank)} and its size ${String(size)}`;
  },
};
