/**
 * A native BLAS in place of the kernels: against the definition, against the kernels themselves and against the
 * reference backend, in Debian's OpenBLAS with 32-bit and with 64-bit integers (apt-get install libopenblas0
 * libopenblas64-0); and what is said where it cannot be had.
 */

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import {
  getBackend,
  manualSeed,
  ReferenceBackend,
  randint,
  randn,
  registerBackend,
  releaseBlas,
  setThreads,
  type Tensor,
  useBlas,
} from '@otimes/core';
import { createKernels, type Exports, type Kernels, type NativeBlas, openBlas } from '@otimes/kernels';
import { cholesky, cholSolve, eigh, inverse, NotPositiveDefiniteError, setSolver } from '@otimes/linalg';
import { type AnyModule, Conv2d, crossEntropy, Flatten, Linear, MaxPool2d, mlp, ReLU, Sequential } from '@otimes/nn';
import { Adam } from '@otimes/optim';
import { build } from 'esbuild';
import fc from 'fast-check';
import ndarray from 'ndarray';
import t from 'tap';
import { allclose, difference } from './helpers/allclose.ts';
import { law } from './helpers/law.ts';
import {
  entries,
  families,
  gaussian,
  gram,
  narrowFamilies,
  symmetric,
  toFloat32,
  wideFamilies,
} from './helpers/ndarray.ts';
import { OPENBLAS, testNeeding } from './helpers/requires.ts';

/** All of it needs the two libraries. */
const test = await testNeeding(t, 'openblas');

const TYPES = ['f32', 'f64'] as const;
type Type = (typeof TYPES)[number];
const BYTES = { f32: 4, f64: 8 };
const EPS = { f32: 2 ** -24, f64: 2 ** -53 };

/** Kernels with the library on top, and a count of the calls that it left to them. */
class Bench {
  readonly kernels: Kernels;
  /** Calls of the kernels' own products and convolutions, by name. */
  readonly left = new Map<string, number>();

  constructor(blas: NativeBlas, shared: boolean) {
    this.kernels = createKernels({ memory: { initial: 2 ** 24, shared } })!;
    const counted = /^([sd](gemm|syrk)|conv(Forward|InputGrad|WeightGrad)_f..)$/;
    this.kernels.override('threads', below => {
      const spies: Record<string, unknown> = {};
      for (const [name, run] of Object.entries(below))
        if (counted.test(name))
          spies[name] = (...x: number[]) => {
            this.left.set(name, (this.left.get(name) ?? 0) + 1);
            return (run as (...x: number[]) => unknown)(...x);
          };
      return spies as Partial<Exports>;
    });
    this.kernels.override('blas', blas.override(this.kernels));
  }

  /** Fresh memory with these elements: its address, and a view of it to be taken again after others were made. */
  put(type: Type, values: ArrayLike<number>) {
    const { heap, memory } = this.kernels;
    const block = heap.allocate(Math.max(1, values.length) * BYTES[type])!;
    const view = () => {
      const at = block.pointer / BYTES[type];
      return (type === 'f32' ? memory.f32 : memory.f64).subarray(at, at + values.length);
    };
    view().set(values);
    return { at: block.pointer, view, free: () => heap.release(block) };
  }

  /** How often `run` falls through to the kernels' `name`. */
  fallsThrough(name: string, run: () => void): number {
    const before = this.left.get(name) ?? 0;
    run();
    return (this.left.get(name) ?? 0) - before;
  }
}

function random(seed: number, length: number): Float64Array {
  let state = seed | 0 || 1;
  return Float64Array.from({ length }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state / 2 ** 31;
  });
}

// --- products -----------------------------------------------------------------------------------------------------------

type Layout = 'rows' | 'columns' | 'gaps' | 'repeated' | 'backwards';
/** Row and column stride of an r × c matrix in elements, where it starts, and what it spans. */
function strides(layout: Layout, r: number, c: number, gap: number) {
  if (layout === 'rows') return { row: c + gap, col: 1, start: 0, span: r * (c + gap) };
  if (layout === 'columns') return { row: 1, col: r + gap, start: 0, span: c * (r + gap) };
  if (layout === 'gaps') return { row: 2 * c + gap, col: 2, start: 0, span: r * (2 * c + gap) + 2 };
  if (layout === 'repeated') return { row: 0, col: 1, start: 0, span: c };
  return { row: -c, col: 1, start: Math.max(0, r - 1) * c, span: r * c };
}
const size = fc.oneof(
  { arbitrary: fc.constantFrom(0, 1, 2, 3), weight: 2 },
  { arbitrary: fc.integer({ min: 4, max: 70 }), weight: 4 },
);
const layout = fc.oneof(
  { arbitrary: fc.constantFrom<Layout>('rows', 'columns'), weight: 4 },
  { arbitrary: fc.constantFrom<Layout>('gaps', 'repeated', 'backwards'), weight: 1 },
);
const product = fc.record({
  type: fc.constantFrom(...TYPES),
  ...{ m: size, n: size, k: size },
  ...{ a: layout, b: layout },
  gaps: fc.tuple(fc.nat(3), fc.nat(3), fc.nat(3)),
  /** Elements between operands of a batch beyond what they span; `shared`: one b for all. */
  batch: fc.constantFrom(0, 1, 1, 2, 3),
  apart: fc.nat(2),
  shared: fc.boolean(),
  start: fc.constantFrom<'nothing' | 'accumulate' | 'bias'>('nothing', 'accumulate', 'bias'),
  relu: fc.boolean(),
  seed: fc.integer(),
});
type Product = typeof product extends fc.Arbitrary<infer P> ? P : never;

/** Runs the product on the bench and compares all of C's memory with the definition. */
function checkProduct(bench: Bench, p: Product): void {
  const { type, m, n, k, batch } = p;
  const [a, b] = [strides(p.a, m, k, p.gaps[0]), strides(p.b, k, n, p.gaps[1])];
  const [aBatch, bBatch] = [a.span + p.apart, p.shared ? 0 : b.span + p.apart];
  const cRow = n + p.gaps[2];
  const cBatch = m * cRow + p.apart;
  const round = (x: Float64Array) => (type === 'f32' ? Float64Array.from(Float32Array.from(x)) : x);
  const A = round(random(p.seed, aBatch * batch + 1));
  const B = round(random(p.seed + 1, (b.span + p.apart) * batch + 1));
  // NaN where C is to be overwritten: it must not be read.
  const C = round(random(p.seed + 2, cBatch * batch + 3));
  if (p.start !== 'accumulate') C.fill(NaN);
  const bias = round(random(p.seed + 3, n));
  const [pa, pb, pc, pBias] = [bench.put(type, A), bench.put(type, B), bench.put(type, C), bench.put(type, bias)];
  const bytes = BYTES[type];
  const { exports, scratch } = bench.kernels;
  // biome-ignore format: the order of the arguments is easier to see in rows
  (type === 'f32' ? exports.sgemm : exports.dgemm)(
    m, n, k,
    pa.at + a.start * bytes, a.row, a.col,
    pb.at + b.start * bytes, b.row, b.col,
    pc.at, cRow,
    p.start === 'bias' ? pBias.at : 0, p.start === 'accumulate' ? 1 : 0, p.relu ? 1 : 0,
    batch, aBatch, bBatch, cBatch, scratch,
  );
  const want = C.slice();
  const allowed = new Float64Array(C.length);
  for (let e = 0; e < batch; e++)
    for (let i = 0; i < m; i++)
      for (let j = 0; j < n; j++) {
        const at = e * cBatch + i * cRow + j;
        let sum = p.start === 'accumulate' ? C[at]! : p.start === 'bias' ? bias[j]! : 0;
        let scale = Math.abs(sum);
        for (let q = 0; q < k; q++) {
          const x = A[e * aBatch + a.start + i * a.row + q * a.col]! * B[e * bBatch + b.start + q * b.row + j * b.col]!;
          sum += x;
          scale += Math.abs(x);
        }
        want[at] = p.relu ? Math.max(sum, 0) : sum;
        allowed[at] = (k + 1) * EPS[type] * scale * 1.01;
      }
  const got = pc.view();
  for (let at = 0; at < want.length; at++)
    if (!(Math.abs(got[at]! - want[at]!) <= allowed[at]!) && !Object.is(got[at], want[at]))
      throw new Error(`element ${at} of C's memory: got ${got[at]}, expected ${want[at]} ± ${allowed[at]}`);
  for (const operand of [pa, pb, pc, pBias]) operand.free();
}

const PLAIN: Product = {
  ...{ type: 'f32', m: 40, n: 50, k: 60, a: 'rows', b: 'rows', gaps: [0, 0, 0], batch: 1, apart: 0, shared: false },
  ...{ start: 'nothing', relu: false, seed: 1 },
};

/** C ← (C +) A·Aᵀ of all of C's n × n memory and what lies beside its rows. */
function checkSyrk(bench: Bench, type: Type, n: number, k: number, l: Layout, gap: number, plus: boolean): void {
  const a = strides(l, n, k, gap);
  const cRow = n + gap;
  const A = Float32Array.from(random(n + k, a.span + 1));
  const C = Float32Array.from({ length: n * cRow }, (_, at) =>
    plus ? Math.sin(Math.floor(at / cRow) + (at % cRow)) : NaN,
  );
  const [pa, pc] = [bench.put(type, A), bench.put(type, C)];
  const { exports, scratch } = bench.kernels;
  const run = type === 'f32' ? exports.ssyrk : exports.dsyrk;
  run(n, k, pa.at + a.start * BYTES[type], a.row, a.col, pc.at, cRow, plus ? 1 : 0, scratch);
  const got = pc.view();
  for (let i = 0; i < n; i++)
    for (let j = 0; j < cRow; j++) {
      const at = i * cRow + j;
      if (j >= n) {
        if (!Object.is(got[at], C[at])) throw new Error(`[${i}, ${j}], outside of C, changed`);
        continue;
      }
      let sum = plus ? C[at]! : 0;
      for (let q = 0; q < k; q++) sum += A[a.start + i * a.row + q * a.col]! * A[a.start + j * a.row + q * a.col]!;
      if (!(Math.abs(got[at]! - sum) <= 2 * (k + 2) * EPS[type] * (k + 1)))
        throw new Error(`C[${i}, ${j}]: got ${got[at]}, expected ${sum}`);
      if (got[at] !== got[j * cRow + i]) throw new Error(`C[${i}, ${j}] is not C[${j}, ${i}]`);
    }
  pa.free();
  pc.free();
}

// --- convolutions -------------------------------------------------------------------------------------------------------

const geometry = fc
  .record({
    ...{ n: fc.nat(3), share: fc.integer({ min: 1, max: 6 }), m: fc.integer({ min: 1, max: 9 }) },
    groups: fc.constantFrom(1, 1, 2),
    ...{ h: fc.integer({ min: 1, max: 40 }), w: fc.integer({ min: 1, max: 40 }) },
    kernel: fc.tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 4 })),
    stride: fc.tuple(fc.constantFrom(1, 1, 2, 3), fc.constantFrom(1, 1, 2, 3)),
    padding: fc.tuple(fc.nat(3), fc.nat(3)),
    dilation: fc.tuple(fc.constantFrom(1, 1, 2), fc.constantFrom(1, 1, 2)),
  })
  .filter(g => output(g.h, g, 0) > 0 && output(g.w, g, 1) > 0);
type Geometry = { [K in 'kernel' | 'stride' | 'padding' | 'dilation']: readonly [number, number] } & {
  [K in 'n' | 'share' | 'm' | 'groups' | 'h' | 'w']: number;
};
const output = (length: number, g: Omit<Geometry, 'n' | 'share' | 'm' | 'groups' | 'h' | 'w'>, axis: 0 | 1) =>
  Math.floor((length + 2 * g.padding[axis] - g.dilation[axis] * (g.kernel[axis] - 1) - 1) / g.stride[axis]) + 1;

/** All three convolutions, against the kernels' own. Returns how many of them the library did. */
function checkConvolutions(bench: Bench, type: Type, g: Geometry): number {
  const { n, h, w, groups } = g;
  const [c, o] = [g.share * groups, g.m * groups];
  const [ho, wo] = [output(h, g, 0), output(w, g, 1)];
  const elements = g.share * g.kernel[0] * g.kernel[1];
  const sizes = [n, c, h, w, o, ...g.kernel, ho, wo, ...g.stride, ...g.padding, ...g.dilation, groups] as const;
  const lengths = { x: n * c * h * w, weights: o * elements, y: n * o * ho * wo };
  const [x, weights, y] = Object.values(lengths).map((length, i) => bench.put(type, random(i + 1, length))) as [
    ReturnType<Bench['put']>,
    ReturnType<Bench['put']>,
    ReturnType<Bench['put']>,
  ];
  const { exports, compiled, scratch } = bench.kernels;
  let taken = 0;
  for (const [name, a, b, length, terms] of [
    [`convForward_${type}`, x, weights, lengths.y, elements],
    [`convInputGrad_${type}`, y, weights, lengths.x, g.m * g.kernel[0] * g.kernel[1]],
    [`convWeightGrad_${type}`, x, y, lengths.weights, n * ho * wo],
  ] as const) {
    const [got, want] = [
      bench.put(type, new Float64Array(length).fill(NaN)),
      bench.put(type, new Float64Array(length)),
    ];
    compiled[name](...sizes, a.at, b.at, want.at, scratch);
    taken += 1 - bench.fallsThrough(name, () => exports[name](...sizes, a.at, b.at, got.at, scratch));
    const [mine, theirs] = [got.view(), want.view()];
    for (let i = 0; i < length; i++)
      if (!(Math.abs(mine[i]! - theirs[i]!) <= 2 * (terms + 1) * EPS[type] * (terms + 1)))
        throw new Error(`${name}: element ${i} is ${mine[i]}, expected ${theirs[i]}: ${JSON.stringify(g)}`);
    got.free();
    want.free();
  }
  for (const operand of [x, weights, y]) operand.free();
  return taken;
}

const IMAGES: Geometry = {
  ...{ n: 2, share: 8, m: 16, groups: 1, h: 14, w: 14 },
  ...{ kernel: [3, 3], stride: [1, 1], padding: [1, 1], dilation: [1, 1] },
};

for (const [index, library] of OPENBLAS.entries()) {
  test(library, async t => {
    const blas = await openBlas(library);
    const bench = new Bench(blas, index === 1);

    t.test('says what it is', async t => {
      t.match(blas.info, { library, kind: 'OpenBLAS', threads: 1, config: /^OpenBLAS \d/ });
      t.equal(blas.info.config.includes('USE64BITINT'), index === 1);
    });

    law(t, 'C ← A·B + (C or bias), clipped or not, for any strides, batches and sizes; nothing else is written', () => {
      fc.assert(
        fc.property(product, p => checkProduct(bench, p)),
        { seed: 5, numRuns: 400 },
      );
    });

    t.test('what CBLAS can express and is worth a call goes there, the rest stays', async t => {
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

    t.test('convolutions whose patches fill one tile, several, or none', async t => {
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

// --- useBlas --------------------------------------------------------------------------------------------------------------

/** Losses of three steps, and what the parameters are then. */
function training(model: AnyModule, shape: number[]): number[] {
  const optimizer = new Adam(model.parameters(), { lr: 1e-2 });
  manualSeed(3);
  const losses: number[] = [];
  for (let i = 0; i < 3; i++) {
    const [x, y] = [randn(shape), randint(0, 10, [shape[0]!])];
    optimizer.zeroGrad();
    const loss = crossEntropy(model.call(x) as Tensor, y);
    loss.backward();
    optimizer.step();
    losses.push(loss.item());
  }
  return [...losses, ...[...model.parameters()].flatMap(p => Array.from(p.dataSync().slice(0, 50)))];
}
const models = {
  mlp: () => {
    manualSeed(1);
    return training(mlp([100, 90, 10]), [64, 100]);
  },
  cnn: () => {
    manualSeed(2);
    const model = new Sequential(
      ...[new Conv2d(1, 8, 3, { padding: 1 }), new ReLU(), new MaxPool2d(2)],
      ...[new Conv2d(8, 16, 3, { padding: 1 }), new ReLU(), new MaxPool2d(2)],
      ...[new Flatten(), new Linear(16 * 49, 10)],
    );
    return training(model, [16, 1, 28, 28]);
  },
};

test('training with it is training without it up to rounding, and releaseBlas gives every bit back', async t => {
  const all = () => Object.values(models).map(run => run());
  const product = () => {
    manualSeed(9);
    return randn([90, 1000])
      .matmul(randn([1000, 80]))
      .dataSync()
      .slice();
  };
  const before = [...all(), product()];
  const info = await useBlas();
  t.match(info, { kind: 'OpenBLAS', threads: 1 });
  const during = [...all(), product()];
  for (const [i, values] of during.entries())
    allclose(t, Array.from(values), Array.from(before[i]!), { rtol: 1e-3, atol: 1e-4 });
  t.strictNotSame(during[2], before[2], 'the library adds up in another order');
  t.equal((await useBlas('libopenblas64.so.0', { threads: 2 })).threads, 2, 'another replaces it');
  allclose(t, Array.from(product()), Array.from(before[2]!), { rtol: 1e-3, atol: 1e-4 });
  releaseBlas();
  releaseBlas();
  t.strictSame([...all(), product()], before);
});

test('threads of the kernels change no bit of what is computed beside it', async t => {
  const all = () => Object.values(models).map(run => run());
  await useBlas();
  const one = all();
  await setThreads(2);
  t.strictSame(all(), one);
  releaseBlas();
  await setThreads(1);
});

test('eigh, cholesky and inverse by LAPACK are those of the kernels, on every family', async t => {
  const { override: _, info: __, ...lapack } = await openBlas();
  t.teardown(() => setSolver(null));
  const all = { ...families, ...wideFamilies, ...narrowFamilies };
  for (const [name, make] of Object.entries(all))
    for (const narrow of [false, true]) {
      if (narrow && name in wideFamilies) continue;
      const a = narrow ? toFloat32(make(60)) : make(60);
      const precision = narrow ? 'float32' : 'float64';
      setSolver(null);
      const plain = eigh(a, { precision });
      setSolver(lapack);
      const { values, vectors } = eigh(a, { precision });
      const largest = Math.max(...entries(plain.values).map(Math.abs));
      const tolerance = 60 * (narrow ? EPS.f32 : EPS.f64) * 10 * largest;
      const wanted = entries(plain.values);
      const worst = entries(values).reduce((max, x, i) => Math.max(max, Math.abs(x - wanted[i]!)), 0);
      t.ok(worst <= tolerance, `${name}: values ${worst} ≤ ${tolerance}`);
      let off = 0;
      for (let i = 0; i < 60; i++)
        for (let j = 0; j < 60; j++) {
          let image = 0;
          for (let k = 0; k < 60; k++) image += a.get(i, k) * vectors.get(k, j);
          off = Math.max(off, Math.abs(image - values.get(j) * vectors.get(i, j)));
        }
      t.ok(off <= tolerance, `${name}: ‖A V − V Λ‖ ${off} ≤ ${tolerance}`);
    }
  const definite = symmetric(80, (i, j) => (i === j ? 2 : 0) + 1 / (1 + j - i));
  const indefinite = symmetric(80, (i, j) => (i === j ? (i === 50 ? -1 : 2) : 0));
  setSolver(null);
  const plain = [cholesky(definite), inverse(definite), cholSolve(cholesky(definite), gaussian(80, 3))];
  setSolver(lapack);
  const native = [cholesky(definite), inverse(definite), cholSolve(cholesky(definite), gaussian(80, 3))];
  for (const [i, x] of native.entries()) allclose(t, entries(x), entries(plain[i]!), { rtol: 1e-11, atol: 1e-13 });
  t.throws(() => cholesky(indefinite), { name: 'NotPositiveDefiniteError', pivot: 50, value: -1 });
  t.throws(() => inverse(indefinite), NotPositiveDefiniteError);
  t.throws(() => eigh(ndarray(Float64Array.of(1, NaN, NaN, 1), [2, 2])), /expected finite numbers/);
});

test('useBlas gives large matrices to LAPACK, and releaseBlas takes them back', async t => {
  const same = (x: number[], y: number[]) => x.every((value, i) => Object.is(value, y[i]));
  const [a, small] = [gram(520, 530, 5), gram(100, 110, 5)];
  const results = () => [entries(cholesky(a)), entries(cholesky(small))] as const;
  const [large, little] = results();
  await useBlas();
  const native = results();
  t.equal(difference(native[0], large, { rtol: 1e-6, atol: 1e-10 }), null);
  t.notOk(same(native[0], large));
  t.ok(same(native[1], little), 'small ones stay with the kernels');
  releaseBlas();
  const after = results();
  t.ok(same(after[0], large) && same(after[1], little));
});

test('what is missing is named, and all stays as it was', async t => {
  const product = () => {
    manualSeed(9);
    return randn([90, 1000])
      .matmul(randn([1000, 80]))
      .dataSync()
      .slice();
  };
  const plain = product();
  const { library } = await useBlas();
  const native = product();
  const refused = async (expected: RegExp, ...x: Parameters<typeof useBlas>) => {
    await t.rejects(useBlas(...x), { message: expected });
    t.strictSame(product(), native, 'the one in use stays');
  };
  await refused(
    /^useBlas: found no \/nowhere\/libblas\.so\. .*apt install libopenblas0.*brew install openblas.*useBlas\('\/path/,
    '/nowhere/libblas.so',
  );
  await refused(/^useBlas: libc\.so\.6 has no cblas_sgemm, /, 'libc.so.6');
  for (const threads of [0, 1.5, NaN])
    await refused(/^useBlas: expected a positive whole number of threads, got/, library, { threads });
  releaseBlas();
  t.strictSame(product(), plain);

  const cpu = getBackend('cpu');
  registerBackend(new ReferenceBackend('cpu'));
  await t.rejects(useBlas(), {
    message: /^useBlas: expected the WebAssembly backend as the device 'cpu', got one in plain TypeScript/,
  });
  registerBackend(cpu);
});

test('bundled: without koffi, with it, and for a browser', async t => {
  // Outside of the repository, whose node_modules has koffi.
  const folder = mkdtempSync(join(tmpdir(), 'otimes-blas-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const bundle = async (platform: 'node' | 'browser') => {
    const outfile = join(folder, `${platform}.mjs`);
    await build({
      stdin: {
        contents: `import { tensor, useBlas } from '@otimes/core';
        const x = tensor(new Float32Array(40000).fill(1), { shape: [200, 200] });
        const said = await useBlas().then(info => info.kind, error => error.message);
        console.log(JSON.stringify([said, x.matmul(x).dataSync()[39999]]));`,
        resolveDir: import.meta.dirname,
      },
      ...{ bundle: true, format: 'esm', platform, outfile, logLevel: 'silent', minify: true },
      conditions: ['@otimes/source'],
      // ndarray is CommonJS.
      banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
    });
    return outfile;
  };
  const run = (file: string) => {
    const { stdout, stderr, status } = spawnSync('env', ['-i', process.execPath, file], { encoding: 'utf8' });
    t.equal(status, 0, `${file} ends by itself: ${stderr}`);
    return JSON.parse(stdout) as unknown[];
  };
  const forNode = await bundle('node');
  t.match(run(forNode), [/^useBlas: the package koffi, .*npm install koffi .*'koffi'/, 200]);
  mkdirSync(join(folder, 'node_modules'));
  const koffi = dirname(createRequire(import.meta.url).resolve('koffi'));
  symlinkSync(koffi, join(folder, 'node_modules/koffi'));
  t.strictSame(run(forNode), ['OpenBLAS', 200]);
  const forBrowser = await bundle('browser');
  t.notMatch(readFileSync(forBrowser, 'utf8'), /koffi|cblas|openblas_/);
  t.strictSame(run(forBrowser), ['useBlas: native libraries need Node; here the WebAssembly kernels do the work', 200]);
});

test('the reference backend agrees, through tensors', async t => {
  await useBlas();
  for (const dtype of ['float32', 'float64'] as const)
    for (const [left, right] of [
      [
        [70, 50],
        [50, 60],
      ],
      [
        [3, 40, 50],
        [50, 60],
      ],
      [
        [2, 3, 40, 50],
        [3, 50, 60],
      ],
      [
        [40, 3, 50],
        [40, 50, 1],
      ],
    ] as const) {
      const [a, b] = [randn([...left], { dtype }), randn([...right], { dtype })];
      const expected = a.to('reference').matmul(b.to('reference'));
      allclose(t, a.matmul(b), expected.to('cpu'), { rtol: 1e-4, atol: dtype === 'float32' ? 1e-4 : 1e-11 });
    }
  releaseBlas();
});
