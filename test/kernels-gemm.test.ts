// The laws of the matrix products in @otimes/kernels, for both variants and both dtypes, against plain loops in float64.
import {
  createKernels,
  type FloatType,
  type Gemm,
  gemm,
  instantiate,
  type Kernels,
  Memory,
  syrk,
  variants,
} from '@otimes/kernels';
import fc from 'fast-check';
import t from 'tap';
import { law } from './helpers/law.ts';

const EPS = { float32: 2 ** -24, float64: 2 ** -53 };
const BYTES = { float32: 4, float64: 8 };
const NUM_RUNS = 150;

/** Seeded numbers in [−1, 1). */
function random(seed: number): () => number {
  let state = seed | 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state / 2 ** 31;
  };
}

type Layout = 'rows' | 'columns' | 'gaps';
/** Strides of an r × c matrix, and how many elements it spans. */
function strides(layout: Layout, r: number, c: number, gap: number): { row: number; col: number; span: number } {
  if (layout === 'rows') return { row: c + gap, col: 1, span: r * (c + gap) };
  if (layout === 'columns') return { row: 1, col: r + gap, span: c * (r + gap) };
  return { row: 2 * c + gap, col: 2, span: r * (2 * c + gap) + 2 };
}

const size = fc.oneof(
  { arbitrary: fc.integer({ min: 0, max: 40 }), weight: 4 },
  { arbitrary: fc.constantFrom(0, 1, 2, 5, 6, 8, 12, 16, 30), weight: 3 },
  { arbitrary: fc.integer({ min: 41, max: 130 }), weight: 1 },
);
const layout = fc.constantFrom<Layout>('rows', 'columns', 'gaps');
const problem = fc.record({
  dtype: fc.constantFrom<FloatType>('float32', 'float64'),
  m: size,
  n: size,
  k: size,
  aLayout: layout,
  bLayout: layout,
  gaps: fc.tuple(fc.nat(3), fc.nat(3), fc.nat(3)),
  /** Elements between a 64-byte boundary and each operand. */
  offsets: fc.tuple(fc.nat(5), fc.nat(5), fc.nat(5)),
  start: fc.constantFrom<'nothing' | 'accumulate' | 'bias'>('nothing', 'accumulate', 'bias'),
  relu: fc.boolean(),
  batch: fc.constantFrom(1, 1, 1, 2, 3),
  seed: fc.integer(),
});
type Problem = typeof problem extends fc.Arbitrary<infer P> ? P : never;

/** Lays the operands out in fresh random memory; returns the call, its inputs as plain arrays and what frees them. */
function setUp(kernels: Kernels, p: Problem) {
  const { dtype, m, n, k } = p;
  const bytes = BYTES[dtype];
  const a = strides(p.aLayout, m, k, p.gaps[0]);
  const b = strides(p.bLayout, k, n, p.gaps[1]);
  const cRow = n + p.gaps[2];
  const lengths = [a.span * p.batch, b.span * p.batch, m * cRow * p.batch, n].map(
    (x, i) => x + (p.offsets[i] ?? 0) + 8,
  );
  const blocks = lengths.map(length => kernels.heap.allocate(length * bytes)!);
  const next = random(p.seed);
  const view = (i: number) => {
    const whole = dtype === 'float32' ? kernels.memory.f32 : kernels.memory.f64;
    const at = blocks[i]!.pointer / bytes;
    return whole.subarray(at, at + lengths[i]!);
  };
  for (let i = 0; i < 4; i++) {
    const elements = view(i);
    for (let j = 0; j < elements.length; j++) elements[j] = next();
  }
  const address = (i: number) => blocks[i]!.pointer + (p.offsets[i] ?? 0) * bytes;
  const call: Gemm = {
    dtype,
    m,
    n,
    k,
    ...{ a: address(0), aRow: a.row, aCol: a.col, aBatch: a.span },
    ...{ b: address(1), bRow: b.row, bCol: b.col, bBatch: b.span },
    ...{ c: address(2), cRow, cBatch: m * cRow },
    accumulate: p.start === 'accumulate',
    bias: p.start === 'bias' ? address(3) : 0,
    relu: p.relu,
    batch: p.batch,
  };
  const release = () => {
    for (const block of blocks) kernels.heap.release(block);
  };
  return { call, view, before: [0, 1, 2, 3].map(i => view(i).slice()), release };
}

/** Compares every element of C's memory with the definition. */
function expectProduct(p: Problem, { call: g, view, before }: ReturnType<typeof setUp>): void {
  const [A, B, C, bias] = before.map(x => Float64Array.from(x)) as [
    Float64Array,
    Float64Array,
    Float64Array,
    Float64Array,
  ];
  const got = view(2);
  const offset = p.offsets[2];
  const written = new Set<number>();
  for (let e = 0; e < p.batch; e++)
    for (let i = 0; i < g.m; i++)
      for (let j = 0; j < g.n; j++) {
        const at = offset + e * g.cBatch! + i * g.cRow + j;
        written.add(at);
        let sum = p.start === 'accumulate' ? C[at]! : p.start === 'bias' ? bias[j]! : 0;
        let scale = Math.abs(sum);
        for (let q = 0; q < g.k; q++) {
          const x =
            A[p.offsets[0] + e * g.aBatch! + i * g.aRow + q * g.aCol]! *
            B[p.offsets[1] + e * g.bBatch! + q * g.bRow + j * g.bCol]!;
          sum += x;
          scale += Math.abs(x);
        }
        const want = p.relu ? Math.max(sum, 0) : sum;
        const allowed = (g.k + 1) * EPS[p.dtype] * scale * 1.01;
        if (!(Math.abs(got[at]! - want) <= allowed))
          throw new Error(`C[${e}][${i}, ${j}]: got ${got[at]}, expected ${want} ± ${allowed}`);
      }
  for (let at = 0; at < C.length; at++)
    if (!written.has(at) && got[at] !== C[at])
      throw new Error(`element ${at} of C's memory, which is not part of C, changed`);
}

function expectSame(got: ArrayLike<number>, want: ArrayLike<number>): void {
  for (let i = 0; i < want.length; i++)
    if (!Object.is(got[i], want[i])) throw new Error(`element ${i}: got ${got[i]}, expected ${want[i]}`);
}

const plain = { gaps: [0, 0, 0], offsets: [0, 0, 0], start: 'nothing', relu: false, batch: 1, seed: 1 } as const;
const mutable = (p: object): Problem => ({ ...plain, ...p }) as unknown as Problem;

for (const variant of variants()) {
  t.test(variant, async t => {
    const kernels = createKernels({ variant, memory: { initial: 2 ** 26 } })!;

    const check = (p: Problem) => {
      const s = setUp(kernels, p);
      gemm(kernels, s.call);
      expectProduct(p, s);
      s.release();
    };

    law(t, 'C ← A·B + (C or bias), clipped or not, for any strides and offsets; nothing else is written', () => {
      fc.assert(fc.property(problem, check), { seed: 1, numRuns: NUM_RUNS * 8 });
    });

    law(t, 'shapes beyond one cache block in each direction', () => {
      for (const dtype of ['float32', 'float64'] as const)
        for (const [m, n, k] of [
          [13, 9, 700],
          [401, 21, 30],
          [9, 1931, 40],
          [205, 103, 270],
          // Few rows or columns, of which there is another way for those that are contiguous along k.
          [10, 2003, 70],
          [11, 133, 1100],
          [2, 300, 301],
          [37, 10, 1100],
        ])
          for (const [aLayout, bLayout] of [
            ['rows', 'rows'],
            ['columns', 'columns'],
            ['rows', 'columns'],
          ])
            check(mutable({ dtype, m, n, k, aLayout, bLayout, start: 'accumulate' }));
    });

    law(t, 'an operand that is broadcast (stride 0) is repeated', () => {
      const s = setUp(
        kernels,
        mutable({ dtype: 'float32', m: 7, n: 9, k: 11, aLayout: 'rows', bLayout: 'rows', batch: 2 }),
      );
      gemm(kernels, { ...s.call, aRow: 0, bBatch: 0 });
      const c = s.view(2);
      for (let i = 1; i < 7; i++) expectSame(c.slice(i * 9, i * 9 + 9), c.slice(0, 9));
      for (let i = 7; i < 14; i++) expectSame(c.slice(i * 9, i * 9 + 9), c.slice(63, 72));
      s.release();
    });

    law(t, 'NaN and ∞ reach exactly the elements that depend on them', () => {
      for (const dtype of ['float32', 'float64'] as const)
        for (const [m, n, k] of [
          [7, 11, 13],
          [1, 9, 20],
          [9, 1, 20],
          [60, 40, 300],
        ] as const) {
          const s = setUp(kernels, mutable({ dtype, m, n, k, aLayout: 'rows', bLayout: 'rows' }));
          s.view(0).fill(1);
          s.view(1).fill(1);
          s.view(0)[(m - 1) * k + 3] = NaN;
          s.view(1)[4 * n + n - 1] = -Infinity;
          for (const relu of [false, true]) {
            gemm(kernels, { ...s.call, relu });
            const c = s.view(2);
            for (let i = 0; i < m; i++)
              for (let j = 0; j < n; j++) {
                const want = i === m - 1 ? NaN : j === n - 1 ? (relu ? 0 : -Infinity) : k;
                const got = c[i * n + j]!;
                if (!Object.is(got, want)) throw new Error(`[${i}, ${j}]: got ${got}, expected ${want}`);
              }
          }
          s.release();
        }
    });

    law(t, 'rows and columns computed apart are those of the whole, bit for bit', () => {
      fc.assert(
        fc.property(problem, fc.integer({ min: 13, max: 30 }), (p, at) => {
          fc.pre(p.m >= at + 13 && p.n >= at + 13);
          const s = setUp(kernels, p);
          gemm(kernels, s.call);
          const whole = s.view(2).slice();
          s.view(2).set(s.before[2]!);
          const bytes = BYTES[p.dtype];
          const g = s.call;
          const upper = { ...g, m: at };
          const lower = { ...g, m: g.m - at, a: g.a + at * g.aRow * bytes, c: g.c + at * g.cRow * bytes };
          for (const half of [upper, lower]) {
            gemm(kernels, { ...half, n: at });
            const bias = half.bias === 0 ? 0 : half.bias! + at * bytes;
            gemm(kernels, { ...half, n: g.n - at, b: g.b + at * g.bCol * bytes, c: half.c + at * bytes, bias });
          }
          expectSame(s.view(2), whole);
          s.release();
        }),
        { seed: 2, numRuns: NUM_RUNS },
      );
    });

    law(t, 'a shared memory gives the same bits', () => {
      const memory = Memory.create({ initial: 2 ** 23, maximum: 2 ** 24, shared: true })!;
      const exports = instantiate(memory.wasm, { variant })!;
      const s = setUp(kernels, mutable({ dtype: 'float32', m: 20, n: 30, k: 50, aLayout: 'columns', bLayout: 'rows' }));
      gemm(kernels, s.call);
      const view = memory.f32;
      const [a, b, c, scratch] = [65536, 2 * 65536, 3 * 65536, 4 * 65536];
      view.set(s.before[0]!, a / 4);
      view.set(s.before[1]!, b / 4);
      const { m, n, k, aRow, aCol, bRow, bCol, cRow } = s.call;
      exports.sgemm(m, n, k, a, aRow, aCol, b, bRow, bCol, c, cRow, 0, 0, 0, 1, 0, 0, 0, scratch);
      expectSame(view.slice(c / 4, c / 4 + m * n), s.view(2).slice(0, m * n));
      s.release();
    });

    law(t, 'syrk: C ← (C +) A·Aᵀ, exactly symmetric, also for Aᵀ·A', () => {
      const symmetric = fc.record({ p: problem, accumulate: fc.boolean() });
      fc.assert(
        fc.property(symmetric, ({ p, accumulate }) => {
          const q = {
            ...p,
            m: p.n,
            bLayout: p.aLayout === 'rows' ? 'columns' : 'rows',
            batch: 1,
            relu: false,
          } as const;
          const s = setUp(kernels, { ...q, start: accumulate ? 'accumulate' : 'nothing' });
          const { n, k, dtype, a, aRow, aCol, c, cRow } = s.call;
          const at = (i: number, j: number) => q.offsets[2] + i * cRow + j;
          const C = s.view(2);
          for (let i = 0; i < n; i++) for (let j = 0; j < i; j++) C[at(j, i)] = C[at(i, j)]!;
          const before = C.slice();
          syrk(kernels, { dtype, n, k, a, aRow, aCol, c, cRow, accumulate });
          const A = s.before[0]!;
          for (let i = 0; i < n; i++)
            for (let j = 0; j < n; j++) {
              let sum = accumulate ? before[at(i, j)]! : 0;
              for (let x = 0; x < k; x++)
                sum += A[q.offsets[0] + i * aRow + x * aCol]! * A[q.offsets[0] + j * aRow + x * aCol]!;
              if (!Object.is(C[at(i, j)], C[at(j, i)])) throw new Error(`not symmetric at [${i}, ${j}]`);
              if (!(Math.abs(C[at(i, j)]! - sum) <= (k + 1) * (k + 1) * EPS[dtype]))
                throw new Error(`[${i}, ${j}]: got ${C[at(i, j)]}, expected ${sum}`);
            }
          s.release();
        }),
        { seed: 3, numRuns: NUM_RUNS },
      );
    });

    law(t, 'a bias and accumulate exclude each other', async t => {
      const s = setUp(kernels, mutable({ dtype: 'float32', m: 2, n: 2, k: 2, aLayout: 'rows', bLayout: 'rows' }));
      t.throws(() => gemm(kernels, { ...s.call, accumulate: true, bias: s.call.a }), { name: 'RangeError' });
    });
  });
}
