/** Algebra of two factors, each a matrix or, with rank 1, a diagonal or, with rank 0, a multiple of the identity. */

import { eye, noGrad, type Tensor, tensor, unscoped, where } from '@otimes/core';
import { precisely } from '@otimes/core/extend';
import { inverse } from '@otimes/linalg';
import { diagonal, type Sides } from './basis.ts';
import { Side } from './side.ts';

/** A [dIn, dIn] and G [dOut, dOut], symmetric; [dIn] or [dOut] of a diagonal one; of rank 0 the mean eigenvalue of a side at the identity. */
export type OperatorFactors = { readonly A: Tensor; readonly G: Tensor };

/** Of factors that are matrices, diagonals [n] or mean eigenvalues; [dOut, dIn]. */
export function sidesOf({ A, G }: OperatorFactors, [dOut, dIn]: readonly [number, number]): Sides {
  const side = ({ rank }: Tensor, n: number) =>
    rank === 0 ? Side.identity(n) : rank === 1 ? Side.diagonal(n) : Side.exact(n);
  return { A: side(A, dIn), G: side(G, dOut) };
}

/** π√λ for A and √λ/π for G, of the mean eigenvalues of both; π is 1 where a factor is 0. */
export function splitOf(meanA: Tensor, meanG: Tensor, damping: number): [Tensor, Tensor] {
  const ratio = meanA.div(meanG).sqrt();
  const pi = where(ratio.gt(0).logicalAnd(ratio.isFinite()), ratio, 1);
  const root = Math.sqrt(damping);
  return [pi.mul(root), pi.reciprocal().mul(root)];
}

/** (x + shift · 1)⁻¹; of a diagonal that, and of a mean eigenvalue that of the multiple of the identity. */
export function inverseOf(x: Tensor, shift: Tensor): Tensor {
  if (x.rank < 2) return x.add(shift).reciprocal();
  const damped = x.add(eye(x.shape[0]!, { dtype: x.dtype, device: x.device }).mul(shift));
  return tensor(inverse(damped.to('cpu').ndarray())).to(x.device);
}

/** G X A, where a factor of rank 1 is a diagonal and one of rank 0 a multiple of the identity. */
export function between({ A, G }: OperatorFactors, X: Tensor): Tensor {
  return precisely(() => {
    const half = G.rank === 2 ? G.matmul(X) : X.mul(G.reshape([-1, 1]));
    return A.rank === 2 ? half.matmul(A) : half.mul(A);
  });
}

export const traceOf = (x: Tensor, n: number): Tensor => (x.rank === 0 ? x.mul(n) : diagonal(x).sum());

/** [n], of a diagonal and of a mean eigenvalue too. */
export const diagonalOf = (x: Tensor, n: number): Tensor => (x.rank === 0 ? x.expand([n]) : diagonal(x));

/** What is made unrecorded, and outlives whatever scope is open. */
export const lasting = <T>(make: () => T): T => unscoped(() => noGrad(make));

export const copyOf = (x: Tensor): Tensor => lasting(() => x.detach().clone());
