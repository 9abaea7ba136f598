// Every kernel on several threads gives the bits of one.

import {
  attention,
  createKernels,
  type Element,
  images,
  type Kernels,
  math,
  normalize,
  Threads,
  variants,
} from '@otimes/kernels';
import fc from 'fast-check';
import t from 'tap';
import { noise } from './helpers/kernels.ts';
import { law } from './helpers/law.ts';

const NUM_RUNS = 25;
/** So that calls of any size are cut. */
const TINY = { least: 0, piece: 1e-9, line: 1 };

/** Slots of memory in which the operands of a call lie; what they hold depends on how it is read. */
const SLOT = 2 ** 16;
const SLOTS = { floats: [0, 1, 2, 3, 4], out: [5, 6, 7], bool: [8, 9], index: 10 };
const COUNT = 11;
/** Bytes to work in that calls have beside them, for all threads. */
const WORK = 2 ** 22;

class Bench {
  readonly kernels: Kernels;
  readonly work: number;
  readonly #at: number;
  readonly #before: Uint8Array;

  constructor(kernels: Kernels) {
    this.kernels = kernels;
    this.work = kernels.heap.pool.alloc(WORK);
    this.#at = kernels.heap.pool.alloc(COUNT * SLOT);
    const next = noise(3);
    const bytes = COUNT * SLOT;
    const floats = kernels.memory.f32.subarray(this.#at / 4, (this.#at + bytes) / 4);
    for (let i = 0; i < floats.length; i++) floats[i] = next();
    const u8 = kernels.memory.u8.subarray(this.#at, this.#at + bytes);
    for (const slot of SLOTS.bool) for (let i = slot * SLOT; i < (slot + 1) * SLOT; i++) u8[i] = next() < 0 ? 0 : 1;
    this.#before = u8.slice();
  }

  slot(i: number): number {
    return this.#at + i * SLOT;
  }

  float = (i: number) => this.slot(SLOTS.floats[i]!);
  out = (i = 0) => this.slot(SLOTS.out[i]!);
  /** Where an operand of a type may lie. */
  operand = (type: Element, i: number) => (type === 'bool' ? this.slot(SLOTS.bool[i % 2]!) : this.float(i));
  /** int32 indices below `length`. */
  indices(length: number): number {
    const at = this.slot(SLOTS.index);
    const next = noise(length);
    const i32 = this.kernels.memory.i32.subarray(at / 4, (at + SLOT) / 4);
    for (let i = 0; i < i32.length; i++) i32[i] = Math.floor(((next() + 1) / 2) * length);
    return at;
  }

  /** All the memory and the result after a call that begins with what the slots held at first. */
  after(call: () => unknown): { memory: Uint8Array; result: unknown } {
    const end = this.slot(SLOTS.index);
    const u8 = this.kernels.memory.u8.subarray(this.#at, end);
    u8.set(this.#before.subarray(0, u8.length));
    const result = call() ?? 0;
    return { memory: this.kernels.memory.u8.slice(this.#at, end), result };
  }
}

/** Lengths and flags of a call; each kernel takes as many as it needs. */
const draws = fc.record({
  d: fc.array(fc.oneof(fc.constantFrom(0, 1, 2, 3, 4, 6, 8, 9), fc.nat(23)), { minLength: 4, maxLength: 4 }),
  n: fc.oneof(fc.constantFrom(0, 1, 2, 3, 5, 63, 64, 65), fc.nat(2000)),
  flags: fc.array(fc.boolean(), { minLength: 6, maxLength: 6 }),
});
type Draw = typeof draws extends fc.Arbitrary<infer D> ? D : never;

/** The arguments of a call of a family for operands of these types; `name` tells families apart that share a signature. */
type Call = (b: Bench, draw: Draw, types: Element[], name: string) => number[];

/** Two strides of a matrix: dense, a row, a column, one element, transposed or with gaps. */
function strides(rows: number, cols: number, [x, y, z]: readonly boolean[]): [number, number] {
  if (x) return y ? [cols, 1] : z ? [1, rows] : [cols + 3, 1];
  return y ? [0, 1] : z ? [1, 0] : [0, 0];
}
/** The same without a stride of 0, for results. */
const spread = (rows: number, cols: number, [, y, z]: readonly boolean[]): [number, number] =>
  y ? [cols, 1] : z ? [1, rows] : [cols + 3, 1];

const unary: Call = (b, { n }, [type]) => [n, b.operand(type!, 0), b.out()];
const backward: Call = (b, { n }) => [n, b.float(0), b.float(1), b.out()];
const binary: Call = (b, { d: [rows = 0, cols = 0], n, flags }, [type]) => {
  const line = flags[5]!;
  const [r, c] = line ? [1, n] : [rows, cols];
  const [left, right] = [strides(r, c, flags), strides(r, c, flags.slice(2))];
  return [r, c, b.operand(type!, 0), ...left, b.operand(type!, 1), ...right, b.out()];
};
const rowwise: Call = (b, { d: [rows = 0, cols = 0] }) => [rows, cols, b.float(0), b.out()];
const reduce: Call = (b, { d: [outer = 0, length = 0, inner = 0], flags }) => {
  const along = Math.max(length, 1); // extrema of nothing are not asked for
  return [flags[0] ? outer : 1, along, flags[1] ? inner : 1, b.float(0), b.out()];
};
const geometry = ({ d: [n = 0, c = 0, h = 0, o = 0], flags }: Draw) => {
  const groups = flags[0] ? 2 : 1;
  const [k, s, p, dilation] = [flags[1] ? 3 : 1, flags[2] ? 2 : 1, flags[3] ? 1 : 0, flags[4] ? 2 : 1];
  const [rows, cols] = [(h % 6) + 5, 7];
  const out = (length: number) => Math.floor((length + 2 * p - dilation * (k - 1) - 1) / s) + 1;
  const channels = groups * ((c % 2) + 1);
  const outputs = groups * ((o % 7) + 1);
  const sizes = [n % 5, channels, rows, cols, outputs, k, k, out(rows), out(cols)];
  return [...sizes, s, s, p, p, dilation, dilation, groups];
};
const conv: Call = (b, draw) => [...geometry(draw), b.float(0), b.float(1), b.out(), b.kernels.scratch];
const winograd =
  (kind: 0 | 1 | 2): Call =>
  (b, { d: [n = 0, c = 0, h = 0, o = 0], flags }) => {
    const p = flags[0] ? 1 : flags[1] ? 2 : 0;
    const sizes = [n % 6, c + 1, (h % 9) + 3, 7, o + 1, p] as const;
    const exports = b.kernels.load(images);
    const bytes = exports.winogradScratch(kind, ...sizes);
    if (3 * bytes > WORK) throw new RangeError(`${bytes} bytes for each of three threads`);
    const operands = [b.float(0), b.float(1), ...(kind === 0 ? [flags[2] ? b.float(2) : 0] : []), b.out()];
    return [...sizes, ...operands, b.work, bytes, exports.winogradUnits(kind, ...sizes)];
  };
const planes: Call = (b, draw, [type]) => {
  const [n, channels, h, w, outputs, ...rest] = geometry(draw) as [number, number, number, number, number];
  const kind = [0, 1, 2][draw.n % 3]!;
  const sizes = [n, channels, h, w, Math.ceil(outputs / channels), ...rest.slice(0, -1)];
  const bytes = (b.kernels.load(images).depthwiseScratch as Planes)(kind, type === 'f32' ? 4 : 8, ...sizes);
  const bias = draw.flags[5] ? b.float(2) : 0;
  return [kind, ...sizes, b.float(0), b.float(1), bias, b.out(), b.work, bytes];
};
type Planes = (...x: number[]) => number;
const windows = ({ d: [n = 0, h = 0], flags }: Draw) => {
  const [k, s, p] = [flags[1] ? 3 : 2, flags[2] ? 2 : 1, flags[3] ? 1 : 0];
  const [rows, cols] = [(h % 8) + 3, 9];
  const out = (length: number) => Math.floor((length + 2 * p - k) / s) + 1;
  return [n, rows, cols, out(rows), out(cols), k, k, s, s, p, p];
};
const indexed: Call = (b, { d: [outer = 0, length = 0, inner = 0, count = 0], flags }, [type]) => {
  const sizes = [flags[0] ? Math.min(outer, 6) : 1, Math.max(length, 1), inner, count];
  return [...sizes, b.operand(type!, 0), b.indices(sizes[1]!), b.out()];
};
const gemm =
  (size: number): Call =>
  (b, { d, flags }) => {
    // One product alone is larger: only one of many rows and columns is cut by them.
    const [m, n, k, batch] = flags[5] ? [d[0]!, d[1]!, d[2]!, d[3]! % 9] : [3 * d[0]!, 3 * d[1]!, 4 * d[2]!, 1];
    const a = flags[0] ? [k, 1] : [1, m];
    const w = flags[1] ? [n, 1] : [1, k];
    const accumulate = flags[2]!;
    const bias = !accumulate && flags[3]! ? b.float(2) : 0;
    const same = accumulate && flags[4]!; // several products added up in one place
    return [
      ...[m, n, k, b.float(0), ...a, b.float(1), ...w, b.out(), n + (m % 2), bias, accumulate ? 1 : 0],
      ...[flags[4] ? 1 : 0, batch, m * k, flags[3] ? k * n : 0, same ? 0 : m * (n + (m % 2)), b.kernels.scratch],
    ].map(x => x * (size > 0 ? 1 : 0));
  };

const syrk: Call = (b, { d, flags }) => {
  const [n, k] = [5 * d[0]!, 3 * d[1]!];
  const a = flags[0] ? [k, 1] : [1, n];
  return [n, k, b.float(0), ...a, b.out(), n + (k % 2), flags[1] ? 1 : 0, b.kernels.scratch];
};
const patchGram: Call = (b, draw) => {
  const [n = 0, , ...sizes] = geometry({ ...draw, flags: [false, ...draw.flags.slice(1)] });
  const channels = 1 + (draw.d[1]! % 7);
  // What lies above the diagonals there is anything.
  const work = b.slot(SLOTS.index);
  return [n, channels, ...sizes, draw.flags[5] ? 1 : 0, b.float(0), work, b.out(), b.kernels.scratch];
};

/** Sizes, q, k, v, a mask for all or for each, and the weights, of at most 8 positions in each place of a row. */
const heads = ({ d, flags }: Draw, b: Bench) => {
  const [batch, count, t, s] = [flags[0] ? d[0]! % 5 : 1, (d[1]! % 4) + 1, d[2]! % 12, (d[3]! % 12) + 1];
  const mask = flags[1] ? [b.slot(SLOTS.bool[0]!), flags[2] ? t * s : 0] : [0, 0];
  return {
    sizes: [batch, count, t, s, 3, 3 * count, b.float(0), b.float(1), b.float(2), ...mask],
    place: Math.ceil(s / 8) * 8,
  };
};

const CALLS: Record<string, Call> = {
  attention: (b, draw) => {
    const { sizes, place } = heads(draw, b);
    return [...sizes, b.out(0), place, b.out(1), b.kernels.scratch];
  },
  attentionBackward: (b, draw) => {
    const { sizes, place } = heads({ ...draw, d: draw.d.map(n => n + 1) }, b);
    sizes[2] = Math.max(1, sizes[2]!);
    return [...sizes, b.float(3), place, b.float(4), b.out(0), b.out(1), b.out(2), b.kernels.scratch];
  },
  ...Object.fromEntries(
    (
      'neg abs sign square relu sqrt reciprocal floor ceil round exp expm1 log log1p tanh sigmoid sin cos erf gelu geluTanh ' +
      'not isNaN isFinite log2 log10 tan sinh cosh silu mish logSigmoid'
    )
      .split(' ')
      .map(name => [name, unary]),
  ),
  ...Object.fromEntries(
    (
      'reluBackward tanhBackward sigmoidBackward geluBackward geluTanhBackward ' +
      'siluBackward mishBackward logSigmoidBackward'
    )
      .split(' ')
      .map(name => [name, backward]),
  ),
  ...Object.fromEntries(
    'softplus elu leakyRelu'.split(' ').flatMap((name): [string, Call][] => [
      [name, (b, { n }) => [n, b.float(0), 0.7, 0.5, b.out()]],
      [`${name}Backward`, (b, { n }) => [n, b.float(0), b.float(1), 0.7, 0.5, b.out()]],
    ]),
  ),
  ...Object.fromEntries(
    'add sub mul maximum minimum div and or pow atan2 eq ne lt le gt ge'.split(' ').map(name => [name, binary]),
  ),
  where: (b, { d: [rows = 0, cols = 0], n, flags }, [type]) => {
    const [r, c] = flags[5] ? [1, n] : [rows, cols];
    const [s0, s1, s2] = [0, 1, 2].map(i => strides(r, c, flags.slice(i)));
    const { operand, out } = b;
    return [r, c, operand('bool', 0), ...s0!, operand(type!, 0), ...s1!, operand(type!, 1), ...s2!, out()];
  },
  copy: (b, { d: [rows = 0, cols = 0], n, flags }, [type]) => {
    const [r, c] = flags[5] ? [1, n] : [rows, cols];
    return [r, c, b.operand(type!, 0), ...strides(r, c, flags), b.out(), ...spread(r, c, flags.slice(2))];
  },
  fill: (b, { n }) => [n, 1, b.out()],
  moments: (b, { n, flags }) => {
    const second = flags[0] ? b.slot(8) : 0;
    return [n, b.float(0), b.float(1), b.float(2), second, 0.9, 0.99, 1e-8, 0.5, 0.25, b.out()];
  },
  adam: (b, { n }) => [n, b.float(0), b.float(1), b.float(2), 0.9, 0.99, 1e-8, 0.5, 0.25, b.out(), 0.1, 0.99],
  sgd: (b, { n }) => [n, b.float(0), b.float(1), b.float(2), 0.1, 0.9, 0.7, 1, 0.5],
  addScaled: (b, { d: [rows = 0, cols = 0], n, flags }) => {
    const [r, c] = flags[5] ? [1, n] : [rows, cols];
    return [r, c, b.out(), ...spread(r, c, flags), b.float(0), ...strides(r, c, flags.slice(2)), 0.7, 0.9];
  },
  addcdiv: (b, { n }) => [n, b.out(), b.float(0), b.float(1), 0.7, 0.9],
  scale: (b, { d: [rows = 0, cols = 0], n, flags }) => {
    const [r, c] = flags[5] ? [1, n] : [rows, cols];
    return [r, c, b.out(), ...spread(r, c, flags), 0.7];
  },
  ...Object.fromEntries('sum max min argmax argmin'.split(' ').map(name => [name, reduce])),
  sumChannels: (b, { d: [outer = 0, channels = 0, inner = 0] }) => [outer, channels, inner, b.float(0), b.out()],
  ...Object.fromEntries('softmax logSoftmax'.split(' ').map(name => [name, rowwise])),
  ...Object.fromEntries(
    'softmaxBackward logSoftmaxBackward'
      .split(' ')
      .map((name): [string, Call] => [name, (b, { d }) => [d[0]!, d[1]!, b.float(0), b.float(1), b.out()]]),
  ),
  crossEntropyBackward: (b, { d }) => {
    const cols = Math.max(d[1]!, 1);
    return [d[0]!, cols, b.float(0), b.indices(cols), b.float(1), 0.3, b.out()];
  },
  norm: (b, { d }) => [d[0]!, d[1]!, b.float(0), b.out()],
  squaredErrorBackward: (b, { n }) => [n, b.float(0), b.float(1), 0.3, b.out()],
  layerNorm: (b, { d, flags }) => [
    ...[d[0]!, d[1]!, b.float(0), flags[0] ? b.float(1) : 0, flags[1] ? b.float(2) : 0, 1e-5],
    ...[b.out(0), b.out(1), b.out(2)],
  ],
  layerNormBackward: (b, { d, flags }) => [
    ...[d[0]!, d[1]!, b.float(0), b.float(1), flags[0] ? b.float(2) : 0, 1, b.float(3), b.float(4), b.out()],
  ],
  layerNormWeights: (b, { d, flags }) => [
    ...[d[0]!, d[1]!, b.float(0), b.float(1), 1, b.float(2), b.float(3), b.out(0), flags[0] ? b.out(1) : 0],
  ],
  batchStats: (b, { d }) => [d[0]!, d[1]!, d[2]!, b.float(0), b.out(0), b.out(1)],
  batchNorm: (b, { d, flags }) => [
    ...[d[0]!, d[1]!, d[2]!, b.float(0), b.float(1), b.float(2), 1],
    ...[flags[0] ? b.float(3) : 0, flags[1] ? b.float(4) : 0, b.out()],
  ],
  batchNormBackward: (b, { d, flags }) => [
    ...[d[0]!, d[1]!, d[2]!, b.float(0), b.float(1), b.float(2), b.float(3), 1],
    ...[flags[0] ? b.float(4) : 0, flags[1] ? 1 : 0],
    ...[2, 3, 4].map((flag, i) => (flags[flag] ? b.out(i) : 0)),
  ],
  ...Object.fromEntries('indexSelect indexAdd gather scatterAdd'.split(' ').map(name => [name, indexed])),
  ...Object.fromEntries('convForward convInputGrad convWeightGrad'.split(' ').map(name => [name, conv])),
  depthwise: planes,
  winogradForward: winograd(0),
  winogradInputGrad: winograd(1),
  winogradWeightGrad: winograd(2),
  unfold: (b, draw) => [...geometry({ ...draw, flags: [false, ...draw.flags.slice(1)] }), b.float(0), b.out()],
  fold: (b, draw) => [...geometry({ ...draw, flags: [false, ...draw.flags.slice(1)] }), b.float(0), b.out()],
  maxPoolIndex: (b, draw) => [...windows(draw), b.float(0), b.out(0), draw.flags[4] ? b.out(1) : 0],
  maxPoolGrad: (b, draw) => [...windows(draw), b.float(0), b.indices(27), b.out()],
  avgPool: (b, draw) => [...windows(draw), draw.flags[0] ? 1 : 0, b.float(0), b.out()],
  avgPoolGrad: (b, draw) => [...windows(draw), draw.flags[0] ? 1 : 0, b.float(0), b.out()],
  sgemm: gemm(4),
  dgemm: gemm(8),
  ssyrk: syrk,
  dsyrk: syrk,
  patchGram,
};

for (const [i, variant] of variants().entries())
  for (const n of i === 0 ? [2, 3] : [3])
    t.test(`${variant}: ${n} threads give the bits of one`, async t => {
      const kernels = createKernels({ variant, memory: { initial: 2 ** 25 } })!;
      const threads = new Threads(kernels, TINY);
      // One module before the workers start, and one that they take up while they wait for calls.
      kernels.load(normalize);
      t.equal(await threads.set(n), n);
      t.equal(threads.count, n);
      const bench = new Bench(kernels);
      kernels.load(images);
      kernels.load(attention);
      kernels.load(math);
      const names = Object.keys(kernels.exports) as (keyof typeof kernels.exports)[];
      const shared = names.filter(name => kernels.exports[name] !== kernels.compiled[name]);
      for (const name of shared)
        await law(t, name, async t => {
          const [family, ...types] = name.split('_') as [string, ...Element[]];
          const call = CALLS[family];
          if (call === undefined) throw new Error(`there are no draws for ${name}`);
          const [one, many] = [kernels.compiled[name], kernels.exports[name]] as ((...x: number[]) => unknown)[];
          const before = threads.runs;
          fc.assert(
            fc.property(draws, draw => {
              const args = call(bench, draw, types, family);
              const want = bench.after(() => one!(...args));
              const got = bench.after(() => many!(...args));
              if (want.result !== got.result) throw new Error(`returns ${got.result}, alone ${want.result}`);
              if (Buffer.compare(want.memory, got.memory) === 0) return;
              const at = want.memory.findIndex((byte, i) => byte !== got.memory[i]);
              throw new Error(`${name}(${args}) differs at byte ${at % SLOT} of slot ${Math.floor(at / SLOT)}`);
            }),
            { seed: 5, numRuns: NUM_RUNS },
          );
          t.ok(threads.runs > before, 'calls were cut');
        });
      t.equal(await threads.set(1), 1);
      t.equal(kernels.exports, kernels.compiled);
    });

law(
  t,
  'pieces of a convolution whose products have few columns where the whole has many give the bits of one',
  async t => {
    const kernels = createKernels({ memory: { initial: 2 ** 25 } })!;
    const threads = new Threads(kernels, TINY);
    await threads.set(2);
    const exports = kernels.load(images);
    const compiled = kernels.compiled as typeof exports;
    const bench = new Bench(kernels);
    const { float, out } = bench;
    // 18 elements of a patch, 13 outputs, 80 positions.
    const args = [
      1,
      2,
      8,
      10,
      13,
      3,
      3,
      8,
      10,
      1,
      1,
      1,
      1,
      1,
      1,
      1,
      float(0),
      float(1),
      out(),
      kernels.scratch,
    ] as const;
    const before = threads.runs;
    for (const name of ['convWeightGrad_f32', 'convWeightGrad_f64'] as const) {
      const one = bench.after(() => compiled[name](...args)).memory;
      const two = bench.after(() => exports[name](...args)).memory;
      t.equal(Buffer.compare(one, two), 0, name);
    }
    t.equal(threads.runs, before + 2, 'both were cut');
    await threads.set(1);
  },
);

law(t, 'memory that grew while workers slept is theirs too', async t => {
  const kernels = createKernels({ memory: { initial: 2 ** 23 } })!;
  const threads = new Threads(kernels, TINY);
  await threads.set(2);
  const before = kernels.memory.size;
  const n = 2 ** 22;
  const block = kernels.heap.allocate(n * 4)!;
  t.ok(kernels.memory.size > before && block.pointer + n * 4 > before);
  kernels.exports.fill_f32(n, 3, block.pointer);
  kernels.exports.square_f32(n, block.pointer, block.pointer);
  const { pointer } = block;
  t.ok(kernels.memory.f32.subarray(pointer / 4, pointer / 4 + n).every(x => x === 9));
  t.ok(threads.runs >= 2);
  await threads.set(1);
});
