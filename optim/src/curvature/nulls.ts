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

/** Of n_j, in units of ε. Rounding left up to 17 of a factor of 785, and 0.6 √n of larger ones. */
const NOISE = 30;
/** Of the largest eigenvalue: what the decomposition itself, in float64, leaves. */
const DECOMPOSED = 1e-14;

/** Eigenvalues s [n] of a factor and its diagonal in the basis, n_j = Σ_k U_kj² F_kk [n]. */
type Spectrum = { readonly s: Tensor; readonly n: Tensor };

/** The null directions of one side, as rows or columns: which they are, how many, and 1 / count in them, 0 elsewhere. */
type Side = { readonly mask: Tensor; readonly count: Scalar; readonly share: Tensor };

export class NullSpace {
  /** How many directions of each side are null. */
  readonly counts: { readonly A: Scalar; readonly G: Scalar };
  /** bool [dOut, dIn]: the coordinates in a null direction of either side. */
  readonly mask: Tensor;
  readonly #A: Side | null;
  readonly #G: Side | null;
  /** [dOut, dIn]: c ε √(nG_i nA_j) in those coordinates, below 0 in others. */
  readonly #floor: Tensor;

  /** Null where no direction is; where values are awaited nobody knows, and there is one, maybe of no direction. */
  static of(A: Spectrum, G: Spectrum): NullSpace | null {
    const [a, g] = [nullSide(A), nullSide(G)];
    if (a === null && g === null) return null;
    const none = (s: Tensor) => s.lt(0);
    const mask = (g?.mask ?? none(G.s))
      .unsqueeze(1)
      .logicalOr(a?.mask ?? none(A.s))
      .keep();
    const floor = G.n
      .sqrt()
      .mul(NOISE * epsilon(A.s.dtype))
      .unsqueeze(1)
      .mul(A.n.sqrt());
    return new NullSpace(
      a && { ...a, share: a.share.unsqueeze(1) },
      g && { ...g, mask: g.mask.unsqueeze(1), share: g.share.unsqueeze(0) },
      mask,
      where(mask, floor, -1).keep(),
    );
  }

  private constructor(A: Side | null, G: Side | null, mask: Tensor, floor: Tensor) {
    this.counts = { A: A?.count ?? 0, G: G?.count ?? 0 };
    this.#A = A;
    this.#G = G;
    this.mask = mask;
    this.#floor = floor;
  }

  /** The same on another device. */
  on(device: string): NullSpace {
    const there = (x: Tensor) => x.to(device).keep();
    const side = (one: Side | null): Side | null =>
      one && { count: one.count, mask: there(one.mask), share: there(one.share) };
    return new NullSpace(side(this.#A), side(this.#G), there(this.mask), there(this.#floor));
  }

  /** Which coordinates of X [dOut, dIn] in null directions are no more than rounding could leave, |x_ij| ≤ c ε √(nG_i nA_j). */
  noise(X: Tensor): Tensor {
    return X.abs().le(this.#floor);
  }

  /**
   * X [dOut, dIn] with its mean over A's null directions in each of them, row by row, and over G's, column by column: what
   * remains depends on the null spaces, and not on the vectors that span them.
   */
  average(X: Tensor): Tensor {
    let out = X;
    if (this.#A !== null) {
      const { mask, share } = this.#A;
      out = where(mask, out.matmul(share), out);
    }
    if (this.#G !== null) {
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

function nullSide({ s, n }: Spectrum): Side | null {
  const mask = nullDirections({ s, n });
  const found = mask.astype('float32').sum();
  if (readsLater(found)) {
    const share = mask.astype(s.dtype).div(found.maximum(1));
    return { mask: mask.keep(), count: found.keep(), share: share.keep() };
  }
  const count = found.item();
  if (count === 0) return null;
  const share = mask.astype(s.dtype).mul(1 / count);
  return { mask: mask.keep(), count, share: share.keep() };
}

const epsilon = (dtype: DType): number => (dtype === 'float32' ? 2 ** -23 : 2 ** -52);
