// The laws of @otimes/linalg. Properties run over random layouts (strides, offsets, dtypes) with fixed seeds; matrices
// of integers make many of them exact. Oracles: the definition, cyclic Jacobi, ml-matrix. What factorises is held to its
// laws twice: with the WebAssembly kernels, and in plain TypeScript.
import {
  cholesky,
  cholSolve,
  eigh,
  eighJacobi,
  inverse,
  kron,
  kronMatvec,
  matmul,
  NotPositiveDefiniteError,
  plainSolver,
  qr,
  setSolver,
  solve,
  solveTriangular,
  unvec,
  vec,
} from '@otimes/linalg';
import fc from 'fast-check';
import {
  CholeskyDecomposition,
  determinant,
  EigenvalueDecomposition,
  Matrix as MlMatrix,
  inverse as mlInverse,
  solve as mlSolve,
  QrDecomposition,
} from 'ml-matrix';
import ndarray, { type NdArray } from 'ndarray';
import t, { type Test } from 'tap';
import { type Dtype, definiteMatrix, matrix, sizes, symmetricMatrix, vector } from './arbitraries/ndarray.ts';
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

/** A property, checked over `numRuns` random cases of a fixed seed. */
function law<T>(on: Test, title: string, cases: fc.Arbitrary<T>, holds: (x: T) => void, numRuns = 100): void {
  on.test(title, async t => {
    fc.assert(fc.property(cases, holds), { seed: 20250601, numRuns });
    t.pass(`held in ${numRuns} cases`);
  });
}

/** A test of what has two implementations, with either. */
function onEach(title: string, laws: (t: Test) => Promise<void>): void {
  for (const [name, solver] of [
    ['WebAssembly', null],
    ['TypeScript', plainSolver],
  ] as const)
    t.test(`${title}: ${name}`, async t => {
      setSolver(solver);
      t.teardown(() => setSolver(null));
      await laws(t);
    });
}

/** Several sizes, then several arbitraries that depend on them. */
const sized = <T>(count: number, min: number, make: (...n: number[]) => fc.Arbitrary<T>): fc.Arbitrary<T> =>
  sizes(count, min).chain(n => make(...n));

/** float64 wherever a law is about more than rounding to float32. */
const wide: readonly Dtype[] = ['float64', 'int32', 'array', 'generic'];
const fromMl = (m: MlMatrix) => build(m.rows, m.columns, (i, j) => m.get(i, j));

t.test('products', async t => {
  law(
    t,
    'matmul is the sum over the inner index, for every layout, dtype, transposition and size',
    sized(3, 0, (m, k, n) =>
      fc
        .tuple(fc.boolean(), fc.boolean())
        .chain(([ta, tb]) =>
          fc.tuple(fc.constant({ ta, tb }), ta ? matrix(k, m) : matrix(m, k), tb ? matrix(n, k) : matrix(k, n)),
        ),
    ),
    ([{ ta, tb }, a, b]) => {
      const c = matmul(a, b, { transposeA: ta, transposeB: tb });
      expectClose(c, product(ta ? transpose(a) : a, tb ? transpose(b) : b));
    },
    400,
  );

  law(
    t,
    'the result is fresh, row-major, and float32 only if all inputs are',
    sized(2, 1, (m, n) => fc.tuple(matrix(m, n), matrix(n, m))),
    ([a, b]) => {
      const before = entries(a);
      const c = matmul(a, b);
      const both = a.dtype === 'float32' && b.dtype === 'float32';
      if (c.dtype !== (both ? 'float32' : 'float64')) throw new Error(c.dtype);
      if (c.offset !== 0 || c.stride[1] !== 1 || c.stride[0] !== c.shape[1]) throw new Error('not row-major');
      c.data.fill(7);
      if (String(entries(a)) !== String(before)) throw new Error('the input changed');
    },
  );

  t.test('matmul across every panel boundary of the kernel is the triple loop', async t => {
    const next = random(3);
    const whole = () => Math.round(16 * next());
    for (const [m, k, n] of [
      [131, 259, 5],
      [3, 7, 517],
      [4, 512, 4],
      [129, 1, 1],
    ] as const) {
      const [a, b] = [build(m, k, whole), build(k, n, whole)];
      expectClose(matmul(a, b), product(a, b));
      expectClose(matmul(transpose(a), b, { transposeA: true }), product(a, b));
      t.pass(`${m} × ${k} × ${n}`);
    }
  });

  t.test('NaN and infinities pass through a product as IEEE says', async t => {
    const a = build(1, 2, (_, j) => [Number.NaN, 1][j]!);
    t.same(entries(matmul(a, identity(2))), [Number.NaN, Number.NaN]);
    t.same(
      entries(
        matmul(
          build(1, 1, () => Number.POSITIVE_INFINITY),
          build(1, 1, () => -2),
        ),
      ),
      [Number.NEGATIVE_INFINITY],
    );
  });
});

t.test('Kronecker products', async t => {
  law(
    t,
    '(A ⊗ B)(C ⊗ D) = AC ⊗ BD',
    sized(6, 0, (m, k, n, p, q, r) => fc.tuple(matrix(m, k), matrix(p, q), matrix(k, n), matrix(q, r))),
    ([a, b, c, d]) => expectClose(matmul(kron(a, b), kron(c, d)), kron(matmul(a, c), matmul(b, d))),
  );
  law(
    t,
    '(A ⊗ B)ᵀ = Aᵀ ⊗ Bᵀ',
    sized(4, 0, (m, n, p, q) => fc.tuple(matrix(m, n), matrix(p, q))),
    ([a, b]) => expectClose(transpose(kron(a, b)), kron(transpose(a), transpose(b))),
  );
  law(
    t,
    '(A ⊗ B)⁻¹ = A⁻¹ ⊗ B⁻¹',
    sized(2, 0, (m, n) => fc.tuple(definiteMatrix(m, wide), definiteMatrix(n, wide))),
    ([a, b]) => expectClose(inverse(kron(a, b)), kron(inverse(a), inverse(b)), 1e-13),
  );
  law(
    t,
    'the eigenvalues of A ⊗ B are the products of those of A and B',
    sized(2, 0, (m, n) => fc.tuple(symmetricMatrix(m), symmetricMatrix(n))),
    ([a, b]) => {
      const [x, y] = [entries(eigh(a).values), entries(eigh(b).values)];
      const products = x.flatMap(p => y.map(q => p * q)).sort((p, q) => p - q);
      expectClose(eigh(kron(a, b)).values, rowOf(products), 1e-13);
    },
  );
  law(
    t,
    'eigenvectors of A ⊗ B are UA ⊗ UB: (UA ⊗ UB)ᵀ (A ⊗ B) (UA ⊗ UB) is diagonal',
    sized(2, 1, (m, n) => fc.tuple(symmetricMatrix(m, wide), symmetricMatrix(n, wide))),
    ([a, b]) => {
      const [x, y] = [eigh(a), eigh(b)];
      const u = kron(x.vectors, y.vectors);
      const values = entries(x.values).flatMap(p => entries(y.values).map(q => p * q));
      const rotated = matmul(matmul(u, kron(a, b), { transposeA: true }), u);
      expectClose(
        rotated,
        build(values.length, values.length, (i, j) => (i === j ? values[i]! : 0)),
        1e-13,
      );
    },
    50,
  );
  law(
    t,
    'kronMatvec(A, G, v) = (A ⊗ G) v, neither factor square or symmetric',
    sized(4, 0, (p, q, m, n) => fc.tuple(matrix(p, q), matrix(m, n), vector(q * n))),
    ([a, g, v]) => {
      const dense = matmul(kron(a, g), ndarray(Float64Array.from(entries(v)), [v.shape[0]!, 1]));
      expectClose(kronMatvec(a, g, v), rowOf(entries(dense)));
    },
    200,
  );
  law(
    t,
    '(A ⊗ G) vec(D) = vec(G D Aᵀ)',
    sized(4, 0, (p, q, m, n) => fc.tuple(matrix(p, q), matrix(m, n), matrix(n, q))),
    ([a, g, d]) => expectClose(kronMatvec(a, g, vec(d)), vec(matmul(matmul(g, d), a, { transposeB: true }))),
    200,
  );
  law(
    t,
    'tr(A ⊗ B) = tr A · tr B',
    sized(2, 0, (m, n) => fc.tuple(matrix(m, m), matrix(n, n))),
    ([a, b]) => {
      const trace = (x: NdArray) =>
        Array.from({ length: x.shape[0]! }, (_, i) => x.get(i, i)).reduce((s, e) => s + e, 0);
      if (trace(kron(a, b)) !== trace(a) * trace(b)) throw new Error(`${trace(kron(a, b))}`);
    },
  );
  law(
    t,
    'det(A ⊗ B) = det(A)ⁿ det(B)ᵐ for A [m, m] and B [n, n]',
    fc
      .tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 1, max: 3 }))
      .chain(([m, n]) => fc.tuple(matrix(m, m), matrix(n, n))),
    ([a, b]) => {
      const [m, n] = [a.shape[0]!, b.shape[0]!];
      const det = (x: NdArray) => determinant(nested(x));
      const expected = det(a) ** n * det(b) ** m;
      // Hadamard's bound on the determinant is the scale of its rounding.
      const scale = nested(kron(a, b)).reduce((bound, row) => bound * Math.hypot(...row), 1);
      if (!(Math.abs(det(kron(a, b)) - expected) <= 1e-13 * scale)) throw new Error(`${det(kron(a, b))}, ${expected}`);
    },
  );
  law(
    t,
    'unvec(vec(M)) = M, and vec stacks columns',
    sized(2, 0, (m, n) => matrix(m, n)),
    m => {
      const [rows, cols] = [m.shape[0]!, m.shape[1]!];
      expectClose(unvec(vec(m), rows, cols), m);
      for (let i = 0; i < rows; i++) {
        for (let j = 0; j < cols; j++) if (vec(m).get(j * rows + i) !== m.get(i, j)) throw new Error(`${i}, ${j}`);
      }
    },
  );
});

onEach('Cholesky, solving, inverting', async t => {
  law(
    t,
    'A = L Lᵀ with L lower triangular and a positive diagonal',
    sized(1, 0, n => definiteMatrix(n!)),
    a => {
      const l = cholesky(a);
      expectClose(matmul(l, l, { transposeB: true }), a, a.dtype === 'float32' ? 1e-6 : 1e-14);
      for (const [i, row] of nested(l).entries()) {
        if (!row.every((x, j) => (j > i ? x === 0 : j < i || x > 0))) throw new Error(`row ${i} is ${row}`);
      }
    },
  );
  law(
    t,
    'A x = b for vectors, b is one column of many, and the upper triangle of L is not read',
    sized(2, 0, (n, k) => fc.tuple(definiteMatrix(n, wide), matrix(n, k), vector(n))),
    ([a, b, v]) => {
      const l = cholesky(a);
      for (let i = 0; i < l.shape[0]!; i++) for (let j = i + 1; j < l.shape[0]!; j++) l.set(i, j, 123);
      expectClose(matmul(a, cholSolve(l, b)), b, 1e-12);
      const x = cholSolve(l, v);
      expectClose(kronMatvec(identity(1), a, x), v, 1e-12);
    },
  );
  law(
    t,
    'solve(A, b) is cholSolve of the factor, and solveTriangular with L, then with Lᵀ, is too',
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
  );
  law(
    t,
    'A⁻¹ A = I, and A⁻¹ is exactly symmetric',
    sized(1, 0, n => definiteMatrix(n!, wide)),
    a => {
      const b = inverse(a);
      expectClose(matmul(b, a), identity(a.shape[0]!), 1e-12);
      expectClose(transpose(b), b);
    },
  );

  t.test('beyond one block, all three agree with ml-matrix', async t => {
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

  t.test('float32 in, float32 out, float64 in between', async t => {
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
  );

  t.test('beyond one block, Q and R are those of ml-matrix but for signs', async t => {
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

  t.test('QR of 2ᵏ A is Q and 2ᵏ R, bit for bit, however small or large', async t => {
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
    t.test(`A V = V Λ and VᵀV = I, values as by Jacobi: ${name}`, async t => {
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
    t.test(`the same in float32: ${name}`, async t => {
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
    sized(1, 0, n => symmetricMatrix(n!, wide)),
    a => {
      const n = a.shape[0]!;
      const [mine, twin] = [eigh(a), eighJacobi(a)];
      expectEigen(a, mine, 1e-13);
      expectEigen(a, twin, 1e-13);
      expectClose(mine.values, twin.values, 1e-13);
      const values = entries(mine.values);
      for (let j = 0; j < n; j++) {
        const gap = Math.min(...values.map((x, i) => (i === j ? Number.POSITIVE_INFINITY : Math.abs(x - values[j]!))));
        if (gap > 1e-2) expectClose(mine.vectors.pick(null, j), twin.vectors.pick(null, j), 1e-10);
      }
    },
    200,
  );

  t.test('eigenvalues and, up to sign, eigenvectors are those of ml-matrix', async t => {
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

  t.test('the largest entry of each eigenvector is positive, the first where several tie', async t => {
    t.same(entries(eigh(symmetric(2, (i, j) => (i === j ? 0 : 1))).vectors).map(Math.sign), [1, 1, -1, 1]);
    for (const column of nested(transpose(eigh(gaussian(50, 8)).vectors))) {
      const largest = column.reduce((max, x) => Math.max(max, Math.abs(x)), 0);
      t.ok(column.find(x => Math.abs(x) > largest * (1 - 1e-7))! > 0);
    }
  });

  t.test('2ᵏ A has the same eigenvectors and 2ᵏ times the eigenvalues, bit for bit', async t => {
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

  t.test('asymmetry within rounding is averaged away', async t => {
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

onEach('errors say which operation, what it expects and what came', async t => {
  const f64 = (rows: number, cols: number) => build(rows, cols, (i, j) => (i === j ? 1 : 0));
  const v3 = rowOf([1, 2, 3]);
  const spoiled = (x: number) => build(2, 3, (i, j) => (i === 1 && j === 2 ? x : 1));
  const notANumber = build(3, 3, (i, j) => (i === 2 && j === 0 ? Number.NaN : 1));
  const lopsided = build(2, 2, (i, j) => 2 * i + j);
  // @ts-expect-error: the types forbid it
  const bigint: NdArray = ndarray(new BigInt64Array(1), [1, 1]);
  const cases: [string, () => unknown][] = [
    ['matmul: inner dimensions differ: float64[2,3] and float64[4,5]', () => matmul(f64(2, 3), f64(4, 5))],
    [
      'matmul: inner dimensions differ: float32[2,3]ᵀ and float64[3,2]',
      () => matmul(toFloat32(f64(2, 3)), f64(3, 2), { transposeA: true }),
    ],
    ['matmul: expected a matrix: float64[3]', () => matmul(f64(2, 3), v3)],
    ['matmul: expected numbers: bigint64[1,1]', () => matmul(bigint, f64(1, 1))],
    ['kron: expected a matrix: float64[3]', () => kron(v3, v3)],
    [
      'kronMatvec: expected a vector of 3 · 5: float64[2,3] and float64[4,5] and float64[3]',
      () => kronMatvec(f64(2, 3), f64(4, 5), v3),
    ],
    ['kronMatvec: expected a vector: float64[3,1]', () => kronMatvec(f64(1, 3), f64(1, 1), f64(3, 1))],
    ['unvec: expected a vector of 2 · 2: float64[3]', () => unvec(v3, 2, 2)],
    ['eigh: expected a square matrix: float64[2,3]', () => eigh(f64(2, 3))],
    ['eigh: expected a matrix: float64[3]', () => eigh(v3)],
    [
      'eigh: expected a symmetric matrix (within 1e-12 of max|a| = 3): float64[2,2] with [0,1] = 1 and [1,0] = 2',
      () => eigh(lopsided),
    ],
    [
      'inverse: expected a symmetric matrix (within 1e-6 of max|a| = 3): float32[2,2] with [0,1] = 1 and [1,0] = 2',
      () => inverse(toFloat32(lopsided)),
    ],
    ['cholesky: expected a square matrix: float64[2,3]', () => cholesky(f64(2, 3))],
    ['cholSolve: expected a square factor: float64[2,3]', () => cholSolve(f64(2, 3), v3)],
    ['solveTriangular: singular factor: float64[2,2] with 0 at [0,0]', () => solveTriangular(lopsided, f64(2, 2))],
    ['solve: expected a square matrix: float64[2,3]', () => solve(f64(2, 3), v3)],
    ['solve: matrix and right side differ in rows: float64[2,2] and float64[3]', () => solve(f64(2, 2), v3)],
    ...[eigh, cholesky, inverse, qr].map((f): [string, () => unknown] => [
      `${f.name}: precision 'float32' expects float32: float64[2,2]`,
      () => f(f64(2, 2), { precision: 'float32' }),
    ]),
    [
      "solve: precision 'float32' expects float32: float32[2,2] and float64[2,2]",
      () => solve(toFloat32(f64(2, 2)), f64(2, 2), { precision: 'float32' }),
    ],
    ['cholSolve: factor and right side differ in rows: float64[2,2] and float64[3]', () => cholSolve(f64(2, 2), v3)],
    ['cholSolve: singular factor: float64[2,2] with 0 at [0,0]', () => cholSolve(lopsided, f64(2, 2))],
    [
      'cholSolve: expected a vector or a matrix: float64[1,1,1]',
      () => cholSolve(f64(1, 1), ndarray(new Float64Array(1), [1, 1, 1])),
    ],
    ['qr: expected finite numbers: float64[2,3] with Infinity at [1,2]', () => qr(spoiled(Number.POSITIVE_INFINITY))],
    ['qr: expected finite numbers: float64[2,3] with NaN at [1,2]', () => qr(spoiled(Number.NaN))],
    ['cholSolve: expected finite numbers: float64[3,3] with NaN at [2,0]', () => cholSolve(notANumber, v3)],
    ...[eigh, eighJacobi, cholesky, inverse].map((f): [string, () => unknown] => [
      `${f.name}: expected finite numbers: float64[3,3] with NaN at [2,0]`,
      () => f(notANumber),
    ]),
  ];
  for (const [message, run] of cases) t.throws(run, new Error(message), message);

  const indefinite = symmetric(60, (i, j) => (i === j ? (i === 55 ? -3 : 1) : 0));
  for (const f of [cholesky, inverse]) {
    const message = `${f.name}: expected a positive definite matrix: pivot 55 of float64[60,60] is -3`;
    t.throws(() => f(indefinite), new Error(message));
    const error = t.throws(() => f(indefinite), NotPositiveDefiniteError);
    t.match(error, { pivot: 55, value: -3 });
  }
  t.match(
    t.throws(() => cholesky(symmetric(2, () => 0))),
    { pivot: 0, value: 0 },
    'semidefinite is not enough',
  );
});
