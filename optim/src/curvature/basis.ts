/** The Kronecker-factored eigenbasis (KFE): A = UA diag(sA) UAᵀ, G = UG diag(sG) UGᵀ (George et al. 2018, §3). */

import { ShapeError, scope, Tensor, tensor, where } from '@otimes/core';
import {
  aCount,
  aFunction,
  type BadValue,
  checkArgument,
  checkFinite,
  checkTensors,
  dropPromise,
  isPlainObject,
  type Kind,
  precisely,
  readsLater,
} from '@otimes/core/extend';
import { eigh } from '@otimes/linalg';
import type ndarray from 'ndarray';
import { NullSpace } from './nulls.ts';
import { Side } from './side.ts';

/** Eigenvalues [n] and eigenvectors [n, n] in columns of a symmetric matrix [n, n]. */
export type Eigensolver = (matrix: ndarray.NdArray) => { values: ndarray.NdArray; vectors: ndarray.NdArray };

/** Follows eigenvectors from refresh to refresh instead of computing them anew, by tensor operations; `subspaceIteration` makes one. */
export interface BasisTracker {
  /**
   * An orthonormal matrix [n, n] whose columns are nearer to eigenvectors of `factor` [n, n] than those of U [n, n], which is
   * orthonormal. Both are on one device, which may be one whose values have to be awaited.
   */
  follow(factor: Tensor, U: Tensor): Tensor;
  /** The same of a factor that has no basis yet. Without it the first one comes from `eigh`. */
  begin?(factor: Tensor): Tensor;
}

/** `eigh` of @otimes/linalg; float64 inside. */
export const defaultEigensolver: Eigensolver = eigh;

/** Eigenvectors in columns, null for the identity; eigenvalues ≥ 0; and n_j = Σ_k U_kj² F_kk of the factor F. */
export type Decomposition = { readonly U: Tensor | null; readonly s: Tensor; readonly n: Tensor };

const aDecomposition: Kind = {
  expected: '{ U, s, n }, tensors of which U may be null; Kfe.of makes a basis of factors',
  is: v =>
    isPlainObject(v) && (v.U === null || v.U instanceof Tensor) && v.s instanceof Tensor && v.n instanceof Tensor,
};

/** Sizes of both sides. */
export const twoSizes: Kind = {
  expected: 'two counts [dOut, dIn]',
  is: v => Array.isArray(v) && v.length === 2 && v.every(aCount.is),
};

/**
 * How the coordinates of one basis become those of another: RA = UA_oldᵀ UA_new [dIn, dIn] and RG = UG_oldᵀ UG_new [dOut, dOut]; null
 * for a side where nothing turns. `rotate` and `rotateSquares` apply it.
 */
export type Rotation = { readonly RA: Tensor | null; readonly RG: Tensor | null };

/**
 * Both bases and the eigenvalues, in the dtype of the factors. On a device that is read with await it comes from `on`, and who
 * wants to know values asks `host`; or it was followed there, and nobody knows them at once.
 */
export class Kfe {
  readonly UA: Tensor | null;
  readonly UG: Tensor | null;
  readonly sA: Tensor;
  readonly sG: Tensor;
  /** n_j = Σ_k U_kj² F_kk of both factors: in units of it rounding blurs the eigenvalues; see `NullSpace`. */
  readonly nA: Tensor;
  readonly nG: Tensor;
  #host: Kfe | null = null;
  #nulls: { readonly space: NullSpace | null } | null = null;
  #eigenvalues: Tensor | null = null;
  #alive: { tolerance: number; mask: Tensor | null } | null = null;

  constructor(A: Decomposition, G: Decomposition) {
    checkArgument('Kfe', 'A', A, aDecomposition);
    checkArgument('Kfe', 'G', G, aDecomposition);
    this.UA = A.U;
    this.UG = G.U;
    this.sA = A.s;
    this.sG = G.s;
    this.nA = A.n;
    this.nG = G.n;
  }

  /**
   * The basis of A [dIn, dIn] and G [dOut, dOut], symmetric, of which `solve` decomposes copies in float64; of rank 0 a side is a
   * multiple of the identity. Negative eigenvalues become 0.
   *
   * @param sizes [dOut, dIn]
   */
  static of(A: Tensor, G: Tensor, solve: Eigensolver, sizes: readonly [number, number]): Kfe {
    checkTensors('Kfe.of', A, G);
    checkArgument('Kfe.of', 'solve', solve, aFunction);
    checkArgument('Kfe.of', 'sizes', sizes, twoSizes);
    return new Kfe(decompose('A', A, solve, sizes[1]), decompose('G', G, solve, sizes[0]));
  }

  get sides(): { readonly A: Side; readonly G: Side } {
    const side = (U: Tensor | null, { size }: Tensor) => (U === null ? Side.identity(size) : Side.exact(size));
    return { A: side(this.UA, this.sA), G: side(this.UG, this.sG) };
  }

  /** Marks its tensors: they outlive scopes. */
  keep(): void {
    for (const x of [this.UA, this.UG, this.sA, this.sG, this.nA, this.nG]) x?.keep();
  }

  /** The same basis on another device. `this` stays its host, and is kept. */
  on(device: string): Kfe {
    this.keep();
    const there = (U: Tensor | null, s: Tensor, n: Tensor): Decomposition => ({
      U: U?.to(device) ?? null,
      s: s.to(device),
      n: n.to(device),
    });
    const kfe = new Kfe(there(this.UA, this.sA, this.nA), there(this.UG, this.sG, this.nG));
    kfe.#host = this;
    return kfe;
  }

  /** The basis whose values can be read at once; this one unless it comes from `on`. What was followed has none but itself. */
  get host(): Kfe {
    return this.#host ?? this;
  }

  /** D̃ = UGᵀ D UA for D [dOut, dIn]. */
  project(D: Tensor): Tensor {
    return between(this.UG?.transpose() ?? null, D, this.UA);
  }

  /** D = UG D̃ UAᵀ. */
  unproject(projected: Tensor): Tensor {
    return between(this.UG, projected, this.UA?.transpose() ?? null);
  }

  /** (UG∘UG) V (UA∘UA)ᵀ: variances V of coordinates, were they uncorrelated, as variances of the elements of D. */
  unprojectSquares(V: Tensor): Tensor {
    return between(this.UG?.square() ?? null, V, this.UA?.square().transpose() ?? null);
  }

  /** The null directions of both sides; null where there are none. */
  get nullSpace(): NullSpace | null {
    this.#nulls ??= {
      space:
        this.#host === null
          ? NullSpace.of({ s: this.sA, n: this.nA }, { s: this.sG, n: this.nG })
          : (this.#host.nullSpace?.on(this.sA.device) ?? null),
    };
    return this.#nulls.space;
  }

  /** From the coordinates of this basis to those of `next`. */
  rotationTo(next: Kfe): Rotation {
    const turn = (from: Tensor | null, to: Tensor | null) =>
      from === null || to === null ? null : precisely(() => from.transpose().matmul(to));
    return { RA: turn(this.UA, next.UA), RG: turn(this.UG, next.UG) };
  }

  /** sG sAᵀ: the eigenvalues of A ⊗ G as a matrix [dOut, dIn]. */
  eigenvalues(): Tensor {
    this.#eigenvalues ??= outer(this.sG, this.sA).keep();
    return this.#eigenvalues;
  }

  /**
   * `projected` with 0 in every coordinate whose sA or sG is at most `tolerance` times the largest: such an
   * eigenvalue is rounding noise, and a normalised update would amplify the noise to full length.
   */
  maskNull(projected: Tensor, tolerance: number): Tensor {
    const mask = this.aliveAbove(tolerance);
    return mask === null ? projected : where(mask, projected, 0);
  }

  /** The coordinates that `maskNull` leaves, bool [dOut, dIn]; null for all. */
  aliveAbove(tolerance: number): Tensor | null {
    if (this.#alive?.tolerance !== tolerance) {
      const mask =
        this.#host === null
          ? this.#aliveAbove(tolerance)
          : (this.#host.aliveAbove(tolerance)?.to(this.sA.device).keep() ?? null);
      this.#alive = { tolerance, mask };
    }
    return this.#alive!.mask;
  }

  #aliveAbove(tolerance: number): Tensor | null {
    const alive = (s: Tensor) => s.gt(s.max().mul(tolerance));
    const mask = alive(this.sG).unsqueeze(1).logicalAnd(alive(this.sA)).keep();
    return !readsLater(mask) && mask.astype('float32').sum().item() === mask.size ? null : mask;
  }
}

/**
 * RGᵀ X RA: a matrix X [dOut, dIn] in the coordinates of the old basis, such as a momentum, in those of the new one. Exact; a new
 * tensor. For second moments there is `rotateSquares`.
 */
export function rotate(X: Tensor, rotation: Rotation): Tensor {
  const { RA, RG } = checkedRotation('rotate', X, rotation);
  return between(RG?.transpose() ?? null, X, RA);
}

/**
 * (RG∘RG)ᵀ V (RA∘RA): what second moments V [dOut, dIn] of the old coordinates become in the new ones if the old were uncorrelated. They
 * stay ≥ 0 and keep their sum; a new tensor.
 */
export function rotateSquares(V: Tensor, rotation: Rotation): Tensor {
  const { RA, RG } = checkedRotation('rotateSquares', V, rotation);
  return between(RG?.square().transpose() ?? null, V, RA?.square() ?? null);
}

/** Throws unless X is a matrix, and the rotation has a square matrix or null for each of its sides. */
function checkedRotation(op: string, X: Tensor, rotation: Rotation): Rotation {
  checkArgument(op, 'its matrix', X, aMatrix);
  const isSide = (R: unknown, n: number) => R === null || (aMatrix.is(R) && (R as Tensor).shape.every(m => m === n));
  const [dOut, dIn] = X.shape as [number, number];
  const expected = `{ RA, RG }, with RA [${dIn},${dIn}] or null and RG [${dOut},${dOut}] or null`;
  const is = (v: unknown) =>
    typeof v === 'object' && v !== null && isSide(Reflect.get(v, 'RA'), dIn) && isSide(Reflect.get(v, 'RG'), dOut);
  checkArgument(op, 'the rotation', rotation, { expected, is });
  return rotation;
}

const aMatrix: Kind = { expected: 'a matrix [dOut, dIn]', is: v => v instanceof Tensor && v.rank === 2 };

/** left · X · right, null for an identity; a new tensor also where both are. */
function between(left: Tensor | null, X: Tensor, right: Tensor | null): Tensor {
  if (left === null && right === null) return X.clone();
  return precisely(() =>
    scope(() => {
      const half = left === null ? X : left.matmul(X);
      return right === null ? half : half.matmul(right);
    }),
  );
}

/** The matrix x yᵀ. */
export function outer(x: Tensor, y: Tensor): Tensor {
  return x.unsqueeze(1).mul(y);
}

/** Of a side that is given by its mean eigenvalue alone: that stands for a multiple of the identity. */
export function decomposeMean(mean: Tensor, size: number): Decomposition {
  const s = mean.reshape([1]).expand([size]).clone();
  return { U: null, s, n: s };
}

/** U of a factor, its eigenvalues (negative ones become 0), and n from the factor's diagonal. */
export function decomposition(U: Tensor, values: Tensor, diagonal: Tensor): Decomposition {
  return { U, s: values.clamp(0), n: diagonalIn(U, diagonal) };
}

/** n_j = Σ_k U_kj² F_kk of a factor's diagonal [n]. */
export function diagonalIn(U: Tensor, diagonal: Tensor): Tensor {
  return U.square().transpose().matmul(diagonal.unsqueeze(1)).squeeze(1);
}

function decompose(side: 'A' | 'G', factor: Tensor, solve: Eigensolver, size: number): Decomposition {
  if (factor.rank === 0) return decomposeMean(factor, size);
  if (String(factor.shape) !== `${size},${size}`)
    throw new ShapeError(`Kfe.of: expected factor ${side} [${size},${size}], got [${factor.shape}]`);
  const matrix = factor.to('cpu').astype('float64');
  // A copy of the factor itself, because the solver may write to what it is given, and keep it.
  const found = solve((matrix === factor ? matrix.clone() : matrix).ndarray());
  checkSolved('Kfe.of', `factor ${side}`, found, size);
  const { values, vectors } = found;
  const back = (x: ndarray.NdArray) => tensor(x).astype(factor.dtype).to(factor.device);
  // A copy, because tensors over ndarrays share memory with whoever else has the array.
  return decomposition(back(vectors).clone(), back(values), diagonal(factor));
}

/** Throws a TypeError unless an eigensolver returned ndarrays of the right shapes for a matrix [n, n], which `what` names. */
export function checkSolved(name: string, what: string, found: ReturnType<Eigensolver>, n: number): void {
  for (const [part, shape] of [
    ['values', [n]],
    ['vectors', [n, n]],
  ] as const) {
    const came = found?.[part]?.shape;
    if (String(came) !== String(shape)) {
      dropPromise(found);
      throw new TypeError(
        `${name}: the eigensolver must return { values [${n}], vectors [${n},${n}] } as ndarrays for the ` +
          `${what}; ${part} is ${came === undefined ? 'no ndarray' : `[${came}]`}`,
      );
    }
  }
}

/** Throws `error` for a factor that is not finite. Of a Gram matrix |x_ij| ≤ √(x_ii x_jj), so that its diagonal tells. */
export function checkFactor(factor: Tensor, error: BadValue): void {
  const down = factor.rank === 0 ? 0 : factor.shape[0]! + 1;
  checkFinite(diagonal(factor), (i, value) => error(i * down, value));
}

/** Of a matrix; a mean eigenvalue is its own. */
export function diagonal(factor: Tensor): Tensor {
  return factor.rank === 0 ? factor : factor.reshape([-1]).slice([null, null, factor.shape[0]! + 1]);
}
