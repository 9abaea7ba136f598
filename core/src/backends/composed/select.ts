/** Picking and adding whole slices by index. */

import type { Backend, Operand } from '../backend.ts';
import { withLayout } from '../operand.ts';

/** Whole slices by a vector of indices. */
export class SelectKernels {
  /** out ← the slices of `x` along `axis` that `index` [n] names, in its order. */
  indexSelect(this: Backend, x: Operand, axis: number, index: Operand, out: Operand): void {
    this.gather(x, axis, alongAxis(index, axis, out), out);
  }

  /** out ← 0, then the slice index[i] of `out` along `axis` += slice i of `x`. */
  indexAdd(this: Backend, x: Operand, axis: number, index: Operand, out: Operand): void {
    this.scatterAdd(x, axis, alongAxis(index, axis, x), out);
  }
}

/** A vector of indices along an axis as an index for each element of `x`. */
function alongAxis(index: Operand, axis: number, { shape }: Operand): Operand {
  const strides = shape.map((_, i) => (i === axis ? index.strides[0]! : 0));
  return withLayout(index, shape, strides);
}
