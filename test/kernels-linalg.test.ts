// The laws of the WebAssembly factorisations: each variant and type over matrices that break solvers, against the plain
// TypeScript twin, and what linalg promises around them.
import { instantiate, instantiateEigen, Memory, variants } from '@otimes/kernels';
import { cholesky, eigh, inverse, matmul, plainSolver, qr, type Solver, setSolver, solve } from '@otimes/linalg';
import fc from 'fast-check';
import ndarray, { type NdArray } from 'ndarray';
import t from 'tap';
import { law, property } from './helpers/law.ts';
import {
  build,
  distance,
  entries,
  expectClose,
  families,
  gaussian,
  gram,
  identity,
  type Matrix,
  narrowFamilies,
  norm,
  random,
  rowOf,
  scaleColumns,
  symmetric,
  toFloat32,
  transpose,
  wideFamilies,
} from './helpers/ndarray.ts';

type Type = 'f32' | 'f64';

/** `eigh` of one variant as the module has it, after scaling to max|a| near 1; null where it does not converge. */
function kernel(variant: 'relaxed' | 'simd') {
  const memory = Memory.create({ initial: 2 ** 25, shared: false })!;
  const products = instantiate(memory.wasm, { variant })!;
  const exports = instantiateEigen(memory.wasm, products, variant);
  const scratch = 1024;
  return (a: NdArray, type: Type): { values: NdArray; vectors: Matrix } | null => {
    const n = a.shape[0]!;
    const bytes = n * n * (type === 'f32' ? 4 : 8);
    let end = scratch + products.gemmScratch();
    const [at, values, vectors, work] = [bytes, 8 * n, bytes, exports[`eighWork_${type}`](n)].map(size => {
      const start = Math.ceil(end / 64) * 64;
      end = start + size;
      return start;
    });
    memory.grow(end);
    const view = () =>
      type === 'f32' ? memory.f32.subarray(at! / 4, at! / 4 + n * n) : memory.f64.subarray(at! / 8, at! / 8 + n * n);
    view().set(entries(a));
    if (exports[`eigh_${type}`](n, at!, values!, vectors!, work!, scratch) === 0) return null;
    return {
      values: rowOf(memory.f64.subarray(values! / 8, values! / 8 + n)),
      vectors: ndarray(Float64Array.from(view()), [n, n]),
    };
  };
}

/** Divided by its largest entry. */
const unit = (a: NdArray): NdArray => {
  const max = entries(a).reduce((most, x) => Math.max(most, Math.abs(x)), 0) || 1;
  return build(a.shape[0]!, a.shape[1]!, (i, j) => a.get(i, j) / max);
};

/** ‖A V − V Λ‖ / ‖A‖ and ‖VᵀV − I‖ / ‖I‖ in Frobenius norms at most `bound`; values ascending. */
function expectEigen(a: NdArray, values: NdArray, vectors: NdArray, bound: number): void {
  const n = a.shape[0]!;
  const residual = distance(matmul(a, vectors), scaleColumns(vectors, values)) / (norm(a) || 1);
  const orthogonality = distance(matmul(vectors, vectors, { transposeA: true }), identity(n)) / Math.sqrt(n || 1);
  if (!(residual <= bound)) throw new Error(`n = ${n}: residual ${residual} > ${bound}`);
  if (!(orthogonality <= bound)) throw new Error(`n = ${n}: orthogonality ${orthogonality} > ${bound}`);
  for (let i = 1; i < n; i++) if (values.get(i - 1) > values.get(i)) throw new Error(`values fall at ${i}`);
}

const SIZES = [0, 1, 2, 3, 31, 33, 64, 65, 100];
const bound = (type: Type, n: number) => (type === 'f32' ? 1e-5 : 1e-13 * Math.sqrt(n));

for (const variant of variants()) {
  const decompose = kernel(variant);
  for (const type of ['f32', 'f64'] as const) {
    law(t, `A V = V Λ and VᵀV = I: ${type}, ${variant}`, async t => {
      for (const [name, make] of Object.entries({ ...families, ...wideFamilies, ...narrowFamilies })) {
        for (const n of variant === variants()[0] ? [...SIZES, 257] : SIZES) {
          const scaled = unit(make(n));
          const a = type === 'f32' ? toFloat32(scaled) : scaled;
          const { values, vectors } = decompose(a, type)!;
          expectEigen(a, values, vectors, bound(type, n));
        }
        t.pass(name);
      }
    });

    law(t, `NaN and infinities end it as well: ${type}, ${variant}`, async t => {
      for (const bad of [Number.NaN, Number.POSITIVE_INFINITY])
        for (const n of [1, 2, 40, 100]) {
          const a = gaussian(n, n);
          a.set(0, n - 1, bad);
          a.set(n - 1, 0, bad);
          t.equal(decompose(a, type), null, `${bad}, n = ${n}`);
        }
    });
  }
}

/** What `run` returns with the kernels, and with plain TypeScript. */
function twins<R>(run: () => R): [R, R] {
  const kernels = run();
  setSolver(plainSolver);
  try {
    return [kernels, run()];
  } finally {
    setSolver(null);
  }
}

t.test('kernels and plain TypeScript agree', async t => {
  const cases = fc.record({ n: fc.integer({ min: 0, max: 90 }), k: fc.integer({ min: 0, max: 40 }), seed: fc.nat() });
  const agree = (title: string, holds: (x: { n: number; k: number; seed: number }) => void) =>
    law(t, title, () => property(cases, holds, 60));
  /** Symmetric positive definite, its condition below a hundred or so. */
  const definite = (n: number, seed: number) => {
    const a = gram(n, 2 * n, seed);
    return symmetric(n, (i, j) => a.get(i, j) + (i === j ? n / 20 : 0));
  };

  agree('cholesky', ({ n, seed }) => {
    const [mine, twin] = twins(() => cholesky(definite(n, seed)));
    expectClose(mine, twin, 1e-13);
  });
  agree('inverse', ({ n, seed }) => {
    const [mine, twin] = twins(() => inverse(definite(n, seed)));
    expectClose(mine, twin, 1e-12);
    expectClose(transpose(mine), mine);
  });
  agree('solve', ({ n, k, seed }) => {
    const [mine, twin] = twins(() => solve(definite(n, seed), build(n, k, random(seed))));
    expectClose(mine, twin, 1e-11);
  });
  agree('eigenvalues', ({ n, seed }) => {
    const [mine, twin] = twins(() => eigh(gaussian(n, seed)).values);
    expectClose(mine, twin, 1e-12);
  });
  agree('qr', ({ n, k, seed }) => {
    const [rows, cols] = [Math.max(n, k), Math.min(n, k)];
    const [mine, twin] = twins(() => qr(build(rows, cols, random(seed))));
    // With a square matrix the last column may depend on the others nearly.
    if (rows > 2 * cols) expectClose(mine.r, twin.r, 1e-11);
    for (const { q, r } of [mine, twin]) {
      expectClose(matmul(q, r), build(rows, cols, random(seed)), 1e-13);
      expectClose(matmul(q, q, { transposeA: true }), identity(cols), 1e-13);
    }
  });
  agree('a pivot that is not positive', ({ n, k, seed }) => {
    if (n === 0) return;
    const a = definite(n, seed);
    const at = k % n;
    a.set(at, at, -1);
    const [mine, twin] = twins(() => {
      try {
        cholesky(a);
      } catch (error) {
        return error as { message: string; pivot: number; value: number };
      }
      throw new Error('expected an error');
    });
    if (mine.pivot !== at || twin.pivot !== at) throw new Error(`${mine.pivot}, ${twin.pivot}, expected ${at}`);
    expectClose(rowOf([mine.value]), rowOf([twin.value]), 1e-13);
  });
});

t.test("precision: 'float32'", async t => {
  const precision = 'float32';
  for (const [name, make] of Object.entries({ ...families, ...narrowFamilies }))
    law(t, `A V = V Λ: ${name}`, async t => {
      for (const solver of [null, plainSolver]) {
        setSolver(solver);
        for (const n of [0, 1, 2, 3, 64, 100]) {
          const a = toFloat32(make(n));
          const { values, vectors } = eigh(a, { precision });
          t.same([values.dtype, vectors.dtype], ['float64', 'float32']);
          const max = entries(a).reduce((most, x) => Math.max(most, Math.abs(x)), 0) || 1;
          expectEigen(unit(a), rowOf(entries(values).map(x => x / max)), vectors, 1e-5);
        }
      }
      setSolver(null);
    });

  law(t, 'Cholesky, inverse, solution and QR are within 1e-5 of those in float64', async t => {
    for (const n of [1, 3, 48, 65, 130]) {
      const a = toFloat32(build(n, n, (i, j) => (i === j ? 2 : 1 / (1 + Math.abs(i - j)) / 4)));
      const b = toFloat32(build(n, 20, random(n)));
      const tall = toFloat32(build(2 * n, n, random(n)));
      for (const solver of [null, plainSolver]) {
        setSolver(solver);
        const pairs = [
          [cholesky(a, { precision }), cholesky(a)],
          [inverse(a, { precision }), inverse(a)],
          [solve(a, b, { precision }), solve(a, b)],
          [qr(tall, { precision }).q, qr(tall).q],
          [qr(tall, { precision }).r, qr(tall).r],
        ] as const;
        for (const [narrow, wide] of pairs) {
          t.equal(narrow.dtype, 'float32');
          expectClose(narrow, wide, 1e-5);
        }
      }
      setSolver(null);
    }
  });
});

law(t, 'the same input gives the same bits, whatever was computed before', async t => {
  const a = gaussian(70, 1);
  const definite = gram(70, 140, 2);
  const all = () => [
    eigh(a).vectors.data,
    eigh(toFloat32(a), { precision: 'float32' }).vectors.data,
    cholesky(definite).data,
    inverse(definite).data,
    qr(a).q.data,
  ];
  const before = all();
  eigh(gaussian(150, 3));
  solve(gram(90, 180, 4), gaussian(90, 5));
  t.same(all(), before);
});

law(t, 'setSolver: what it is given computes instead, on what it is promised', async t => {
  const asked: string[] = [];
  const solver: Solver = {
    eigh(n, a, values) {
      const max = Math.max(...a.map(Math.abs));
      t.ok(max >= 1 && max < 2, 'scaled');
      asked.push(`eigh ${n} ${a.constructor === values.constructor ? a.BYTES_PER_ELEMENT : 'differ'}`);
      plainSolver.eigh(n, a, values);
    },
    cholesky(n, a) {
      asked.push(`cholesky ${n} ${a.BYTES_PER_ELEMENT}`);
      return plainSolver.cholesky(n, a);
    },
  };
  const a = gaussian(40, 1);
  const definite = gram(40, 80, 2);
  const expected = [eigh(a).values, cholesky(definite), inverse(definite), solve(definite, a)];
  setSolver(solver);
  t.teardown(() => setSolver(null));
  const found = [eigh(a).values, cholesky(definite), inverse(definite), solve(definite, a)];
  eigh(toFloat32(a), { precision: 'float32' });
  for (const [i, x] of found.entries()) expectClose(x, expected[i]!, 1e-10);
  t.same(asked, ['eigh 40 8', 'cholesky 40 8', 'cholesky 40 8', 'cholesky 40 8', 'eigh 40 4']);
  const indefinite = identity(3);
  indefinite.set(1, 1, -2);
  t.match(
    t.throws(() => cholesky(indefinite)),
    { pivot: 1, value: -2 },
  );
  setSolver(null);
  eigh(a);
  t.equal(asked.length, 6, 'until it is taken back');
});
