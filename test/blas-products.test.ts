/** Products by a native BLAS against the definition, in Debian's OpenBLAS with 32-bit and with 64-bit integers. */

import { openBlas } from '@otimes/kernels';
import fc from 'fast-check';
import t from 'tap';
import {
  Bench,
  checkConvolutions,
  checkProduct,
  checkSyrk,
  EPS,
  type Geometry,
  geometry,
  type Layout,
  type Product,
  product,
  TYPES,
} from './helpers/blas.ts';
import { law } from './helpers/law.ts';
import { entries, gram } from './helpers/ndarray.ts';
import { OPENBLAS, testNeeding } from './helpers/requires.ts';

/** All of it needs the two libraries. */
const test = await testNeeding(t, 'openblas');

const PLAIN: Product = {
  ...{ type: 'f32', m: 40, n: 50, k: 60, a: 'rows', b: 'rows', gaps: [0, 0, 0], batch: 1, apart: 0, shared: false },
  ...{ start: 'nothing', relu: false, seed: 1 },
};

const IMAGES: Geometry = {
  ...{ n: 2, share: 8, m: 16, groups: 1, h: 14, w: 14 },
  ...{ kernel: [3, 3], stride: [1, 1], padding: [1, 1], dilation: [1, 1] },
};

for (const [index, library] of OPENBLAS.entries()) {
  test(library, async t => {
    const blas = await openBlas(library);
    const bench = new Bench(blas, index === 1);

    law(t, 'says what it is', async t => {
      t.match(blas.info, { library, kind: 'OpenBLAS', threads: 1, config: /^OpenBLAS \d/ });
      t.equal(blas.info.config.includes('USE64BITINT'), index === 1);
    });

    law(t, 'C ← A·B + (C or bias), clipped or not, for any strides, batches and sizes; nothing else is written', () => {
      fc.assert(
        fc.property(product, p => checkProduct(bench, p)),
        { seed: 5, numRuns: 400 },
      );
    });

    law(t, 'what CBLAS can express and is worth a call goes there, the rest stays', async t => {
      for (const type of TYPES) {
        const name = type === 'f32' ? 'sgemm' : 'dgemm';
        const left = (p: Partial<Product>) =>
          bench.fallsThrough(name, () => checkProduct(bench, { ...PLAIN, type, ...p }));
        for (const a of ['rows', 'columns'] as const)
          for (const b of ['rows', 'columns'] as const)
            for (const start of ['nothing', 'accumulate', 'bias'] as const)
              t.equal(left({ a, b, start, relu: true, gaps: [1, 2, 3], batch: 2 }), 0, `${name} ${a} ${b} ${start}`);
        t.equal(left({ batch: 3, shared: true, relu: true, start: 'bias' }), 0, 'one right side for a whole batch');
        t.equal(left({ m: 1, n: 200, batch: 2, shared: true }), 0, 'a row');
        t.equal(left({ n: 1, m: 200, relu: true }), 0, 'a column');
        t.equal(left({ n: 1, m: 200, gaps: [0, 0, 1] }), 1, 'a column with gaps');
        for (const a of ['gaps', 'repeated', 'backwards'] as const) t.equal(left({ a }), 1, a);
        t.equal(left({ m: 8, n: 8, k: 8 }), 1, 'small');
        for (const zero of [{ m: 0 }, { n: 0 }, { k: 0 }, { k: 0, start: 'bias', relu: true } as const])
          t.equal(left(zero), 1, JSON.stringify(zero));
        const triangle = type === 'f32' ? 'ssyrk' : 'dsyrk';
        const syrk = (n: number, k: number, l: Layout) =>
          bench.fallsThrough(triangle, () => checkSyrk(bench, type, n, k, l, 0, false));
        t.equal(syrk(80, 70, 'gaps'), 1);
        t.equal(syrk(10, 10, 'rows'), 1);
        // The kernels mirror the blocks on the diagonal.
        t.equal(syrk(80, 70, 'rows'), 5);
      }
    });

    law(t, 'C ← (C +) A·Aᵀ is exactly symmetric, and nothing beside C is written', () => {
      for (const type of TYPES)
        for (const [n, k] of [
          [0, 3],
          [1, 400],
          [5, 0],
          [40, 200],
          [64, 64],
          [71, 45],
          [130, 20],
        ] as const)
          for (const l of ['rows', 'columns', 'gaps', 'backwards'] as const)
            for (const plus of [false, true]) checkSyrk(bench, type, n, k, l, n % 3, plus);
    });

    law(t, 'NaN and ∞ reach exactly the elements that depend on them', () => {
      for (const [m, n] of [
        [40, 50],
        [1, 300],
        [300, 1],
      ] as const) {
        const k = 60;
        const [a, b, c] = [m * k, k * n, m * n].map(length => bench.put('f32', new Float32Array(length).fill(1)));
        a!.view()[(m - 1) * k + 3] = NaN;
        b!.view()[7 * n + n - 1] = Infinity;
        const { exports, scratch } = bench.kernels;
        exports.sgemm(m, n, k, a!.at, k, 1, b!.at, n, 1, c!.at, n, 0, 0, 0, 1, 0, 0, 0, scratch);
        const got = c!.view();
        for (let i = 0; i < m; i++)
          for (let j = 0; j < n; j++) {
            const want = i === m - 1 ? NaN : j === n - 1 ? Infinity : k;
            if (!Object.is(got[i * n + j], want))
              throw new Error(`C[${i}, ${j}] is ${got[i * n + j]}, expected ${want}`);
          }
      }
    });

    law(t, 'a memory that grew is found again', () => {
      const { heap, memory } = bench.kernels;
      const before = memory.size;
      const large = heap.allocate(2 * before)!;
      if (memory.size === before) throw new Error('the memory did not grow');
      checkProduct(bench, { ...PLAIN, type: 'f64' });
      heap.release(large);
    });

    law(t, 'convolutions of any geometry are those of the kernels', () => {
      let taken = 0;
      fc.assert(
        fc.property(fc.constantFrom(...TYPES), geometry, (type, g) => {
          taken += checkConvolutions(bench, type, g);
        }),
        { seed: 6, numRuns: 150 },
      );
      if (taken < 30) throw new Error(`the library did ${taken} convolutions only`);
    });

    law(t, 'convolutions whose patches fill one tile, several, or none', async t => {
      for (const type of TYPES) {
        t.equal(checkConvolutions(bench, type, IMAGES), 3);
        t.equal(
          checkConvolutions(bench, type, { ...IMAGES, n: 1, share: 32, m: 32, h: 40, w: 40, stride: [2, 1] }),
          3,
          'tiles',
        );
        t.equal(
          checkConvolutions(bench, type, { ...IMAGES, kernel: [1, 1], padding: [0, 0], h: 24, w: 24 }),
          3,
          'pixels',
        );
        t.equal(
          checkConvolutions(bench, type, { ...IMAGES, m: 32, groups: 2, dilation: [2, 2], padding: [2, 0] }),
          3,
          'groups',
        );
        t.equal(checkConvolutions(bench, type, { ...IMAGES, n: 1, share: 32, h: 40, w: 40 }), 3, 'tiles of whole rows');
        t.equal(checkConvolutions(bench, type, { ...IMAGES, stride: [1, 2] }), 2, 'few outputs, pixel by pixel');
        const wide: Geometry = { ...IMAGES, n: 1, m: 2, share: 16, h: 3, w: 1100 };
        t.equal(checkConvolutions(bench, type, wide), 0, 'a row of patches is too long');
      }
    });

    law(t, 'LAPACK: eigenvectors in rows, values ascending; L below, or the first bad pivot; inverses by L', () => {
      for (const Real of [Float32Array, Float64Array]) {
        const eps = Real === Float32Array ? EPS.f32 : EPS.f64;
        for (const n of [0, 1, 2, 30, 65]) {
          const a = Real.from(entries(gram(n, n + 3, 5)));
          const [vectors, values] = [a.slice(), new Real(n)];
          blas.eigh(n, vectors, values);
          for (let i = 0; i < n; i++)
            for (let j = 0; j < n; j++) {
              let [image, dot] = [0, 0];
              for (let k = 0; k < n; k++) {
                image += a[j * n + k]! * vectors[i * n + k]!;
                dot += vectors[i * n + k]! * vectors[j * n + k]!;
              }
              const scale = 40 * n * eps * Math.max(1, values[n - 1]!);
              if (!(Math.abs(image - values[i]! * vectors[i * n + j]!) <= scale)) throw new Error(`A v${i} ≠ λ v${i}`);
              if (!(Math.abs(dot - (i === j ? 1 : 0)) <= 40 * n * eps)) throw new Error(`v${i} · v${j} = ${dot}`);
            }
          if (values.some((x, i) => i > 0 && x < values[i - 1]!)) throw new Error('values do not ascend');

          const l = a.slice();
          if (blas.cholesky(n, l) !== -1) throw new Error(`${n}: expected a factor`);
          for (let i = 0; i < n; i++)
            for (let j = 0; j <= i; j++) {
              let sum = 0;
              for (let k = 0; k <= j; k++) sum += l[i * n + k]! * l[j * n + k]!;
              if (!(Math.abs(sum - a[i * n + j]!) <= 40 * n * eps)) throw new Error(`(L Lᵀ)[${i}, ${j}] = ${sum}`);
            }
          const inverse = l.slice();
          blas.cholInverse(n, inverse);
          const entry = (i: number, j: number) => inverse[Math.max(i, j) * n + Math.min(i, j)]!;
          const [x, y] = [a.slice(), a.slice()];
          blas.solveLower(n, l, x, n, false);
          blas.solveLower(n, l, x, n, true);
          blas.solveLower(n, l, y.subarray(0, n), 1, false);
          for (let i = 0; i < n; i++)
            for (let j = 0; j < n; j++) {
              let sum = 0;
              for (let k = 0; k < n; k++) sum += a[i * n + k]! * entry(k, j);
              const one = i === j ? 1 : 0;
              // gram(n, n + 3) has a condition of some thousands.
              if (!(Math.abs(sum - one) <= 1e4 * n * eps)) throw new Error(`(A A⁻¹)[${i}, ${j}] = ${sum}`);
              if (!(Math.abs(x[i * n + j]! - one) <= 1e4 * n * eps))
                throw new Error(`(L⁻ᵀ L⁻¹ A)[${i}, ${j}] = ${x[i * n + j]}`);
            }
          for (let i = 0; i < n; i++) {
            let sum = 0;
            for (let k = 0; k <= i; k++) sum += l[i * n + k]! * y[k]!;
            if (!(Math.abs(sum - a[i]!) <= 40 * n * eps)) throw new Error(`(L L⁻¹ a)[${i}] = ${sum}`);
          }
          if (n < 2) continue;
          const bad = a.slice();
          bad[n * n - 1] = -1;
          const pivot = blas.cholesky(n, bad);
          if (pivot !== n - 1 || !(bad[n * n - 1]! < 0)) throw new Error(`pivot ${pivot} is ${bad[n * n - 1]}`);
        }
      }
    });
  });
}
