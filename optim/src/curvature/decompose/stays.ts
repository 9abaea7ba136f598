/** Whether an eigenbasis still serves: a basis in which the factors are as good as diagonal needs no decomposition. */

import { noGrad, scope, type Tensor } from '@otimes/core';
import { precisely } from '@otimes/core/extend';
import { type Decomposition, decomposeStill, decomposition, diagonal, Kfe } from '../basis.ts';
import type { Side } from '../side.ts';

/**
 * The same eigenvectors with the eigenvalues that factors A and G have along them, s_j = u_jᵀ F u_j, if of neither more than `share`
 * lies outside of the diagonal there, ‖offdiag(Uᵀ F U)‖ ≤ share ‖F‖ (Frobenius); else null. It costs one product n³ a matrix: since
 * ‖Uᵀ F U‖ = ‖F‖, the diagonal tells the rest.
 */
export function stillDiagonal(kfe: Kfe, A: Tensor, G: Tensor, share: number): Kfe | null {
  return noGrad(() =>
    scope(() => {
      const { sides } = kfe;
      const g = along(sides.G, G, kfe.UG, share);
      const a = g && along(sides.A, A, kfe.UA, share);
      return a === null || g === null ? null : new Kfe(a, g, sides);
    }),
  );
}

function along(side: Side, factor: Tensor, U: Tensor | null, share: number): Decomposition | null {
  if (U === null) return decomposeStill(side, factor);
  const bases = side.parts(U);
  const found: Decomposition[] = [];
  let [all, rest] = [0, 0];
  for (const [i, { U: ofChannels, V: ofTaps }] of side.parts(factor).entries()) {
    const channels = inBasis(ofChannels, bases[i]!.U);
    found.push(channels.found);
    // Norms of F_c ⊗ F_t over the mean of F_t, or of F_c ⊗ 1, are products.
    let [whole, kept] = [channels.whole, channels.kept];
    if (ofTaps === null) [whole, kept] = [whole, kept].map(x => x * side.segments[i]!.taps) as [number, number];
    else {
      const taps = inBasis(ofTaps, bases[i]!.V!);
      found.push(taps.found);
      const mean = taps.found.s.mean().item();
      if (mean > 0) [whole, kept] = [(whole * taps.whole) / mean ** 2, (kept * taps.kept) / mean ** 2];
    }
    all += whole;
    rest += Math.max(0, whole - kept);
  }
  return rest <= share ** 2 * all ? { U, ...side.spectrum(found) } : null;
}

/** A matrix along columns of V, and ‖F‖² with the part of it that is on the diagonal of Vᵀ F V. */
function inBasis(
  F: Tensor,
  V: Tensor,
): { readonly found: Decomposition; readonly whole: number; readonly kept: number } {
  const s = precisely(() => V.mul(F.matmul(V)).sum(0));
  const [whole, kept] = [F, s].map(x => x.norm().item() ** 2) as [number, number];
  return { found: decomposition(V, s, diagonal(F)), whole, kept };
}
