// Products, rank-k updates and convolutions by a native BLAS, against their definitions.

import { createKernels, type Exports, images, type Kernels, type NativeBlas } from '@otimes/kernels';
import fc from 'fast-check';

export const TYPES = ['f32', 'f64'] as const;
export type Type = (typeof TYPES)[number];
export const BYTES = { f32: 4, f64: 8 };
export const EPS = { f32: 2 ** -24, f64: 2 ** -53 };

/** Kernels with the library on top, and a count of the calls that it left to them. */
export class Bench {
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

export function random(seed: number, length: number): Float64Array {
  let state = seed | 0 || 1;
  return Float64Array.from({ length }, () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state / 2 ** 31;
  });
}

export type Layout = 'rows' | 'columns' | 'gaps' | 'repeated' | 'backwards';
/** Row and column stride of an r × c matrix in elements, where it starts, and what it spans. */
export function strides(layout: Layout, r: number, c: number, gap: number) {
  if (layout === 'rows') return { row: c + gap, col: 1, start: 0, span: r * (c + gap) };
  if (layout === 'columns') return { row: 1, col: r + gap, start: 0, span: c * (r + gap) };
  if (layout === 'gaps') return { row: 2 * c + gap, col: 2, start: 0, span: r * (2 * c + gap) + 2 };
  if (layout === 'repeated') return { row: 0, col: 1, start: 0, span: c };
  return { row: -c, col: 1, start: Math.max(0, r - 1) * c, span: r * c };
}
export const size = fc.oneof(
  { arbitrary: fc.constantFrom(0, 1, 2, 3), weight: 2 },
  { arbitrary: fc.integer({ min: 4, max: 70 }), weight: 4 },
);
export const layout = fc.oneof(
  { arbitrary: fc.constantFrom<Layout>('rows', 'columns'), weight: 4 },
  { arbitrary: fc.constantFrom<Layout>('gaps', 'repeated', 'backwards'), weight: 1 },
);
export const product = fc.record({
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
export type Product = typeof product extends fc.Arbitrary<infer P> ? P : never;

/** Runs the product on the bench and compares all of C's memory with the definition. */
export function checkProduct(bench: Bench, p: Product): void {
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

/** C ← (C +) A·Aᵀ of all of C's n × n memory and what lies beside its rows. */
export function checkSyrk(bench: Bench, type: Type, n: number, k: number, l: Layout, gap: number, plus: boolean): void {
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

export const geometry = fc
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
export type Geometry = { [K in 'kernel' | 'stride' | 'padding' | 'dilation']: readonly [number, number] } & {
  [K in 'n' | 'share' | 'm' | 'groups' | 'h' | 'w']: number;
};
export const output = (length: number, g: Omit<Geometry, 'n' | 'share' | 'm' | 'groups' | 'h' | 'w'>, axis: 0 | 1) =>
  Math.floor((length + 2 * g.padding[axis] - g.dilation[axis] * (g.kernel[axis] - 1) - 1) / g.stride[axis]) + 1;

/** All three convolutions, against the kernels' own. Returns how many of them the library did. */
export function checkConvolutions(bench: Bench, type: Type, g: Geometry): number {
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
  const exports = bench.kernels.load(images);
  const compiled = bench.kernels.compiled as typeof exports;
  const { scratch } = bench.kernels;
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
