/** The Kronecker-factored eigenbasis (KFE): A = UA diag(sA) UAᵀ, G = UG diag(sG) UGᵀ (George et al. 2018, §3). */

import { ones, ShapeError, scope, Tensor, tensor, where } from '@otimes/core';
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
import { Side, type Spectrum } from './side.ts';

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

/**
 * Eigenvectors in columns, packed as their `Side` says, null for the identity; eigenvalues ≥ 0; and n_j = Σ_k U_kj² F_kk of the factor F.
 */
export type Decomposition = Spectrum & { readonly U: Tensor | null };

/** Makes the basis of a block [dOut, dIn] that never gets another one, where `like` lies; of identities, that is U of null. */
export type FixedBasis = (sizes: readonly [number, number], like: Tensor) => Kfe;

/** The sides of a block. */
export type Sides = { readonly A: Side; readonly G: Side };

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
 * How the coordinates of one basis become those of another: RA = UA_oldᵀ UA_new [dIn, dIn] and RG = UG_oldᵀ UG_new [dOut, dOut], packed
 * as `sides` say, which are exact where there are none; null for a side where nothing turns. `rotate` and `rotateSquares` apply it.
 */
export type Rotation = { readonly RA: Tensor | null; readonly RG: Tensor | null; readonly sides?: Sides | undefined };

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
  /** How UA and UG are packed; exact unless given, or the identity where there is none. */
  readonly sides: Sides;
  #host: Kfe | null = null;
  #nulls: { readonly space: NullSpace | null } | null = null;
  #eigenvalues: Tensor | null = null;
  #alive: { readonly tolerance: number; readonly A: Tensor; readonly G: Tensor; readonly all: boolean } | null = null;

  constructor(A: Decomposition, G: Decomposition, sides?: Sides) {
    checkArgument('Kfe', 'A', A, aDecomposition);
    checkArgument('Kfe', 'G', G, aDecomposition);
    this.UA = A.U;
    this.UG = G.U;
    this.sA = A.s;
    this.sG = G.s;
    this.nA = A.n;
    this.nG = G.n;
    this.sides = sides ?? { A: sideOf(A), G: sideOf(G) };
  }

  /**
   * The basis of A [dIn, dIn] and G [dOut, dOut], symmetric, of which `solve` decomposes copies in float64; of rank 0 a side is a
   * multiple of the identity. Negative eigenvalues become 0.
   *
   * @param sizes [dOut, dIn]
   * @param sides how the factors are packed, where they are: `solve` gets the matrices of A, then those of G, but none of one element
   */
  static of(A: Tensor, G: Tensor, solve: Eigensolver, sizes: readonly [number, number], sides?: Sides): Kfe {
    checkTensors('Kfe.of', A, G);
    checkArgument('Kfe.of', 'solve', solve, aFunction);
    checkArgument('Kfe.of', 'sizes', sizes, twoSizes);
    const of = sides ?? sidesOf(A, G, sizes);
    return new Kfe(decompose('A', A, solve, of.A), decompose('G', G, solve, of.G), of);
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
    const kfe = new Kfe(there(this.UA, this.sA, this.nA), there(this.UG, this.sG, this.nG), this.sides);
    kfe.#host = this;
    return kfe;
  }

  /** The basis whose values can be read at once; this one unless it comes from `on`. What was followed has none but itself. */
  get host(): Kfe {
    return this.#host ?? this;
  }

  /** Whether the other basis has the same eigenvectors as this one, if that has any, and maybe other eigenvalues. */
  turnsAs(other: Kfe): boolean {
    return (this.UA !== null || this.UG !== null) && this.UA === other.UA && this.UG === other.UG;
  }

  /** D̃ = UGᵀ D UA for D [dOut, dIn]. */
  project(D: Tensor): Tensor {
    return turned(this.sides, D, this.UG, this.UA);
  }

  /** D = UG D̃ UAᵀ. */
  unproject(projected: Tensor): Tensor {
    return turnedBack(this.sides, projected, this.UG, this.UA);
  }

  /** (UG∘UG) V (UA∘UA)ᵀ: variances V of coordinates, were they uncorrelated, as variances of the elements of D. */
  unprojectSquares(V: Tensor): Tensor {
    return turnedBack(this.sides, V, this.UG?.square() ?? null, this.UA?.square() ?? null);
  }

  /** The null directions of both sides; null where there are none. */
  get nullSpace(): NullSpace | null {
    this.#nulls ??= {
      space:
        this.#host === null
          ? NullSpace.of({ s: this.sA, n: this.nA }, { s: this.sG, n: this.nG }, this.sides)
          : (this.#host.nullSpace?.on(this.sA.device) ?? null),
    };
    return this.#nulls.space;
  }

  /** From the coordinates of this basis to those of `next`, which has the same sides. */
  rotationTo(next: Kfe): Rotation {
    const { sides } = this;
    const turn = (side: Side, from: Tensor | null, to: Tensor | null) =>
      from === null || to === null ? null : precisely(() => scope(() => side.rotation(from, to)));
    return { RA: turn(sides.A, this.UA, next.UA), RG: turn(sides.G, this.UG, next.UG), sides };
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

  /** The coordinates that `maskNull` leaves, bool [dOut, dIn], made anew; null for all. */
  aliveAbove(tolerance: number): Tensor | null {
    if (this.#alive?.tolerance !== tolerance) {
      const alive = (s: Tensor) => s.gt(s.max().mul(tolerance));
      const isAll = (s: Tensor) => !readsLater(s) && alive(s).astype('float32').sum().item() === s.size;
      const all = isAll(this.host.sA) && isAll(this.host.sG);
      this.#alive = { tolerance, A: alive(this.sA).keep(), G: alive(this.sG).keep(), all };
    }
    const { A, G, all } = this.#alive!;
    return all ? null : G.unsqueeze(1).logicalAnd(A);
  }
}

/** Of a side that nobody says anything of. */
const sideOf = ({ U, s }: Decomposition): Side => (U === null ? Side.identity(s.size) : Side.exact(s.size));

/** Of factors that are matrices or mean eigenvalues; [dOut, dIn]. */
export function sidesOf(A: Tensor, G: Tensor, [dOut, dIn]: readonly [number, number]): Sides {
  const side = (factor: Tensor, n: number) => (factor.rank === 0 ? Side.identity(n) : Side.exact(n));
  return { A: side(A, dIn), G: side(G, dOut) };
}

/**
 * RGᵀ X RA: a matrix X [dOut, dIn] in the coordinates of the old basis, such as a momentum, in those of the new one. Exact; a new
 * tensor. For second moments there is `rotateSquares`.
 */
export function rotate(X: Tensor, rotation: Rotation): Tensor {
  const { RA, RG, sides } = checkedRotation('rotate', X, rotation);
  return turned(sides, X, RG, RA);
}

/**
 * (RG∘RG)ᵀ V (RA∘RA): what second moments V [dOut, dIn] of the old coordinates become in the new ones if the old were uncorrelated. They
 * stay ≥ 0 and keep their sum; a new tensor.
 */
export function rotateSquares(V: Tensor, rotation: Rotation): Tensor {
  const { RA, RG, sides } = checkedRotation('rotateSquares', V, rotation);
  return turned(sides, V, RG?.square() ?? null, RA?.square() ?? null);
}

/** Throws unless X is a matrix, and the rotation has for each of its sides what that packs, or null. */
function checkedRotation(op: string, X: Tensor, rotation: Rotation): Required<Rotation> & { readonly sides: Sides } {
  checkArgument(op, 'its matrix', X, aMatrix);
  const [dOut, dIn] = X.shape as [number, number];
  const given: unknown = typeof rotation === 'object' && rotation !== null ? Reflect.get(rotation, 'sides') : undefined;
  if (given !== undefined) checkArgument(op, "the rotation's sides", given, twoSides);
  const shapes = [given ? (given as Sides).A.shape : [dIn, dIn], given ? (given as Sides).G.shape : [dOut, dOut]];
  const isSide = (R: unknown, shape: readonly number[]) =>
    R === null || (R instanceof Tensor && String(R.shape) === String(shape));
  const expected = `{ RA, RG }, with RA [${shapes[0]}] or null and RG [${shapes[1]}] or null`;
  const is = (v: unknown) =>
    typeof v === 'object' &&
    v !== null &&
    isSide(Reflect.get(v, 'RA'), shapes[0]!) &&
    isSide(Reflect.get(v, 'RG'), shapes[1]!);
  checkArgument(op, 'the rotation', rotation, { expected, is });
  const { RA, RG } = rotation;
  return { RA, RG, sides: rotation.sides ?? { A: Side.exact(dIn), G: Side.exact(dOut) } };
}

const aMatrix: Kind = { expected: 'a matrix [dOut, dIn]', is: v => v instanceof Tensor && v.rank === 2 };
const twoSides: Kind = {
  expected: '{ A, G } of two sides',
  is: v => isPlainObject(v) && v.A instanceof Side && v.G instanceof Side,
};

/** UGᵀ X UA, null for an identity; a new tensor also where both are. */
function turned({ A, G }: Sides, X: Tensor, UG: Tensor | null, UA: Tensor | null): Tensor {
  if (UG === null && UA === null) return X.clone();
  return precisely(() => scope(() => A.turn(G.turnColumns(X, UG), UA)));
}

/** UG X UAᵀ. */
function turnedBack({ A, G }: Sides, X: Tensor, UG: Tensor | null, UA: Tensor | null): Tensor {
  if (UG === null && UA === null) return X.clone();
  return precisely(() => scope(() => A.turnBack(G.turnColumnsBack(X, UG), UA)));
}

/** The matrix x yᵀ. */
export function outer(x: Tensor, y: Tensor): Tensor {
  return x.unsqueeze(1).mul(y);
}

/** Of a side that does not turn: its mean eigenvalue stands for a multiple of the identity, or its diagonal for itself. */
export function decomposeStill({ n: size, isIdentity }: Side, factor: Tensor): Decomposition {
  const s = isIdentity ? factor.reshape([1]).expand([size]).clone() : factor.clamp(0);
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

/** Whether an eigensolver is asked for a matrix [n, n] of a side: not for a part of one element. */
export const isSolved = (side: Side, n: number): boolean => n > 1 || side.isExact;

/** Of the part F [1, 1] of a factor. */
export function decomposeOne(F: Tensor): Decomposition {
  const s = F.reshape([1]);
  return { U: ones([1, 1], { dtype: F.dtype, device: F.device }), s: s.clamp(0), n: s.clone() };
}

/** Of a side, from those of its matrices in their order. */
export function joined(side: Side, of: readonly Decomposition[]): Decomposition {
  if (side.isExact) return of[0]!;
  return { U: side.pack(of.map(({ U }) => U!)), ...side.spectrum(of) };
}

function decompose(name: 'A' | 'G', factor: Tensor, solve: Eigensolver, side: Side): Decomposition {
  if (String(factor.shape) !== String(side.shape))
    throw new ShapeError(`Kfe.of: expected factor ${name} [${side.shape}], got [${factor.shape}]`);
  if (!side.turns) return decomposeStill(side, factor);
  const one = (F: Tensor): Decomposition => {
    const n = F.shape[0]!;
    if (!isSolved(side, n)) return decomposeOne(F);
    const matrix = F.to('cpu').astype('float64');
    // A copy of the factor itself, because the solver may write to what it is given, and keep it.
    const found = solve((matrix === F ? matrix.clone() : matrix).ndarray());
    checkSolved('Kfe.of', `factor ${name}`, found, n);
    const { values, vectors } = found;
    const back = (x: ndarray.NdArray) => tensor(x).astype(F.dtype).to(F.device);
    // A copy, because tensors over ndarrays share memory with whoever else has the array.
    return decomposition(back(vectors).clone(), back(values), diagonal(F));
  };
  return joined(side, side.matrices(factor).map(one));
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
  // Parts in one row, which are small.
  if (factor.rank === 1) return checkFinite(factor, error);
  const down = factor.rank === 0 ? 0 : factor.shape[0]! + 1;
  checkFinite(diagonal(factor), (i, value) => error(i * down, value));
}

/** Of a matrix; a diagonal or a mean eigenvalue is its own. */
export function diagonal(factor: Tensor): Tensor {
  return factor.rank < 2 ? factor : factor.reshape([-1]).slice([null, null, factor.shape[0]! + 1]);
}
