/**
 * The null directions of an eigenbasis: eigenvectors that the factor's examples never had a part in. What stands there is
 * rounding noise, and which vectors span that space is arbitrary.
 *
 * A factor is a sum of products in its own dtype, so an eigenvalue s_j of direction u_j is known to a multiple of ε n_j
 * alone, n_j = Σ_k U_kj² F_kk. That tells noise from small features, which no share of the largest eigenvalue does: beside a
 * column of thousands a feature of size 1 has a tiny s_j, and an n_j as small.
 */

import { type DType, type Tensor, where } from '@otimes/core';
import { readsLater } from '@otimes/core/extend';
import type { Scalar } from './scalar.ts';
import type { Spectrum } from './spectrum.ts';

/** Of n_j, in units of ε. Rounding left up to 17 of a factor of 785, and 0.6 √n of larger ones. */
const NOISE = 30;
/** Of the largest eigenvalue: what the decomposition itself, in float64, leaves. */
const DECOMPOSED = 1e-14;

/**
 * The null directions of one side, as rows or columns: which they are, how many, and 1 / count in them, 0 elsewhere. Where nothing turns
 * they are coordinates that no choice has a part in, and share is null.
 */
type Nulls = { readonly mask: Tensor; readonly count: Scalar; readonly share: Tensor | null };

/** Which sides turn. */
type Turning = { readonly A: { readonly turns: boolean }; readonly G: { readonly turns: boolean } };

/** What rounding may leave of one side's coordinates, as rows or columns; in `own` less than 0 where a direction is not null. */
type Floor = { readonly all: Tensor; readonly own: Tensor };

export class NullSpace {
  /** How many directions of each side are null. */
  readonly counts: { readonly A: Scalar; readonly G: Scalar };
  readonly #A: Nulls | null;
  readonly #G: Nulls | null;
  /** √nA_j and c ε √nG_i. Nothing of a block's size is kept. */
  readonly #floors: { readonly A: Floor; readonly G: Floor };

  /** Null where no direction is; where values are awaited nobody knows, and there is one, maybe of no direction. */
  static of(A: Spectrum, G: Spectrum, sides?: Turning): NullSpace | null {
    const [a, rows] = [nullSide(A, sides?.A.turns ?? true), nullSide(G, sides?.G.turns ?? true)];
    if (a === null && rows === null) return null;
    const g = rows && { ...rows, mask: rows.mask.unsqueeze(1), share: rows.share?.unsqueeze(0) ?? null };
    const floor = (all: Tensor, nulls: Nulls | null): Floor => {
      all.keep();
      return { all, own: nulls === null ? all : where(nulls.mask, all, -1).keep() };
    };
    const scale = NOISE * epsilon(A.s.dtype);
    return new NullSpace(a && { ...a, share: a.share?.unsqueeze(1) ?? null }, g, {
      A: floor(A.n.sqrt(), a),
      G: floor(G.n.sqrt().mul(scale).unsqueeze(1), g),
    });
  }

  private constructor(A: Nulls | null, G: Nulls | null, floors: { readonly A: Floor; readonly G: Floor }) {
    this.counts = { A: A?.count ?? 0, G: G?.count ?? 0 };
    this.#A = A;
    this.#G = G;
    this.#floors = floors;
  }

  /** The same on another device. */
  on(device: string): NullSpace {
    const there = (x: Tensor) => x.to(device).keep();
    const nulls = (one: Nulls | null): Nulls | null =>
      one && { count: one.count, mask: there(one.mask), share: one.share && there(one.share) };
    const floor = ({ all, own }: Floor): Floor => ({ all: there(all), own: there(own) });
    const { A, G } = this.#floors;
    return new NullSpace(nulls(this.#A), nulls(this.#G), { A: floor(A), G: floor(G) });
  }

  /** bool [dOut, dIn], made anew: the coordinates in a null direction of either side. */
  mask(): Tensor {
    const [a, g] = [this.#A?.mask, this.#G?.mask];
    if (a && g) return g.logicalOr(a);
    const { A, G } = this.#floors;
    // Of one side alone all rows, or all columns, are alike.
    return (a ?? g)!.expand([G.all.shape[0]!, A.all.shape[0]!]).clone();
  }

  /** Which coordinates of X [dOut, dIn] in null directions are no more than rounding could leave, |x_ij| ≤ c ε √(nG_i nA_j). */
  noise(X: Tensor): Tensor {
    const { A, G } = this.#floors;
    // Below 0 in coordinates that are null of neither side.
    const [ofA, ofG] = [this.#A && G.all.mul(A.own), this.#G && G.own.mul(A.all)];
    return X.abs().le(ofA && ofG ? ofA.maximum(ofG) : (ofA ?? ofG)!);
  }

  /**
   * X [dOut, dIn] with its mean over A's null directions in each of them, row by row, and over G's, column by column, of sides that turn: what
   * remains depends on the null spaces, and not on the vectors that span them.
   */
  average(X: Tensor): Tensor {
    let out = X;
    if (this.#A?.share) {
      const { mask, share } = this.#A;
      out = where(mask, out.matmul(share), out);
    }
    if (this.#G?.share) {
      const { mask, share } = this.#G;
      out = where(mask, share.matmul(out), out);
    }
    return out;
  }
}

/** bool [n]: which directions of a side are null. */
export const nullDirections = ({ s, n }: Spectrum): Tensor =>
  s.le(n.mul(roundingOf(s.dtype, s.size)).add(s.max().mul(DECOMPOSED)));

/** What rounding of a dtype may leave of a zero eigenvalue of a factor [n, n], relative to its n_j. */
export const roundingOf = (dtype: DType, n: number): number => Math.max(NOISE, Math.sqrt(n)) * epsilon(dtype);

function nullSide({ s, n }: Spectrum, turns: boolean): Nulls | null {
  const mask = nullDirections({ s, n });
  const found = mask.astype('float32').sum();
  if (readsLater(found)) {
    const share = turns ? mask.astype(s.dtype).div(found.maximum(1)).keep() : null;
    return { mask: mask.keep(), count: found.keep(), share };
  }
  const count = found.item();
  if (count === 0) return null;
  const share = turns
    ? mask
        .astype(s.dtype)
        .mul(1 / count)
        .keep()
    : null;
  return { mask: mask.keep(), count, share };
}

const epsilon = (dtype: DType): number => (dtype === 'float32' ? 2 ** -23 : 2 ** -52);
