/** The squares of examples' gradients in a basis, from samples as they came or turned already. Sums, not means. */

import { concat, type Tensor } from '@otimes/core';

/** Both sides of an eigenbasis; null for an identity. */
export type Basis = { readonly UA: Tensor | null; readonly UG: Tensor | null };

/** A sample that is kept: as it came, or turned into a basis already. */
export type Kept = { readonly a: Tensor; readonly gs: readonly Tensor[]; readonly basis: Basis | null };

/** A sum of squares [dOut, dIn] in a basis. */
export type Squares = { readonly sum: Tensor; readonly basis: Basis };

/** Σ_b (UGᵀ D_b UA)² for the uses of the same examples. */
export function squaresOf(uses: readonly Kept[], basis: Basis): Tensor {
  if (uses.every(use => use.basis === null)) return squaresIn(joined(uses), basis);
  return squaresIn(joined(uses.map(use => inBasis(use, basis))), { UA: null, UG: null });
}

function inBasis({ a, gs, basis }: Kept, { UA, UG }: Basis): Kept {
  if (basis === null) return { a: turned(a, UA), gs: gs.map(g => turned(g, UG)), basis: { UA, UG } };
  checkSame(basis, { UA, UG });
  return { a, gs, basis };
}

/** The sum, which must be one in this basis. */
export function squaresWithin({ sum, basis }: Squares, wanted: Basis): Tensor {
  checkSame(basis, wanted);
  return sum;
}

function checkSame(basis: Basis, wanted: Basis): void {
  if (basis.UA !== wanted.UA || basis.UG !== wanted.UG)
    throw new Error('exampleSquares: samples were kept in another basis');
}

const turned = (x: Tensor, U: Tensor | null): Tensor => (U === null ? x : x.matmul(U));

function squaresIn({ a, gs }: Pick<Kept, 'a' | 'gs'>, { UA, UG }: Basis): Tensor {
  const [shared, dIn] = a.shape.slice(1) as [number, number];
  const dOut = gs[0]!.shape[2]!;
  // Without sharing D_b has rank one, and its squares are products of squares.
  if (shared === 1) {
    const squares = turned(a.squeeze(1), UA).square();
    return sumOf(gs.map(g => turned(g.squeeze(1), UG).square().transpose().matmul(squares)));
  }
  // Positions are turned, or the gradients, whichever is less.
  if (shared * (dIn ** 2 + dOut ** 2) > dIn * dOut * (dIn + dOut))
    return sumOf(
      gs.map(g => {
        const D = turned(g.transpose(1, 2).matmul(a), UA);
        return (UG === null ? D : UG.transpose().matmul(D)).square().sum(0);
      }),
    );
  const aTilde = turned(a, UA);
  return sumOf(gs.map(g => turned(g, UG).transpose(1, 2).matmul(aTilde).square().sum(0)));
}

/** Several uses as one with all their positions. */
function joined(uses: readonly Kept[]): Pick<Kept, 'a' | 'gs'> {
  if (uses.length === 1) return uses[0]!;
  return {
    a: concat(
      uses.map(({ a }) => a),
      1,
    ),
    gs: uses[0]!.gs.map((_, i) =>
      concat(
        uses.map(({ gs }) => gs[i]!),
        1,
      ),
    ),
  };
}

export function sumOf(terms: readonly Tensor[]): Tensor {
  return terms.reduce((sum, term) => sum.add(term));
}
