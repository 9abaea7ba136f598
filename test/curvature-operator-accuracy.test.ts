// What KroneckerOperator's docstring says of rounding, against factors whose inverses are known exactly: L D Lᵀ of small integers
// in unit lower triangles L and powers of two in D, which no dtype rounds.
import assert from 'node:assert/strict';
import { Generator, type Tensor, tensor } from '@otimes/core';
import { eigh } from '@otimes/linalg';
import { KroneckerOperator } from '@otimes/optim/curvature';
import t from 'tap';
import './helpers/devices.ts';
import { law } from './helpers/law.ts';

type Matrix = readonly (readonly number[])[];

const times = (a: Matrix, b: Matrix): Matrix =>
  a.map(row => b[0]!.map((_, j) => row.reduce((sum, x, k) => sum + x * b[k]![j]!, 0)));
const transposed = (a: Matrix): Matrix => a[0]!.map((_, j) => a.map(row => row[j]!));
const diagonalOf = (d: readonly number[]): Matrix => d.map((x, i) => d.map((_, j) => (i === j ? x : 0)));
const square = (n: number, f: (i: number, j: number) => number): number[][] =>
  Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_, j) => f(i, j)));
const norm = (values: readonly number[]): number => Math.hypot(...values);

/** The inverse of a unit lower triangle. */
function inverted(L: Matrix): Matrix {
  const X = square(L.length, (i, j) => Number(i === j));
  for (const [i, row] of X.entries())
    for (let k = 0; k < i; k++) for (let j = 0; j < L.length; j++) row[j]! -= L[i]![k]! * X[k]![j]!;
  return X;
}

/** A factor, its inverse, log det and condition number; pivots go from 1 down to 2^−bits. */
type Exact = { readonly F: Matrix; readonly inverse: Matrix; readonly logdet: number; readonly condition: number };

function exact(n: number, bits: number, rng: Generator): Exact {
  const entry = () => Math.floor(rng.uniform() * 3) - 1;
  const L = square(n, (i, j) => (i === j ? 1 : j > i ? 0 : entry()));
  const d = Array.from({ length: n }, (_, i) => 2 ** -Math.round((bits * i) / (n - 1)));
  const F = times(times(L, diagonalOf(d)), transposed(L));
  const back = inverted(L);
  const { values } = eigh(
    tensor(
      F.map(row => [...row]),
      { dtype: 'float64' },
    ).ndarray(),
  );
  return {
    F,
    inverse: times(times(transposed(back), diagonalOf(d.map(x => 1 / x))), back),
    logdet: d.reduce((sum, x) => sum + Math.log(x), 0),
    condition: values.get(n - 1) / values.get(0),
  };
}

const asTensor = (x: Matrix, dtype: 'float32' | 'float64'): Tensor => {
  const made = tensor(
    x.map(row => [...row]),
    { dtype },
  );
  assert.deepEqual(made.toArray(), x, 'exactly');
  return made;
};

/** ‖found − expected‖ / ‖expected‖ */
function error(found: Tensor, expected: Matrix): number {
  const [x, y] = [Array.from(found.dataSync()), expected.flat()];
  return norm(x.map((value, i) => value - y[i]!)) / norm(y);
}

/** Sides of condition numbers whose product is about κ, for many seeds. */
function everywhere(
  bits: readonly [number, number],
  holds: (A: Exact, G: Exact, Y: Matrix, kappa: number) => void,
): void {
  for (let seed = 1; seed <= 40; seed++) {
    const rng = new Generator(seed);
    const [A, G] = [exact(4, bits[0], rng), exact(3, bits[1], rng)];
    const Y = Array.from({ length: 3 }, () => Array.from({ length: 4 }, () => Math.floor(rng.uniform() * 17) - 8));
    holds(A, G, Y, A.condition * G.condition);
  }
}

/** By κ of A ⊗ G, the pivots that lead to it within some factor of 30. */
const conditions: Record<string, readonly [number, number]> = { '1e4': [4, 3], '1e6': [7, 6], '1e8': [10, 9] };

for (const [dtype, u] of [
  ['float32', 2 ** -24],
  ['float64', 2 ** -53],
] as const)
  for (const [kappa, bits] of Object.entries(conditions)) {
    const title = `${dtype}, κ about ${kappa}`;
    const operatorOf = (A: Exact, G: Exact) =>
      KroneckerOperator.fromFactors({ A: asTensor(A.F, dtype), G: asTensor(G.F, dtype) });

    law(t, `${title}: solve is right to κu in the directions of large eigenvalues`, () => {
      everywhere(bits, (A, G, Y, κ) => {
        const X = tensor(
          times(times(G.F, Y), A.F).map(row => [...row]),
          { dtype },
        );
        // What float32 rounded of X is no error of the operator; float64 rounds nothing of it.
        const given = X.toArray() as number[][];
        const expected = dtype === 'float64' ? Y : times(times(G.inverse, given), A.inverse);
        const off = error(operatorOf(A, G).solve(X), expected);
        assert.ok(off <= κ * u, `${off / (κ * u)} κu`);
      });
    });

    law(t, `${title}: solve of an X without preferred directions, once or in two roots, is right to rounding`, () => {
      everywhere(bits, (A, G, Y) => {
        const expected = times(times(G.inverse, Y), A.inverse);
        const operator = operatorOf(A, G);
        // The decomposition is one in float64, whatever the dtype.
        const bound = 150 * u + 4 * Math.max(A.condition, G.condition) * 2 ** -53;
        const X = asTensor(Y, dtype);
        for (const found of [operator.solve(X), operator.sqrtSolve(operator.sqrtSolve(X))]) {
          const off = error(found, expected);
          assert.ok(off <= bound, `${off / bound} of the bound`);
        }
      });
    });

    law(t, `${title}: logdet is right to rounding`, () => {
      everywhere(bits, (A, G) => {
        const off = Math.abs(operatorOf(A, G).logdet().item() - (3 * A.logdet + 4 * G.logdet));
        const bound = 12 * (20 * u + 4 * Math.max(A.condition, G.condition) * 2 ** -53);
        assert.ok(off <= bound, `${off / bound} of the bound`);
      });
    });
  }

law(t, 'float32: sqrtSolve is right to √κ u in the directions of large eigenvalues', () => {
  for (const bits of Object.values(conditions))
    everywhere(bits, (A, G, Y, κ) => {
      const X = tensor(times(times(G.F, Y), A.F).map(row => [...row]));
      const [found, expected] = (['float32', 'float64'] as const).map(dtype =>
        KroneckerOperator.fromFactors({ A: asTensor(A.F, dtype), G: asTensor(G.F, dtype) }).sqrtSolve(X.astype(dtype)),
      ) as [Tensor, Tensor];
      const off = error(found, expected.toArray() as number[][]);
      assert.ok(off <= Math.sqrt(κ) * 2 ** -24, `${off / (Math.sqrt(κ) * 2 ** -24)} √κ u`);
    });
});
