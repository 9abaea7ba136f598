// What factorises in @otimes/linalg, held to its laws twice: with the WebAssembly kernels, and in plain TypeScript. Oracles:
// the definition, cyclic Jacobi, ml-matrix.

import {
  cholesky,
  cholSolve,
  eigh,
  eighJacobi,
  inverse,
  kronMatvec,
  matmul,
  qr,
  solve,
  solveTriangular,
} from '@otimes/linalg';
import fc from 'fast-check';
import {
  CholeskyDecomposition,
  EigenvalueDecomposition,
  Matrix as MlMatrix,
  inverse as mlInverse,
  solve as mlSolve,
  QrDecomposition,
} from 'ml-matrix';
import ndarray, { type NdArray } from 'ndarray';
import { definiteMatrix, matrix, symmetricMatrix, vector } from './arbitraries/ndarray.ts';
import { law, property } from './helpers/law.ts';
import { onEach, sized, wide } from './helpers/linalg.ts';
import {
  build,
  distance,
  entries,
  expectClose,
  families,
  gaussian,
  gram,
  identity,
  narrowFamilies,
  nested,
  norm,
  product,
  random,
  rowOf,
  scaleColumns,
  symmetric,
  toFloat32,
  transpose,
  wideFamilies,
} from './helpers/ndarray.ts';

const fromMl = (m: MlMatrix) => build(m.rows, m.columns, (i, j) => m.get(i, j));

onEach('Cholesky, solving, inverting', async t => {
  law(t, 'A = L Lᵀ with L lower triangular and a positive diagonal', () =>
    property(
      sized(1, 0, n => definiteMatrix(n!)),
      a => {
        const l = cholesky(a);
        expectClose(matmul(l, l, { transposeB: true }), a, a.dtype === 'float32' ? 1e-6 : 1e-14);
        for (const [i, row] of nested(l).entries()) {
          if (!row.every((x, j) => (j > i ? x === 0 : j < i || x > 0))) throw new Error(`row ${i} is ${row}`);
        }
      },
    ),
  );
  law(t, 'A x = b for vectors, b is one column of many, and the upper triangle of L is not read', () =>
    property(
      sized(2, 0, (n, k) => fc.tuple(definiteMatrix(n, wide), matrix(n, k), vector(n))),
      ([a, b, v]) => {
        const l = cholesky(a);
        for (let i = 0; i < l.shape[0]!; i++) for (let j = i + 1; j < l.shape[0]!; j++) l.set(i, j, 123);
        expectClose(matmul(a, cholSolve(l, b)), b, 1e-12);
        const x = cholSolve(l, v);
        expectClose(kronMatvec(identity(1), a, x), v, 1e-12);
      },
    ),
  );
  law(t, 'solve(A, b) is cholSolve of the factor, and solveTriangular with L, then with Lᵀ, is too', () =>
    property(
      sized(2, 0, (n, k) => fc.tuple(definiteMatrix(n, wide), matrix(n, k), vector(n))),
      ([a, b, v]) => {
        const l = cholesky(a);
        for (const right of [b, v]) {
          const x = cholSolve(l, right);
          expectClose(solve(a, right), x, 1e-13);
          expectClose(solveTriangular(l, solveTriangular(l, right), { transpose: true }), x, 1e-13);
        }
        expectClose(matmul(l, solveTriangular(l, b)), b, 1e-13);
      },
    ),
  );
  law(t, 'A⁻¹ A = I, and A⁻¹ is exactly symmetric', () =>
    property(
      sized(1, 0, n => definiteMatrix(n!, wide)),
      a => {
        const b = inverse(a);
        expectClose(matmul(b, a), identity(a.shape[0]!), 1e-12);
        expectClose(transpose(b), b);
      },
    ),
  );

  law(t, 'beyond one block, all three agree with ml-matrix', async t => {
    for (const n of [47, 48, 49, 150]) {
      const a = gram(n, 2 * n, n);
      const b = build(n, 3, random(n + 1));
      const ml = new MlMatrix(nested(a));
      expectClose(cholesky(a), fromMl(new CholeskyDecomposition(ml).lowerTriangularMatrix), 1e-12);
      expectClose(inverse(a), fromMl(mlInverse(ml)), 1e-11);
      const x = fromMl(mlSolve(ml, new MlMatrix(nested(b))));
      expectClose(cholSolve(cholesky(a), b), x, 1e-11);
      expectClose(solve(a, b), x, 1e-11);
      // More columns, which are solved side by side.
      const square = build(n, n, random(n + 2));
      expectClose(matmul(a, solve(a, square)), square, 1e-11);
      const upper = qr(square).r;
      const y = solveTriangular(transpose(upper), matmul(upper, square), { transpose: true });
      expectClose(matmul(upper, y), matmul(upper, square), 1e-11);
      t.pass(`n = ${n}`);
    }
  });

  law(t, 'float32 in, float32 out, float64 in between', async t => {
    const a = toFloat32(gram(60, 200, 5));
    const wideA = ndarray(Float64Array.from(a.data), [60, 60]);
    expectClose(inverse(a), toFloat32(inverse(wideA)));
    expectClose(cholesky(a), toFloat32(cholesky(wideA)));
    t.equal(inverse(a).dtype, 'float32');
    t.equal(cholSolve(cholesky(a), a).dtype, 'float32');
    t.equal(cholSolve(cholesky(a), wideA).dtype, 'float64');
  });
});

onEach('QR', async t => {
  law(
    t,
    'A = Q R, QᵀQ = I, R upper triangular with a non-negative diagonal, for tall, wide, empty and deficient A',
    () =>
      property(
        sized(2, 0, (m, n) => matrix(m, n, wide)),
        a => {
          const { q, r } = qr(a);
          const k = Math.min(...a.shape);
          expectClose(product(q, r), a, 1e-14);
          expectClose(matmul(q, q, { transposeA: true }), identity(k), 1e-14);
          for (const [i, row] of nested(r).entries()) {
            if (!row.every((x, j) => (j < i ? x === 0 : j > i || x >= 0))) throw new Error(`row ${i} is ${row}`);
          }
        },
        300,
      ),
  );

  law(t, 'beyond one block, Q and R are those of ml-matrix but for signs', async t => {
    for (const [m, n] of [
      [70, 33],
      [33, 70],
      [100, 100],
      [131, 64],
    ] as const) {
      const a = build(m, n, random(m));
      const { q, r } = qr(a);
      const k = Math.min(m, n);
      t.ok(distance(product(q, r), a) <= 1e-14 * Math.sqrt(k) * norm(a), `Q R = A at ${m} × ${n}`);
      t.ok(distance(matmul(q, q, { transposeA: true }), identity(k)) <= 1e-14 * k, 'Q is orthonormal');
      if (m < n) continue;
      const ml = new QrDecomposition(new MlMatrix(nested(a)));
      const [mlQ, mlR] = [fromMl(ml.orthogonalMatrix), fromMl(ml.upperTriangularMatrix)];
      expectClose(
        build(n, n, (i, j) => mlR.get(i, j) * Math.sign(mlR.get(i, i))),
        r,
        1e-11,
      );
      expectClose(
        build(m, n, (i, j) => mlQ.get(i, j) * Math.sign(mlR.get(j, j))),
        q,
        1e-11,
      );
    }
  });

  law(t, 'QR of 2ᵏ A is Q and 2ᵏ R, bit for bit, however small or large', async t => {
    const a = build(20, 12, random(2));
    for (const s of [2 ** 1000, 2 ** -960]) {
      const scaled = qr(build(20, 12, (i, j) => a.get(i, j) * s));
      expectClose(scaled.q, qr(a).q);
      t.same(
        entries(scaled.r),
        entries(qr(a).r).map(x => x * s),
      );
    }
    t.equal(qr(toFloat32(a)).q.dtype, 'float32');
  });
});

/** ‖A V − V Λ‖ / ‖A‖ and ‖VᵀV − I‖ in Frobenius norms at most `bound`; values ascending. */
function expectEigen(a: NdArray, { values, vectors }: ReturnType<typeof eigh>, bound: number): void {
  const n = a.shape[0]!;
  const scale = entries(a).reduce((max, x) => Math.max(max, Math.abs(x)), 0) || 1;
  const unit = build(n, n, (i, j) => a.get(i, j) / scale);
  const lambda = rowOf(entries(values).map(x => x / scale));
  const residual = distance(matmul(unit, vectors), scaleColumns(vectors, lambda)) / (norm(unit) || 1);
  const orthogonality = distance(matmul(vectors, vectors, { transposeA: true }), identity(n));
  if (!(residual <= bound)) throw new Error(`residual ${residual} > ${bound}`);
  if (!(orthogonality <= bound)) throw new Error(`orthogonality ${orthogonality} > ${bound}`);
  for (let i = 1; i < n; i++) if (values.get(i - 1) > values.get(i)) throw new Error(`values fall at ${i}`);
}

onEach('the symmetric eigenproblem', async t => {
  const bound = (n: number) => 1e-13 * Math.sqrt(n);
  for (const [name, make] of Object.entries({ ...families, ...wideFamilies })) {
    law(t, `A V = V Λ and VᵀV = I, values as by Jacobi: ${name}`, async t => {
      for (const n of [1, 2, 3, 31, 33, 64, 100]) {
        const a = make(n);
        const eigen = eigh(a);
        expectEigen(a, eigen, bound(n));
        if (n < 100) {
          const scale = entries(a).reduce((max, x) => Math.max(max, Math.abs(x)), 0) || 1;
          const [mine, twin] = [eigen, eighJacobi(a)].map(e => rowOf(entries(e.values).map(x => x / scale / n)));
          expectClose(mine!, twin!, 1e-13);
        }
        t.pass(`n = ${n}`);
      }
    });
  }
  for (const [name, make] of Object.entries({ ...families, ...narrowFamilies })) {
    law(t, `the same in float32: ${name}`, async t => {
      for (const n of [2, 40, 105]) {
        const a = toFloat32(make(n));
        const eigen = eigh(a);
        expectEigen(a, eigen, 1e-5);
        t.same([eigen.values.dtype, eigen.vectors.dtype], ['float64', 'float32'], `n = ${n}`);
      }
    });
  }

  law(
    t,
    'integer matrices of every layout: A V = V Λ, and eigenvalues, vectors and signs as by Jacobi where they are simple',
    () =>
      property(
        sized(1, 0, n => symmetricMatrix(n!, wide)),
        a => {
          const n = a.shape[0]!;
          const [mine, twin] = [eigh(a), eighJacobi(a)];
          expectEigen(a, mine, 1e-13);
          expectEigen(a, twin, 1e-13);
          expectClose(mine.values, twin.values, 1e-13);
          const values = entries(mine.values);
          for (let j = 0; j < n; j++) {
            const gap = Math.min(
              ...values.map((x, i) => (i === j ? Number.POSITIVE_INFINITY : Math.abs(x - values[j]!))),
            );
            if (gap > 1e-2) expectClose(mine.vectors.pick(null, j), twin.vectors.pick(null, j), 1e-10);
          }
        },
        200,
      ),
  );

  law(t, 'eigenvalues and, up to sign, eigenvectors are those of ml-matrix', async t => {
    for (const n of [20, 90]) {
      const a = gaussian(n, n);
      const ml = new EigenvalueDecomposition(new MlMatrix(nested(a)), { assumeSymmetric: true });
      const { values, vectors } = eigh(a);
      expectClose(values, rowOf(ml.realEigenvalues), 1e-12);
      const overlap = matmul(vectors, fromMl(ml.eigenvectorMatrix), { transposeA: true });
      expectClose(
        build(n, n, (i, j) => Math.abs(overlap.get(i, j))),
        identity(n),
        1e-9,
      );
      t.pass(`n = ${n}`);
    }
  });

  law(t, 'the largest entry of each eigenvector is positive, the first where several tie', async t => {
    t.same(entries(eigh(symmetric(2, (i, j) => (i === j ? 0 : 1))).vectors).map(Math.sign), [1, 1, -1, 1]);
    for (const column of nested(transpose(eigh(gaussian(50, 8)).vectors))) {
      const largest = column.reduce((max, x) => Math.max(max, Math.abs(x)), 0);
      t.ok(column.find(x => Math.abs(x) > largest * (1 - 1e-7))! > 0);
    }
  });

  law(t, '2ᵏ A has the same eigenvectors and 2ᵏ times the eigenvalues, bit for bit', async t => {
    const a = gaussian(40, 3);
    for (const s of [2 ** 900, 2 ** -900]) {
      const scaled = eigh(symmetric(40, (i, j) => a.get(i, j) * s));
      expectClose(scaled.vectors, eigh(a).vectors);
      t.same(
        entries(scaled.values),
        entries(eigh(a).values).map(x => x * s),
      );
    }
    const least = Number.MIN_VALUE;
    t.same(entries(eigh(symmetric(2, (i, j) => (i === j ? least : 0))).values), [least, least], 'down to 5e-324');
  });

  law(t, 'asymmetry within rounding is averaged away', async t => {
    for (const [dtype, slack] of [
      ['float32', 5e-7],
      ['float64', 5e-13],
    ] as const) {
      const a = build(3, 3, (i, j) => (i === j ? i + 1 : 0.25 + (i < j ? slack : 0)));
      const rounded = dtype === 'float32' ? toFloat32(a) : a;
      const even = build(3, 3, (i, j) => 0.5 * rounded.get(i, j) + 0.5 * rounded.get(j, i));
      expectClose(eigh(rounded).values, eigh(even).values);
      t.pass(dtype);
    }
  });
});

onEach('sizes 0 and 1', async t => {
  const empty = ndarray(new Float64Array(0), [0, 0]);
  const two = build(1, 1, () => 4);
  t.same(
    [cholesky(empty), inverse(empty), eigh(empty).vectors, qr(empty).q].map(a => a.shape),
    Array(4).fill([0, 0]),
  );
  t.same(eigh(empty).values.shape, [0]);
  t.same(
    [cholesky(two), inverse(two), eigh(two).values, eigh(two).vectors].map(a => a.data[0]),
    [2, 0.25, 4, 1],
  );
  t.same(
    [qr(two).q, qr(two).r, cholSolve(cholesky(two), two)].map(a => a.data[0]),
    [1, 4, 1],
  );
});
