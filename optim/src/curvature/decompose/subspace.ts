/**
 * Eigenvectors that follow a factor from refresh to refresh, out of products: each step multiplies them by the factor and makes them
 * orthonormal again, as SOAP does (Vyas et al. 2025, §3: one step of the power method and a QR decomposition).
 *
 * QR by the Gram matrix of A U alone squares the condition of A, which float32 has no digits for. Here it is that of correlations: with
 * B = Uᵀ A U, its diagonal D in descending order and C = D^-½ B D^-½ = M Mᵀ, the columns of B and those of D^½ M D^-½ span the same
 * spaces, the first k of them for each k. That matrix is triangular, with elements of at most 1, and its condition is of the order of that
 * of M, which a share of the identity that is added to C bounds.
 */

import { arange, eye, full, gram, notDifferentiable, scope, type Tensor, where } from '@otimes/core';
import { aCount, checkOptions, defineBuiltIn, orNull } from '@otimes/core/extend';
import { type BasisTracker, diagonal, diagonalIn } from '../basis.ts';
import { roundingOf } from '../nulls.ts';
import { cholesky, type Pivots } from './triangular.ts';

export type SubspaceOptions = {
  /** Steps a refresh. Default 1. */
  steps?: number;
  /**
   * Steps from the identity, 8 say, in the place of `eigh` for the first basis of a layer, which takes long where factors are large.
   * Default null: `eigh`.
   */
  firstSteps?: number | null;
};

/** Added to the correlations. It slows a step by 1 %, and bounds every pivot from below. */
const CORRELATIONS: Pivots = { shift: 0.01, least: 0.005 };
/** Added to the Gram matrix, whose pivots are far larger; what that bends, `straightened` makes right. */
const GRAM: Pivots = { shift: 2 ** -22, least: 2 ** -22 };
/** Of what rounding may leave of a zero eigenvalue: the norm of a whole matrix of such numbers is larger. */
const NOISE = 4;

/**
 * Lets a Kronecker optimizer follow its eigenbases instead of computing them anew: `new STEVE(model, { eigensolver: subspaceIteration() })`.
 * The first basis comes from `eigh` unless `firstSteps` says otherwise. A refresh takes some 12 products of the factor's size on its device, and on a device that is read
 * with await nothing waits for it. Columns are in descending order of what their eigenvalues were before the last step.
 */
export function subspaceIteration(o: SubspaceOptions = {}): BasisTracker {
  checkOptions<SubspaceOptions>('subspaceIteration', o, { steps: aCount, firstSteps: orNull(aCount) });
  const { steps = 1, firstSteps = null } = o;
  const follow = (factor: Tensor, U: Tensor, times = steps): Tensor => {
    let V = U;
    for (let i = 0; i < times; i++) V = scope(() => stepped(factor, V));
    return V;
  };
  if (firstSteps === null) return { follow: (factor, U) => follow(factor, U) };
  return {
    follow: (factor, U) => follow(factor, U),
    begin: factor => follow(factor, identityOf(factor), firstSteps),
  };
}

const identityOf = ({ shape, dtype, device }: Tensor): Tensor => eye(shape[0]!, { dtype, device });

function stepped(A: Tensor, U: Tensor): Tensor {
  const n = U.shape[1]!;
  const AU = A.matmul(U);
  const diagonalOf = (x: Tensor) => U.mul(x).sum(0);
  // What makes B positive definite, whatever rounding has left of it.
  const rounding = NOISE * roundingOf(A.dtype, n);
  const noise = diagonalIn(U, diagonal(A)).mul(rounding);
  const d = diagonalOf(AU).maximum(0).add(noise);
  const order = descending(d);
  const [V, AV] = [select([U, order], 1), select([AU, order], 1)];
  const sorted = select([d, order], 0);
  // Of a factor without examples, or whose feature was 0 in all of them.
  const r = where(sorted.gt(0), sorted, 1).sqrt();
  const correlations = V.transpose().matmul(AV).div(r.unsqueeze(1)).div(r);
  diagonal(correlations).copy_(full([], 1, { dtype: A.dtype, device: A.device }));
  const W = cholesky(correlations, CORRELATIONS, false).L.mul(r.unsqueeze(1)).div(r);
  return straightened(straightened(V.matmul(W.matmul(cholesky(gram(W), GRAM).inverse.transpose()))));
}

/** V (3 − Vᵀ V) / 2: nearer to orthonormal by the square of what it lacks. */
function straightened(V: Tensor): Tensor {
  return V.matmul(gram(V)).addScaled_(V, 1.5, -0.5);
}

/** `indexSelect` of positions that need no check. */
const select = defineBuiltIn<number>({
  name: 'indexSelect',
  shape: ([x]) => ({ shape: x!.shape, dtype: x!.dtype }),
  forward: (backend, [x, order], out, axis) => backend.indexSelect(x!, axis, order!, out),
  backward: notDifferentiable,
});

const onDevice = defineBuiltIn<null>({
  name: 'descending',
  shape: ([x]) => ({ shape: x!.shape, dtype: 'int32' }),
  forward: (backend, [x], out) => backend.descending!(x!, out),
  backward: notDifferentiable,
});

/** 0 … n − 1 as numbers like those of A [n, n]. */
const places = ({ shape, dtype, device }: Tensor): Tensor => arange(0, shape[0]!, 1, { dtype, device });

/** The positions of d's elements in descending order, int32 [n]; of equals the first one first. Every position is one of 0 … n − 1. */
function descending(d: Tensor): Tensor {
  if (d.storage.backend.descending !== undefined) return onDevice([d], null);
  const at = places(d);
  const [own, other] = [d.unsqueeze(1), d];
  const isBefore = other.gt(own).logicalOr(other.eq(own).logicalAnd(at.lt(at.unsqueeze(1))));
  const rank = isBefore.astype(d.dtype).sum(1);
  const order = where(rank.unsqueeze(1).eq(at), at.unsqueeze(1), 0).sum(0);
  return order.clamp(0, d.size - 1).astype('int32');
}
