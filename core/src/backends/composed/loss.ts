/** Losses by reductions, elementwise arithmetic and one gather. */

import { sizeOf } from '../../shape.ts';
import type { Backend, Operand } from '../backend.ts';
import { withLayout } from '../operand.ts';
import { largestOf } from './reduce.ts';
import { within } from './scratch.ts';

/** Losses over a batch, each one number. `scale` is 1 over a count for a mean; `gy` is the gradient of the loss, a scalar. */
export class LossKernels {
  /**
   * out ← scale · Σ over the rows of −log softmax(x)[label], for x [N, C] and int32 labels [N]. `stats` [N, 2], contiguous,
   * takes what `crossEntropyGrad` needs of the forward pass.
   */
  crossEntropy(this: Backend, x: Operand, labels: Operand, stats: Operand, scale: number, out: Operand): void {
    const column = [x.shape[0]!, 1];
    if (sizeOf(x.shape) === 0) return this.fill(0, out);
    within(this, scratch => {
      const largest = largestOf(scratch, x, 1);
      const rest = scratch.binary('sub', x, largest);
      const logSums = scratch.unary('log', scratch.reduce('sum', scratch.unary('exp', rest), [1]));
      const picked = scratch.gather(rest, 1, withLayout(labels, column, [labels.strides[0]!, 0]));
      const losses = scratch.reduce('sum', scratch.binary('sub', logSums, picked), [0, 1]);
      this.binary('mul', withLayout(losses, []), scale, out);
      this.assign(withLayout(stats, column, [2, 1]), largest);
      this.assign(withLayout(stats, column, [2, 1], stats.offset + 1), logSums);
    });
  }

  /** out (like x) ← gy · scale · (softmax(x) − 1 at the label) */
  crossEntropyGrad(
    this: Backend,
    gy: Operand,
    x: Operand,
    labels: Operand,
    stats: Operand,
    scale: number,
    out: Operand,
  ): void {
    const [rows, classes] = x.shape as [number, number];
    if (sizeOf(x.shape) === 0) return;
    const column = [rows, 1];
    within(this, scratch => {
      const rest = scratch.binary('sub', x, withLayout(stats, column, [2, 1]));
      const logP = scratch.binary('sub', rest, withLayout(stats, column, [2, 1], stats.offset + 1));
      const index = withLayout(labels, column, [labels.strides[0]!, 0]);
      // A label out of range, which a check will tell, picks nothing here.
      const chosen = scratch.copy(scratch.binary('eq', index, numbersTo(this, classes)), x.dtype);
      const residual = scratch.binary('sub', scratch.unary('exp', logP), chosen);
      this.binary('mul', residual, scratch.binary('mul', gy, scale), out);
    });
  }

  /** out ← scale · Σ (a − b)² */
  squaredError(this: Backend, a: Operand, b: Operand, scale: number, out: Operand): void {
    within(this, scratch => {
      const squares = scratch.unary('square', scratch.binary('sub', a, b));
      const sum = scratch.reduce('sum', squares, [...squares.shape.keys()]);
      this.binary('mul', withLayout(sum, []), scale, out);
    });
  }

  /** out ← gy · scale · (a − b) */
  squaredErrorGrad(this: Backend, gy: Operand, a: Operand, b: Operand, scale: number, out: Operand): void {
    within(this, scratch => {
      this.binary('mul', scratch.binary('sub', a, b), scratch.binary('mul', gy, scale), out);
    });
  }
}

import { numbersTo } from './tables.ts';
