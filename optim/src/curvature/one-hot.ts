/**
 * Vectors that are 1 at an index and 0 elsewhere, as the indices alone: `at`, int32 [batch, shared], of which n stands for a vector of zeros.
 * Nothing here is of n · n numbers, or of n numbers a position.
 */

import { type DType, notDifferentiable, oneHot, ones, type Tensor } from '@otimes/core';
import { defineBuiltIn } from '@otimes/core/extend';

/** `indexAdd` with indices that were checked: x's slices along axis 0, each added to the one of `count` that its index names. */
const indexAdd = defineBuiltIn<number>({
  name: 'indexAdd',
  shape: ([x], count) => ({ shape: [count, ...x!.shape.slice(1)], dtype: x!.dtype }),
  forward: (backend, [x, index], out) => backend.indexAdd(x!, 0, index!, out),
  backward: notDifferentiable,
});

/** The vectors, [batch, shared, n]. */
export const indexRows = (at: Tensor, n: number, dtype: DType): Tensor => oneHot(at, n + 1, { dtype }).narrow(2, 0, n);

/** Σ of all vectors, and of their outer products the diagonal: how often each index is there, [n]. */
export function indexGram(at: Tensor, n: number, dtype: DType): Tensor {
  return added(ones([at.size], { dtype, device: at.device }), at, n);
}

/**
 * Σ_b (Σ_t g_bt e_btᵀ)², elementwise, [dOut, n], of g [batch, shared, dOut] and the vectors e: the gradients that an example has for one index
 * are summed before they are squared, by shared² products an example.
 */
export function indexSquares(at: Tensor, g: Tensor, n: number): Tensor {
  const [, shared, dOut] = g.shape as [number, number, number];
  const squares = () => {
    if (shared === 1) return g.square();
    const same = at.unsqueeze(2).eq(at.unsqueeze(1)).astype(g.dtype);
    // Each of them has the sum of all, so that all together have its square once.
    return same.matmul(g).square().div(same.sum(2).unsqueeze(2));
  };
  return added(squares().reshape([-1, dOut]), at, n).transpose();
}

/** Of rows [batch · shared, …] the sums of those with one index, [n, …]. */
const added = (rows: Tensor, at: Tensor, n: number): Tensor =>
  indexAdd([rows, at.reshape([-1])], n + 1).narrow(0, 0, n);
