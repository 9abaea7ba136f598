/** The Kronecker-factored eigenbasis (KFE): A = UA diag(sA) UAᵀ, G = UG diag(sG) UGᵀ (George et al. 2018, §3). */

import { scope, type Tensor, tensor, where } from '@otimes/core';
import { eigh } from '@otimes/linalg';
import type ndarray from 'ndarray';

/** Eigenvalues [n] and eigenvectors [n, n] in columns of a symmetric matrix [n, n]. */
export type Eigensolver = (matrix: ndarray.NdArray) => { values: ndarray.NdArray; vectors: ndarray.NdArray };

/** `eigh` of @otimes/linalg; float64 inside. */
export const defaultEigensolver: Eigensolver = eigh;

/** Both bases, eigenvectors in columns, and the eigenvalues, clamped to ≥ 0, in the dtype of the factors. */
export class Kfe {
  readonly UA: Tensor;
  readonly UG: Tensor;
  readonly sA: Tensor;
  readonly sG: Tensor;

  constructor({ UA, UG, sA, sG }: { UA: Tensor; UG: Tensor; sA: Tensor; sG: Tensor }) {
    this.UA = UA;
    this.UG = UG;
    this.sA = sA;
    this.sG = sG;
  }

  static of(A: Tensor, G: Tensor, solve: Eigensolver): Kfe {
    const [a, g] = [decompose(A, solve), decompose(G, solve)];
    return new Kfe({ UA: a.vectors, sA: a.values, UG: g.vectors, sG: g.values });
  }

  /** D̃ = UGᵀ D UA for D [dOut, dIn]. */
  project(D: Tensor): Tensor {
    return scope(() => this.UG.transpose().matmul(D).matmul(this.UA));
  }

  /** D = UG D̃ UAᵀ. */
  unproject(projected: Tensor): Tensor {
    return scope(() => this.UG.matmul(projected).matmul(this.UA.transpose()));
  }

  /** sG sAᵀ: the eigenvalues of A ⊗ G as a matrix [dOut, dIn]. */
  eigenvalues(): Tensor {
    return outer(this.sG, this.sA);
  }

  /**
   * `projected` with 0 in every coordinate whose sA or sG is at most `tolerance` times the largest: such an
   * eigenvalue is rounding noise, and a normalised update would amplify the noise to full length.
   */
  maskNull(projected: Tensor, tolerance: number): Tensor {
    const alive = (s: Tensor) => s.gt(s.max().mul(tolerance));
    return where(alive(this.sG).unsqueeze(1).logicalAnd(alive(this.sA)), projected, 0);
  }
}

/** The matrix x yᵀ. */
export function outer(x: Tensor, y: Tensor): Tensor {
  return x.unsqueeze(1).mul(y);
}

function decompose(factor: Tensor, solve: Eigensolver): { values: Tensor; vectors: Tensor } {
  const { values, vectors } = solve(factor.to('cpu').astype('float64').ndarray());
  const back = (x: ndarray.NdArray) => tensor(x).astype(factor.dtype).to(factor.device);
  return { values: back(values).clamp(0), vectors: back(vectors) };
}
