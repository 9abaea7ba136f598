/** Softmax, its gradients, and running sums. */

import { sizeOf } from '../../shape.ts';
import type { Backend, Operand } from '../backend.ts';
import { withLayout } from '../operand.ts';
import { around } from '../walk.ts';
import { type Scratch, within } from './scratch.ts';

/** Running sums, and softmax with its gradients. */
export class ReduceKernels {
  /** out ← Σ x_j over the j ≤ i along `axis`, for each i there. */
  cumsum(this: Backend, x: Operand, axis: number, out: Operand): void {
    this.copy(x, out);
    const { before, length, after } = around(out.shape, axis);
    const part = (start: number, count: number) =>
      withLayout(out, [before, count, after], [length * after, after, 1], start * after);
    // Sums of 1, 2, 4, … elements. A product with a triangle of ones would spread NaN and ∞ to the elements before.
    for (let shift = 1; shift < length; shift *= 2) {
      const count = length - shift;
      within(this, scratch =>
        this.assign(part(shift, count), scratch.binary('add', part(shift, count), part(0, count))),
      );
    }
  }

  softmax(this: Backend, x: Operand, axis: number, out: Operand): void {
    if (sizeOf(out.shape) === 0) return;
    within(this, scratch => {
      const powers = scratch.unary('exp', scratch.binary('sub', x, largestOf(scratch, x, axis)));
      this.binary('div', powers, scratch.reduce('sum', powers, [axis]), out);
    });
  }

  logSoftmax(this: Backend, x: Operand, axis: number, out: Operand): void {
    if (sizeOf(out.shape) === 0) return;
    within(this, scratch => {
      const rest = scratch.binary('sub', x, largestOf(scratch, x, axis));
      const sums = scratch.reduce('sum', scratch.unary('exp', rest), [axis]);
      this.binary('sub', rest, scratch.unary('log', sums), out);
    });
  }

  /** out ← the gradient by the argument of `softmax` from that of its result and the result y: y (gy − Σ gy y). */
  softmaxGrad(this: Backend, gy: Operand, y: Operand, axis: number, out: Operand): void {
    within(this, scratch => {
      const dot = scratch.reduce('sum', scratch.binary('mul', gy, y), [axis]);
      this.binary('mul', y, scratch.binary('sub', gy, dot), out);
    });
  }

  /** The same for `logSoftmax`: gy − exp(y) Σ gy. */
  logSoftmaxGrad(this: Backend, gy: Operand, y: Operand, axis: number, out: Operand): void {
    within(this, scratch => {
      const sum = scratch.reduce('sum', gy, [axis]);
      this.binary('sub', gy, scratch.binary('mul', scratch.unary('exp', y), sum), out);
    });
  }
}

/** The largest elements along an axis, of length 1 now; 0 where all are −∞, so that the softmax there is 0/0 = NaN. */
export function largestOf(scratch: Scratch, x: Operand, axis: number): Operand {
  const largest = scratch.reduce('max', x, [axis]);
  return scratch.where(scratch.binary('ne', largest, -Infinity), largest, 0);
}
