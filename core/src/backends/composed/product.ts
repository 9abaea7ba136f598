/** Products that are more than one `matmul`. */

import { isContiguous, sizeOf } from '../../shape.ts';
import type { Backend, Operand } from '../backend.ts';
import { transposed, withLayout } from '../operand.ts';

/** Products that are more than one `matmul`. */
export class ProductKernels {
  /** out [N, N] ← xᵀ x for x [M, N], or the sum of those of x [B, M, N], exactly symmetric. */
  gram(this: Backend, x: Operand, out: Operand): void {
    const n = x.shape.at(-1)!;
    const rows = sizeOf(x.shape.slice(0, -1));
    if (rows === 0) return this.fill(0, out);
    within(this, scratch => {
      const matrix = x.shape.length === 2 ? x : withLayout(scratch.packed(x), [rows, n]);
      const product = scratch.empty(x.dtype, [n, n]);
      this.matmul(transposed(matrix), matrix, product);
      // The mean with the transpose, because products of a this need not be exactly symmetric.
      const half = scratch.binary('mul', product, 0.5);
      this.binary('add', half, transposed(half), out);
    });
  }

  /** out [..., M] ← x [..., K] · weightᵀ + bias, for a weight [M, K] and a bias [M]. */
  linear(this: Backend, x: Operand, weight: Operand, bias: Operand | null, out: Operand): void {
    if (sizeOf(out.shape) === 0) return;
    const [m, k] = weight.shape as [number, number];
    const rows = sizeOf(out.shape) / m;
    within(this, scratch => {
      const matrix = x.shape.length === 2 && !isContiguous(x) ? x : withLayout(scratch.packed(x), [rows, k]);
      this.matmul(matrix, transposed(weight), withLayout(out, [rows, m]));
      if (bias !== null) this.binary('add', out, bias, out);
    });
  }
}

import { within } from './scratch.ts';
