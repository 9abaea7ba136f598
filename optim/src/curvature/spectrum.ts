/** Spectra of factors, out of those of the matrices that a structure makes them of. */

import { concat, type Tensor, where } from '@otimes/core';

/** Eigenvalues s [n] of a factor, and its diagonal in the basis, n_j = Σ_k U_kj² F_kk [n]. */
export type Spectrum = { readonly s: Tensor; readonly n: Tensor };

/** Of F_c ⊗ 1: each as often as there are taps. */
export const alike = ({ s, n }: Spectrum, taps: number): Spectrum =>
  taps === 1 ? { s, n } : { s: repeated(s, taps), n: repeated(n, taps) };

/** The elements of x, each so many times. */
const repeated = (x: Tensor, times: number): Tensor => x.unsqueeze(1).expand([x.size, times]).reshape([-1]);

/** Of F_c ⊗ F_t over the mean eigenvalue of F_t. */
export function product(c: Spectrum, t: Spectrum): Spectrum {
  const mean = t.s.mean();
  const weight = where(mean.gt(0), mean, 1);
  const outer = (x: Tensor, y: Tensor) => x.unsqueeze(1).mul(y.div(weight)).reshape([-1]);
  return { s: outer(c.s, t.s), n: outer(c.n, t.n).maximum(outer(c.n, t.s)).maximum(outer(c.s, t.n)) };
}

/** Of all parts, one after the other. */
export function together(all: readonly Spectrum[]): Spectrum {
  if (all.length === 1) return all[0]!;
  const joined = (of: keyof Spectrum) =>
    concat(
      all.map(one => one[of]),
      0,
    );
  return { s: joined('s'), n: joined('n') };
}
