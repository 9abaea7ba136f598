/**
 * Factors of a matrix that is used in two ways, F ≈ A₀ ⊗ G₀ + A₁ ⊗ G₁, as one pair. Both pairs are kept together until everything that is
 * linear has been done, sums over passes and processes: A and G then have those of both, in one row.
 */

import { concat, type Tensor, where } from '@otimes/core';
import type { Sides } from './basis.ts';
import type { Factors } from './factors.ts';
import type { Side } from './side.ts';

/** Both pairs in one; null stands for zeros, and both for nothing. */
export function packUses(own: Factors | null, further: Factors | null): Factors | null {
  const some = own ?? further;
  if (some === null) return null;
  const row = (of: 'A' | 'G') =>
    concat(
      [own, further].map(pair => (pair?.[of] ?? some[of].mul(0)).reshape([-1])),
      0,
    );
  return { A: row('A'), G: row('G'), expandedG: some.expandedG };
}

/**
 * The Kronecker product with the partial traces of the sum: A = Σ tr(G_u) A_u / τ and G = Σ tr(A_u) G_u, τ = Σ tr(A_u) tr(G_u). It lies in
 * the memory of what was packed. (docs/math.md, "Tied weights")
 */
export function joinUses({ A, G, expandedG }: Factors, sides: Sides): Factors {
  const [a, g] = [split(A, sides.A), split(G, sides.G)];
  const weighted = (of: Used[], by: Used[]) => of.map(({ F }, u) => F.mul(by[u]!.trace)).reduce((x, y) => x.add(y));
  const whole = weighted(g, a);
  const sum = sides.G.diagonal(whole).sum();
  a[0]!.F.copy_(weighted(a, g).div(where(sum.gt(0), sum, 1)));
  g[0]!.F.copy_(whole);
  return { A: a[0]!.F, G: g[0]!.F, expandedG };
}

type Used = { readonly F: Tensor; readonly trace: Tensor };

function split(packed: Tensor, side: Side): Used[] {
  const n = packed.size / 2;
  return [0, n].map(from => {
    const F = packed.narrow(0, from, n).reshape(side.shape);
    return { F, trace: side.diagonal(F).sum() };
  });
}
