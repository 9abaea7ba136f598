/** What a basis must be. */

import { noGrad, scope, type Tensor, tensor } from '@otimes/core';
import type { Kfe, Sides } from '../basis.ts';

/**
 * Throws a RangeError unless a basis is one: of these sides, finite, orthonormal, and with a curvature that its dtype can hold.
 * Orthonormality by one probe x: Uᵀ U x = x, at a cost of n² instead of n³.
 */
export function checkBasis(name: string, label: string, basis: Kfe, of: Sides): void {
  const kfe = basis.host;
  const sides = [
    ['A', kfe.UA, kfe.sA, of.A],
    ['G', kfe.UG, kfe.sG, of.G],
  ] as const;
  noGrad(() =>
    scope(() => {
      for (const [side, U, s, packed] of sides) {
        const { n, turns, shape } = packed;
        const where = `${name}: the decomposition of factor ${side} of ${label}`;
        const shapes = [[...s.shape], U === null ? null : [...U.shape]];
        const expected = [[n], turns ? shape : null];
        if (JSON.stringify(shapes) !== JSON.stringify(expected))
          throw new RangeError(`${where} has shapes ${JSON.stringify(shapes)}, expected ${JSON.stringify(expected)}`);
        if (!Number.isFinite(s.sum().item())) throw new RangeError(`${where} has eigenvalues that are not finite`);
        if (U === null) continue;
        const x = tensor(probe(n), { dtype: U.dtype, device: U.device }).reshape([n, 1]);
        const off = packed.turnColumns(packed.turnColumnsBack(x, U), U).sub(x).abs().max().item();
        if (Number.isNaN(off)) throw new RangeError(`${where} has eigenvectors that are not finite`);
        if (!(off <= TOLERANCE))
          throw new RangeError(`${where} has eigenvectors that are not orthonormal: UᵀU x differs from x by ${off}`);
      }
      const curvature = kfe.sA.max().mul(kfe.sG.max()).item();
      if (!Number.isFinite(curvature)) throw overflows(name, label, kfe.sA);
    }),
  );
}

export const overflows = (name: string, label: string, { dtype }: Tensor): RangeError =>
  new RangeError(`${name}: the curvature of ${label} overflows ${dtype}; scale its inputs or the loss down`);

/** How far UᵀU x may be from x. */
export const TOLERANCE = 1e-3;

/** Numbers of magnitude .5 to 1.5, in no order that a matrix would have. */
export function probe(n: number): number[] {
  return Array.from({ length: n }, (_, i) => (i % 3 === 1 ? -1 : 1) * (0.5 + ((i * 0.6180339887498949) % 1)));
}
