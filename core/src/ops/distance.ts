/** Products and distances of vectors. All are made of other operations, so that they are differentiable as often as those are. */

import { aBoolean, aNormOrder, anEps, checkOptions } from '../check.ts';
import { promote, toFloat } from '../dtype.ts';
import { describe, ShapeError } from '../errors.ts';
import { owningIntermediates } from '../scope.ts';
import { broadcastShapes, normalizeAxis } from '../shape.ts';
import { checkTensors, type Tensor } from '../tensor.ts';
import { cast } from './cast.ts';
import { abs, add, div, eq, maximum, mul, pow, sub, where } from './elementwise.ts';
import { matmul } from './matmul.ts';
import { roll } from './parts.ts';
import { max, norm, sum } from './reduce.ts';
import { expand, squeeze, unsqueeze } from './view.ts';

/** The matrix of all products: a [M], b [N] → [M, N]. */
export function outer(a: Tensor, b: Tensor): Tensor {
  checkVectors('outer', a, b);
  return mul(unsqueeze(a, 1), b);
}

/** The sum of products of two vectors of one length, a scalar. */
export function dot(a: Tensor, b: Tensor): Tensor {
  checkVectors('dot', a, b);
  if (a.size !== b.size) throw new ShapeError(`dot: lengths differ: ${describe(a)} and ${describe(b)}`);
  return matmul(a, b);
}

function checkVectors(op: string, a: Tensor, b: Tensor): void {
  checkTensors(op, a, b);
  if (a.rank !== 1 || b.rank !== 1)
    throw new ShapeError(`${op}: expected two vectors, got ${describe(a)} and ${describe(b)}`);
}

/** The cross product of vectors of three elements along `axis` (default the last); the other axes broadcast. As torch.linalg.cross. */
export function cross(a: Tensor, b: Tensor, axis = -1): Tensor {
  checkTensors('cross', a, b);
  const shape = broadcastShapes('cross', a.shape, b.shape);
  const at = normalizeAxis('cross', axis, shape.length) - shape.length;
  if (a.shape.at(at) !== 3 || b.shape.at(at) !== 3)
    throw new ShapeError(`cross: expected three elements along axis ${axis}, got ${describe(a)} and ${describe(b)}`);
  return owningIntermediates(() => sub(mul(roll(a, -1, at), roll(b, -2, at)), mul(roll(a, -2, at), roll(b, -1, at))));
}

/** (Σ |x|ᵖ)^(1/p) along an axis, which stays with length 1; the largest |x| for p = ∞. Its gradient at 0 is 0. */
function pNorm(x: Tensor, p: number, axis: number): Tensor {
  const keep = { keepdim: true };
  if (p === 2) return norm(x, axis, keep);
  const size = abs(x);
  if (p === 1) return sum(size, axis, keep);
  if (p === Infinity) return x.shape.at(axis) === 0 ? sum(size, axis, keep) : max(size, axis, keep);
  return away0(sum(away0(size, p), axis, keep), 1 / p);
}

/** xᵖ for x ≥ 0; where x is 0 its derivatives are 0, too. */
function away0(x: Tensor, p: number): Tensor {
  const zero = eq(x, 0);
  return where(zero, 0, pow(where(zero, 1, x), p));
}

/** In the common floating dtype. */
function floats(a: Tensor, b: Tensor): [Tensor, Tensor] {
  const dtype = toFloat(promote(a.dtype, b.dtype));
  return [cast(a, dtype), cast(b, dtype)];
}

/**
 * The distances of each of P points from each of R: a [..., P, M], b [..., R, M] → [..., P, R], where leading axes broadcast. `p` is the
 * order of the norm: 2 (default) Euclidean, 1 sums of absolute differences, Infinity the largest one. Computed from differences,
 * P · R · M of them, so near points lose no digits. The gradient at points that coincide is 0, as in PyTorch.
 */
export function cdist(a: Tensor, b: Tensor, o: { p?: number } = {}): Tensor {
  checkTensors('cdist', a, b);
  checkOptions('cdist', o, { p: aNormOrder });
  if (a.rank < 2 || b.rank < 2 || a.shape.at(-1) !== b.shape.at(-1))
    throw new ShapeError(`cdist: expected a [..., P, M] and b [..., R, M], got ${describe(a)} and ${describe(b)}`);
  broadcastShapes('cdist', a.shape.slice(0, -2), b.shape.slice(0, -2));
  return owningIntermediates(() => {
    const [x, y] = floats(a, b);
    return squeeze(pNorm(sub(unsqueeze(x, -2), unsqueeze(y, -3)), o.p ?? 2, -1), -1);
  });
}

/**
 * The distances ‖a − b + eps‖ along the last axis, which is gone; the others broadcast. `p` is the order of the norm (default 2), `eps`
 * (default 1e-6) keeps the gradient away from 0/0, `keepdim` (default false) leaves the axis with length 1.
 */
export function pairwiseDistance(
  a: Tensor,
  b: Tensor,
  o: { p?: number; eps?: number; keepdim?: boolean } = {},
): Tensor {
  checkTensors('pairwiseDistance', a, b);
  checkOptions('pairwiseDistance', o, { p: aNormOrder, eps: anEps, keepdim: aBoolean });
  if (broadcastShapes('pairwiseDistance', a.shape, b.shape).length === 0)
    throw new ShapeError(`pairwiseDistance: expected at least one axis, got ${describe(a)} and ${describe(b)}`);
  return owningIntermediates(() => {
    const [x, y] = floats(a, b);
    const distance = pNorm(add(sub(x, y), o.eps ?? 1e-6), o.p ?? 2, -1);
    return o.keepdim ? distance : squeeze(distance, -1);
  });
}

/**
 * The cosine of the angle between vectors along `axis` (default 1), which is gone, after both are broadcast: a · b / (max(‖a‖, eps) · max(‖b‖,
 * eps)) with `eps` 1e-8 by default.
 */
export function cosineSimilarity(a: Tensor, b: Tensor, axis = 1, o: { eps?: number } = {}): Tensor {
  checkTensors('cosineSimilarity', a, b);
  checkOptions('cosineSimilarity', o, { eps: anEps });
  const { eps = 1e-8 } = o;
  const shape = broadcastShapes('cosineSimilarity', a.shape, b.shape);
  const at = normalizeAxis('cosineSimilarity', axis, shape.length);
  return owningIntermediates(() => {
    const [x, y] = floats(a, b).map(one => expand(one, shape)) as [Tensor, Tensor];
    const unit = (one: Tensor) => div(one, maximum(norm(one, at, { keepdim: true }), eps));
    return sum(mul(unit(x), unit(y)), at);
  });
}

/** x / max(‖x‖, eps) along `axis` (default 1), for the norm of order `p` (default 2); `eps` defaults to 1e-12. */
export function normalize(x: Tensor, axis = 1, o: { p?: number; eps?: number } = {}): Tensor {
  checkTensors('normalize', x);
  checkOptions('normalize', o, { p: aNormOrder, eps: anEps });
  const at = normalizeAxis('normalize', axis, x.rank) - x.rank;
  return owningIntermediates(() => {
    const floating = cast(x, toFloat(x.dtype));
    return div(floating, maximum(pNorm(floating, o.p ?? 2, at), o.eps ?? 1e-12));
  });
}
