// LU and the singular value decomposition of @otimes/linalg. Oracles: the definition, cyclic Jacobi, ml-matrix.

import assert from 'node:assert/strict';
import { eighJacobi, lu, luSolve, matmul, NdView, substituteTriangle, svd } from '@otimes/linalg';
import { determinant, Matrix as MlMatrix, solve as mlSolve } from 'ml-matrix';
import t from 'tap';
import { matrix } from './arbitraries/ndarray.ts';
import { law, property } from './helpers/law.ts';
import { onEach, sized } from './helpers/linalg.ts';
import { build, expectClose, families, identity, nested, norm, transpose } from './helpers/ndarray.ts';

const sparse = (m: number, n: number, scale: number) => build(m, n, (i, j) => (i === j ? scale * (i % 3) : 0));

await onEach('singular values', async t => {
  law(t, 'A = U Σ Vᵀ, U and V of orthonormal columns, Σ ≥ 0 and descending, for any shape, rank and scale', () =>
    property(
      sized(2, 0, (m, n) => matrix(m!, n!)),
      a => {
        const tolerance = a.dtype === 'float32' ? 1e-6 : 1e-13;
        const { u, values, v } = svd(a);
        const k = values.shape[0]!;
        expectClose(matmul(u, u, { transposeA: true }), identity(k), tolerance);
        expectClose(matmul(v, v, { transposeA: true }), identity(k), tolerance);
        const scaled = build(u.shape[0]!, k, (i, j) => u.get(i, j) * values.get(j));
        expectClose(matmul(scaled, v, { transposeB: true }), a, tolerance);
        for (let i = 0; i < k; i++) assert.ok(values.get(i) >= (i + 1 < k ? values.get(i + 1) : 0));
      },
    ),
  );

  law(
    t,
    'values are the square roots of the eigenvalues of the Gram matrix, but for the digits that squares lose',
    () => {
      for (const [name, family] of Object.entries(families)) {
        const a = family(9);
        const { values } = svd(a);
        const gram = eighJacobi(matmul(a, a, { transposeA: true })).values;
        const size = norm(a);
        for (let i = 0; i < 9; i++)
          assert.ok(Math.abs(values.get(i) - Math.sqrt(Math.max(0, gram.get(8 - i)))) <= 1e-7 * size, `${name}, ${i}`);
      }
    },
  );

  law(t, 'zeros, rank deficiency and numbers near the ends of float64 leave U and V orthonormal', () => {
    for (const a of [
      sparse(5, 3, 1),
      sparse(3, 5, 1e300),
      sparse(4, 4, 1e-300),
      sparse(6, 4, 0),
      build(7, 3, () => 2),
    ]) {
      const { u, values, v } = svd(a);
      expectClose(matmul(u, u, { transposeA: true }), identity(values.shape[0]!), 1e-13);
      expectClose(matmul(v, v, { transposeA: true }), identity(values.shape[0]!), 1e-13);
    }
    const { values } = svd(sparse(3, 5, 1e300));
    assert.deepEqual([...values.data], [2e300, 1e300, 0]);
  });
});

law(t, 'P A = L U with |L| ≤ 1, and systems are solved as ml-matrix solves them, with the transpose too', () =>
  property(
    sized(1, 1, n => matrix(n!, n!)),
    a => {
      const n = a.shape[0]!;
      const { factors, order, parity, zero } = lu(a);
      const l = build(n, n, (i, j) => (i === j ? 1 : j < i ? factors[i * n + j]! : 0));
      const u = build(n, n, (i, j) => (j >= i ? factors[i * n + j]! : 0));
      expectClose(
        matmul(l, u),
        build(n, n, (i, j) => Number(a.get(order[i]!, j))),
        1e-13,
      );
      for (const x of l.data as Float64Array) assert.ok(Math.abs(x) <= 1);
      const plain = new MlMatrix(nested(a) as number[][]);
      let product: number = parity;
      for (let i = 0; i < n; i++) product *= factors[i * n + i]!;
      const expected = determinant(plain);
      assert.ok(Math.abs(product - expected) <= 1e-9 * Math.max(1, Math.abs(expected)));
      if (zero >= 0 || Math.abs(expected) < 1e-3) return;
      const b = build(n, 2, (i, j) => i + j);
      for (const transpose_ of [false, true]) {
        const solved = mlSolve(transpose_ ? plain.transpose() : plain, new MlMatrix(nested(b) as number[][]));
        const x = luSolve(lu(a), b, { transpose: transpose_ });
        expectClose(
          x,
          build(n, 2, (i, j) => solved.get(i, j)),
          1e-7,
        );
        expectClose(matmul(transpose_ ? transpose(a) : a, x), b, 1e-7);
      }
    },
  ),
);

law(t, 'a singular matrix is no error of lu, and one of luSolve and substituteTriangle', () => {
  const a = new NdView(new Float64Array([1, 2, 2, 4]), [2, 2]);
  const found = lu(a);
  assert.equal(found.zero, 1);
  assert.throws(() => luSolve(found, a), /^Error: luSolve: singular matrix: pivot 1 of \[2,2\] is 0/);
  const zero = new NdView(new Float64Array(4), [2, 2]);
  assert.throws(
    () => substituteTriangle(zero, a),
    /^Error: substituteTriangle: singular matrix: float64\[2,2\] with 0 at \[0,0\]/,
  );
});
