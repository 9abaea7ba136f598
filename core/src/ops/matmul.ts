/** The matrix product with PyTorch's rules for vectors and batches. */

import { promote } from '../dtype.ts';
import { DTypeError, describe, ShapeError } from '../errors.ts';
import { defineOp, type Op } from '../op.ts';
import { broadcastShapes, sizeOf } from '../shape.ts';
import { checkTensors, type Tensor } from '../tensor.ts';
import { cast } from './cast.ts';
import { reshape, squeeze, transpose, unsqueeze } from './view.ts';

/** The product of two operands of at least two axes and one dtype. */
export const matmulOp: Op<null> = defineOp<null>({
  name: 'matmul',
  shape: ([a, b]) => ({
    shape: [
      ...broadcastShapes('matmul', a!.shape.slice(0, -2), b!.shape.slice(0, -2)),
      a!.shape.at(-2)!,
      b!.shape.at(-1)!,
    ],
    dtype: a!.dtype,
  }),
  forward: (backend, [a, b], out) => backend.matmul(a!, b!, out),
  backward: (gy, node) => [
    node.needs(0) ? matmul(gy, transpose(node.input(1))) : null,
    node.needs(1) ? rightGradient(node.input(0), node.input(1), gy) : null,
  ],
});

/**
 * aᵀ · gy, laid out as `b` is: the gradient of the transpose of a weight comes out as the weight lies, and need not be
 * copied.
 */
function rightGradient(a: Tensor, b: Tensor, gy: Tensor): Tensor {
  const transposed = b.strides.at(-2) === 1 && b.strides.at(-1) !== 1;
  return transposed ? transpose(matmul(transpose(gy), a)) : matmul(transpose(a), gy);
}

/**
 * a [..., M, K] · b [..., K, N] → [..., M, N]. Leading axes broadcast. A vector counts as a row on the left and as a
 * column on the right, and its axis is gone from the result.
 */
export function matmul(a: Tensor, b: Tensor): Tensor {
  checkTensors('matmul', a, b);
  if (a.rank === 0 || b.rank === 0)
    throw new ShapeError(`matmul: expected vectors or matrices, got ${describe(a)} and ${describe(b)}`);
  const dtype = promote(a.dtype, b.dtype);
  if (dtype === 'bool') throw new DTypeError(`matmul: expected numbers, got ${describe(a)} and ${describe(b)}`);
  if (a.shape.at(-1) !== b.shape[Math.max(0, b.rank - 2)])
    throw new ShapeError(`matmul: inner dimensions differ: ${describe(a)} and ${describe(b)}`);
  const left = cast(a.rank === 1 ? unsqueeze(a, 0) : a, dtype);
  const right = cast(b.rank === 1 ? unsqueeze(b, 1) : b, dtype);
  // Many rows against one matrix are one product, and so is its gradient.
  const joined = left.rank > 2 && right.rank === 2;
  const product = joined
    ? reshape(matmulOp([reshape(left, [sizeOf(left.shape.slice(0, -1)), left.shape.at(-1)!]), right], null), [
        ...left.shape.slice(0, -1),
        right.shape[1]!,
      ])
    : matmulOp([left, right], null);
  if (a.rank > 1 && b.rank > 1) return product;
  return squeeze(product, [...(a.rank === 1 ? [-2] : []), ...(b.rank === 1 ? [-1] : [])]);
}
