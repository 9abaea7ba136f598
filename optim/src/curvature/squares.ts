/** The squares of examples' gradients in a basis, from samples as they came or turned already. Sums, not means. */

import { concat, scope, type Tensor } from '@otimes/core';
import type { Sides } from './basis.ts';
import { indexSquares } from './one-hot.ts';
import type { Side } from './side.ts';

/** Both sides of an eigenbasis, packed as `sides` say; null for an identity. */
export type Basis = { readonly UA: Tensor | null; readonly UG: Tensor | null; readonly sides: Sides };

/** What is kept of inputs [batch, shared, dIn]: those, or what `unfold` makes them of, where that is smaller, indices say. */
export type KeptInputs = {
  readonly a: Tensor;
  readonly unfold: ((a: Tensor) => Tensor) | null;
  readonly areIndices?: boolean | undefined;
};

/** A sample that is kept: as it came, or turned into a basis already. */
export type Kept = KeptInputs & { readonly gs: readonly Tensor[]; readonly basis: Basis | null };

/** Of the gradients of examples, [dOut, dIn] each, that are made at a time: 64 MB in float32. */
const ELEMENTS = 2 ** 24;

/** A sum of squares [dOut, dIn] in a basis. */
export type Squares = { readonly sum: Tensor; readonly basis: Basis };

/** Σ_b (UGᵀ D_b UA)² for the uses of the same examples; some examples at a time, where their gradients are large. */
export function squaresOf(uses: readonly Kept[], basis: Basis): Tensor {
  const { A, G } = basis.sides;
  const [batch] = uses[0]!.a.shape as [number];
  const byIndex = !A.turns && uses.every(({ areIndices, basis }) => areIndices && basis === null);
  const shared = byIndex ? uses.reduce((sum, { a }) => sum + a.shape[1]!, 0) : 0;
  const count = Math.max(1, Math.floor(ELEMENTS / (byIndex ? shared * (shared + G.n) : A.n * G.n)));
  const ofSome = byIndex ? squaresByIndex : squaresOfSome;
  if (batch <= count) return scope(() => ofSome(uses, basis));
  let sum: Tensor | null = null;
  for (let i = 0; i < batch; i += count) {
    const some = (x: Tensor) => x.narrow(0, i, Math.min(count, batch - i));
    const part = scope(() =>
      ofSome(
        uses.map(use => ({ ...use, a: some(use.a), gs: use.gs.map(some) })),
        basis,
      ),
    );
    sum = sum === null ? part : sum.addScaled_(part, 1);
  }
  return sum!;
}

/** Of one-hot inputs: an example's positions of one index are summed, and nothing of dIn columns an example is made. */
function squaresByIndex(uses: readonly Kept[], { UG, sides: { A, G } }: Basis): Tensor {
  const { a, gs } = joined(uses.map(use => ({ ...use, unfold: null })));
  return sumOf(gs.map(g => indexSquares(a, G.turn(g, UG), A.n)));
}

function squaresOfSome(uses: readonly Kept[], basis: Basis): Tensor {
  if (uses.every(use => use.basis === null)) return squaresIn(joined(uses), basis);
  return squaresIn(joined(uses.map(use => inBasis(use, basis))), { ...basis, UA: null, UG: null });
}

const inputsOf = ({ a, unfold }: KeptInputs): Tensor => (unfold === null ? a : unfold(a));

function inBasis(use: Kept, wanted: Basis): Kept {
  const { UA, UG, sides } = wanted;
  const { gs, basis } = use;
  if (basis !== null) {
    checkSame(basis, wanted);
    return use;
  }
  return {
    a: sides.A.turn(inputsOf(use), UA),
    unfold: null,
    gs: gs.map(g => sides.G.turn(g, UG)),
    basis: wanted,
  };
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

function squaresIn({ a, gs }: Pick<Kept, 'a' | 'gs'>, { UA, UG, sides }: Basis): Tensor {
  const turnedA = (x: Tensor) => sides.A.turn(x, UA);
  const turnedG = (x: Tensor) => sides.G.turn(x, UG);
  const [shared, dIn] = a.shape.slice(1) as [number, number];
  const dOut = gs[0]!.shape[2]!;
  // Without sharing D_b has rank one, and its squares are products of squares.
  if (shared === 1) {
    const squares = turnedA(a.squeeze(1)).square();
    return sumOf(gs.map(g => turnedG(g.squeeze(1)).square().transpose().matmul(squares)));
  }
  // Positions are turned, or the gradients, whichever is less.
  const [costA, costG] = [costOf(sides.A), costOf(sides.G)];
  if (shared * (costA + costG) > dOut * costA + dIn * costG)
    return sumOf(
      gs.map(g => {
        const D = turnedA(g.transpose(1, 2).matmul(a));
        return sides.G.turnColumns(D, UG).square().sum(0);
      }),
    );
  const aTilde = turnedA(a);
  return sumOf(gs.map(g => turnedG(g).transpose(1, 2).matmul(aTilde).square().sum(0)));
}

/** Multiplications that a row takes to turn; of an identity as if it turned. */
const costOf = ({ isIdentity, n, turnCost }: Side): number => (isIdentity ? n * n : turnCost);

/** Several uses as one with all their positions. */
function joined(uses: readonly Kept[]): Pick<Kept, 'a' | 'gs'> {
  if (uses.length === 1) return { a: inputsOf(uses[0]!), gs: uses[0]!.gs };
  return {
    a: concat(uses.map(inputsOf), 1),
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
