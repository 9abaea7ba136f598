/** Whether an eigenbasis still serves: a basis in which the factors are as good as diagonal needs no decomposition. */

import { noGrad, scope, type Tensor } from '@otimes/core';
import { precisely } from '@otimes/core/extend';
import { type Decomposition, decomposeMean, decomposition, diagonal, Kfe } from '../basis.ts';
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
  if (U === null) return decomposeMean(factor, side.n);
  const bases = side.matrices(U);
  let [all, rest] = [0, 0];
  const found = side.matrices(factor).map((F, i) => {
    const V = bases[i]!;
    const s = precisely(() => V.mul(F.matmul(V)).sum(0));
    const [whole, kept] = [F, s].map(x => x.norm().item() ** 2) as [number, number];
    all += whole;
    rest += Math.max(0, whole - kept);
    return decomposition(V, s, diagonal(F));
  });
  return rest <= share ** 2 * all ? { U, ...side.spectrum(found) } : null;
}
