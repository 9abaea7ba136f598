// Threads change how long kernels take and nothing else; and a thread that dies is an error, never a wrong number or a wait.
import { setTimeout } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import {
  Generator,
  getBackend,
  getThreads,
  rand,
  randn,
  setThreads,
  type Tensor,
  tensor,
  WasmBackend,
} from '@otimes/core';
import {
  createKernels,
  type Element,
  type Kernels,
  gemm as multiply,
  type ThreadOptions,
  Threads,
  variants,
} from '@otimes/kernels';
import { type AnyModule, Conv2d, crossEntropy, Flatten, Linear, MaxPool2d, mlp, ReLU, Sequential } from '@otimes/nn';
import { Adam } from '@otimes/optim';
import fc from 'fast-check';
import t from 'tap';
import { host as browser } from '../kernels/src/browser.ts';
import type { Host, HostWorker } from '../kernels/src/host.ts';
import { host as node } from '../kernels/src/node.ts';
import { noise } from './helpers/kernels.ts';
import { endsByItself } from './helpers/program.ts';

const NUM_RUNS = 25;
/** So that calls of any size are cut. */
const TINY = { least: 0, piece: 1e-9, line: 1 };

// --- every kernel, bit for bit ----------------------------------------------------------------------------------------

/** Slots of memory in which the operands of a call lie; what they hold depends on how it is read. */
const SLOT = 2 ** 16;
const SLOTS = { floats: [0, 1, 2, 3, 4], out: [5, 6, 7], bool: [8, 9], index: 10 };
const COUNT = 11;

class Bench {
  readonly kernels: Kernels;
  readonly #at: number;
  readonly #before: Uint8Array;

  constructor(kernels: Kernels) {
    this.kernels = kernels;
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

const CALLS: Record<string, Call> = {
  ...Object.fromEntries(
    (
      'neg abs sign square relu sqrt reciprocal floor ceil round exp expm1 log log1p tanh sigmoid sin cos erf gelu geluTanh ' +
      'not isNaN isFinite'
    )
      .split(' ')
      .map(name => [name, unary]),
  ),
  ...Object.fromEntries(
    'reluBackward tanhBackward sigmoidBackward geluBackward geluTanhBackward'.split(' ').map(name => [name, backward]),
  ),
  ...Object.fromEntries(
    'add sub mul maximum minimum div and or pow eq ne lt le gt ge'.split(' ').map(name => [name, binary]),
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
  unfold: (b, draw) => [...geometry({ ...draw, flags: [false, ...draw.flags.slice(1)] }), b.float(0), b.out()],
  fold: (b, draw) => [...geometry({ ...draw, flags: [false, ...draw.flags.slice(1)] }), b.float(0), b.out()],
  maxPoolIndex: (b, draw) => [...windows(draw), b.float(0), b.out()],
  avgPool: (b, draw) => [...windows(draw), draw.flags[0] ? 1 : 0, b.float(0), b.out()],
  avgPoolGrad: (b, draw) => [...windows(draw), draw.flags[0] ? 1 : 0, b.float(0), b.out()],
  sgemm: gemm(4),
  dgemm: gemm(8),
};

for (const [i, variant] of variants().entries())
  for (const n of i === 0 ? [2, 3] : [3])
    t.test(`${variant}: ${n} threads give the bits of one`, async t => {
      const kernels = createKernels({ variant, memory: { initial: 2 ** 25 } })!;
      const threads = new Threads(kernels, TINY);
      t.equal(await threads.set(n), n);
      t.equal(threads.count, n);
      const bench = new Bench(kernels);
      const names = Object.keys(kernels.exports) as (keyof typeof kernels.exports)[];
      const shared = names.filter(name => kernels.exports[name] !== kernels.compiled[name]);
      for (const name of shared)
        await t.test(name, async t => {
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

t.test(
  'pieces of a convolution whose products have few columns where the whole has many give the bits of one',
  async t => {
    const kernels = createKernels({ memory: { initial: 2 ** 25 } })!;
    const threads = new Threads(kernels, TINY);
    await threads.set(2);
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
      const one = bench.after(() => kernels.compiled[name](...args)).memory;
      const two = bench.after(() => kernels.exports[name](...args)).memory;
      t.equal(Buffer.compare(one, two), 0, name);
    }
    t.equal(threads.runs, before + 2, 'both were cut');
    await threads.set(1);
  },
);

t.test('memory that grew while workers slept is theirs too', async t => {
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

// --- training -----------------------------------------------------------------------------------------------------------

const models: Record<string, () => { model: AnyModule; shape: number[] }> = {
  MLP: () => ({ model: mlp([13, 17, 9, 5], { activation: 'gelu', rng: new Generator(0) }), shape: [7, 13] }),
  CNN() {
    const rng = new Generator(0);
    const model = new Sequential(
      new Conv2d(2, 5, 3, { padding: 1, rng }),
      new ReLU(),
      new MaxPool2d(2),
      new Conv2d(5, 7, 3, { padding: 1, rng }),
      new ReLU(),
      new Flatten(),
      new Linear(7 * 16, 5, { rng }),
    );
    return { model, shape: [3, 2, 8, 8] };
  },
};

/** The parameters and the losses of three steps. */
function trained(name: string): Float64Array {
  const { model, shape } = models[name]!();
  const rng = new Generator(1);
  const optimizer = new Adam(model.parameters(), { lr: 1e-2 });
  const x: Tensor = randn(shape, { rng });
  const y = tensor(Int32Array.from({ length: shape[0]! }, (_, i) => i % 5));
  const results: number[] = [];
  for (let step = 0; step < 3; step++) {
    optimizer.zeroGrad();
    const loss = crossEntropy(model.call(x) as Tensor, y);
    loss.backward();
    optimizer.step();
    results.push(loss.item());
  }
  for (const parameter of model.parameters()) results.push(...parameter.dataSync());
  return Float64Array.from(results);
}

t.test('training ends at the same bits on 1, 2 and 3 threads', async t => {
  const backend = getBackend('cpu');
  if (!(backend instanceof WasmBackend)) throw new Error('there is no SIMD here');
  const threads = new Threads(backend.kernels, TINY);
  for (const name of Object.keys(models)) {
    await threads.set(1);
    const one = trained(name);
    t.ok(one.every(Number.isFinite) && new Set(one).size > one.length / 2);
    for (const n of [2, 3]) {
      await threads.set(n);
      const many = trained(name);
      t.ok(threads.runs > 50, `${threads.runs} calls were shared`);
      t.strictSame(Buffer.from(many.buffer), Buffer.from(one.buffer), `${name} on ${n} threads`);
    }
  }
  await threads.set(1);
});

// --- the interface ------------------------------------------------------------------------------------------------------

t.test('setThreads says how many are in use, from when they are', async t => {
  t.equal(getThreads(), 1);
  const [a, b] = [randn([300, 200]), randn([200, 300])];
  const one = a.matmul(b).dataSync();
  const starting = setThreads(2);
  t.equal(getThreads(), 1, 'not yet');
  t.strictSame(a.matmul(b).dataSync(), one, 'meanwhile on one thread');
  t.equal(await starting, 2);
  t.equal(getThreads(), 2);
  t.strictSame(a.matmul(b).dataSync(), one);
  t.equal(await setThreads(2), 2);
  const both = await Promise.all([setThreads(3), setThreads(1)]);
  t.strictSame([...both, getThreads()], [3, 1, 1], 'one change after the other');
  for (const n of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 65, '2' as never])
    await t.rejects(setThreads(n), {
      name: 'RangeError',
      message: `setThreads: the number of threads is a whole number from 1 to 64, got ${n}`,
    });
});

t.test('what users are given is in ordinary memory, and can be sent and cloned', async t => {
  const x = rand([3, 4]);
  const kinds = [x.dataSync(), await x.data(), x.transpose(0, 1).dataSync(), x.ndarray().data.slice()];
  for (const array of kinds) {
    t.equal(Object.prototype.toString.call(array.buffer), '[object ArrayBuffer]');
    t.strictSame(structuredClone(array, { transfer: [array.buffer as ArrayBuffer] }).length, 12);
  }
});

t.test('workers sleep when there is nothing to do', async t => {
  await setThreads(3);
  randn([300, 300]).matmul(randn([300, 300]));
  await setTimeout(50);
  const before = process.cpuUsage();
  await setTimeout(300);
  const { user, system } = process.cpuUsage(before);
  t.ok(user + system < 100e3, `${(user + system) / 1e3} ms of CPU time in 300 ms`);
  await setThreads(1);
});

// --- what can break ---------------------------------------------------------------------------------------------------

/** Node's workers with code in front of their pieces; `workers` has those that were started. */
function saboteur() {
  const workers: HostWorker[] = [];
  const state = { code: '', terminate: false, workers };
  const host: Host = {
    ...node,
    startWorker(source, data, stopped) {
      const before = 'const piece = at => {';
      if (!source.includes(before)) throw new Error('the source of workers has changed');
      const worker = node.startWorker(source.replace(before, `${before} ${state.code};`), data, stopped);
      workers.push(worker);
      return {
        ...worker,
        alive() {
          if (state.terminate) void worker.stop();
          return worker.alive();
        },
      };
    },
  };
  return { state, host };
}

t.test('a worker that stops is an error of the call, and setThreads repairs it', async t => {
  const kernels = createKernels({ memory: { initial: 2 ** 25 } })!;
  const n = 2 ** 16;
  const { pointer } = kernels.heap.allocate(4 * n)!;
  const { state, host } = saboteur();
  const threads = new Threads(kernels, { ...TINY, host });
  const run = () => kernels.exports.exp_f32(n, pointer, pointer);
  /** Calls until a worker has taken a piece. */
  const provoke = () => {
    for (let i = 0; i < 200; i++) run();
  };
  const cases: [what: string, code: string, message: RegExp][] = [
    ['throws', "throw new Error('a piece broke')", /stopped \(a piece broke\)/],
    ['traps', '(() => { const f = () => f() + 1; f(); })()', /stopped \(Maximum call stack/],
    ['calls process.exit', 'process.exit(7)', /stopped \(process\.exit\(7\)\)/],
    ['dies without a word', 'process.reallyExit(7)', /stopped, and tensors/],
  ];
  for (const [what, code, message] of cases) {
    state.code = code;
    t.equal(await threads.set(2), 2);
    const start = performance.now();
    t.throws(provoke, { name: 'Error', message }, what);
    t.throws(run, { message: /^threads: a worker thread stopped.*setThreads\(1\)/ }, 'and so the next call');
    t.ok(performance.now() - start < 5000);
    t.equal(await threads.set(1), 1);
    run();
    state.code = '';
    t.equal(await threads.set(3), 3);
    provoke();
    await threads.set(1);
  }

  // Terminated while it works on a piece, at the caller's first look.
  state.code = 'Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5000)';
  state.terminate = true;
  await threads.set(2);
  const start = performance.now();
  t.throws(provoke, { message: /a worker thread stopped, and tensors/ }, 'terminated in a call');
  t.ok(performance.now() - start < 2000);
  Object.assign(state, { code: '', terminate: false });

  // Terminated between calls, of which nothing can be known yet: the caller does all the work.
  t.equal(await threads.set(2), 2, 'the same number again');
  void state.workers.at(-1)!.stop();
  await setTimeout(50);
  kernels.exports.fill_f32(n, 2, pointer);
  provoke();
  t.ok(kernels.memory.f32.subarray(pointer / 4, pointer / 4 + n).every(x => x === Number.POSITIVE_INFINITY));
  await threads.set(1);
});

/** Node's host, and a way to say of its last worker that it stopped. */
function informer() {
  let last: (how: string) => void = () => {};
  const host: Host = {
    ...node,
    startWorker(source, data, stopped) {
      last = stopped;
      return node.startWorker(source, data, stopped);
    },
  };
  return { host, tell: (how: string) => last(how) };
}

t.test('a worker that exits between calls makes the next one throw', async t => {
  const kernels = createKernels({ memory: { initial: 2 ** 25 } })!;
  const { pointer } = kernels.heap.allocate(2 ** 18)!;
  const { host, tell } = informer();
  const threads = new Threads(kernels, { ...TINY, host });
  await threads.set(2);
  kernels.exports.neg_f32(2 ** 16, pointer, pointer);
  tell('stopped (exit code 1)');
  t.throws(() => kernels.exports.neg_f32(2 ** 16, pointer, pointer), { message: /stopped \(exit code 1\)/ });
  t.equal(await threads.set(2), 2, 'asking again starts new ones');
  kernels.exports.neg_f32(2 ** 16, pointer, pointer);
  await threads.set(1);
});

t.test('an error of the calling thread leaves the workers well', async t => {
  const kernels = createKernels({ memory: { initial: 2 ** 25 } })!;
  const threads = new Threads(kernels, TINY);
  await threads.set(2);
  const beyond = 2 ** 32 - 8;
  t.throws(() => kernels.exports.neg_f32(2 ** 16, beyond, beyond));
  await threads.set(2);
  const { pointer } = kernels.heap.allocate(2 ** 18)!;
  kernels.exports.fill_f32(2 ** 16, 1, pointer);
  t.equal(kernels.memory.f32[pointer / 4 + 2 ** 16 - 1], 1);
  await threads.set(1);
});

t.test('workers that cannot start are an error, and nothing is left behind', async t => {
  const kernels = createKernels({ memory: { initial: 2 ** 25 } })!;
  const { live } = kernels.heap.pool;
  for (const source of ['throw new Error("no luck");', 'process.reallyExit(3);']) {
    const host: Host = { ...node, startWorker: (_, data, stopped) => node.startWorker(source, data, stopped) };
    const threads = new Threads(kernels, { host });
    await t.rejects(threads.set(3), { message: /^setThreads: a worker thread did not start.*(no luck|exit code 3)/ });
    t.equal(threads.count, 1);
    t.equal(kernels.exports, kernels.compiled);
  }
  const host: Host = {
    ...node,
    startWorker() {
      throw new Error('workers are forbidden');
    },
  };
  await t.rejects(new Threads(kernels, { host }).set(2), { message: 'setThreads: workers are forbidden' });
  t.equal(kernels.heap.pool.live, live, 'scratch is given back');
});

t.test('where memory cannot be shared there is one thread, and it says why, once', async t => {
  const scope = globalThis as Record<string, unknown>;
  const kernels = createKernels({ memory: { initial: 2 ** 23 } })!;
  const said: string[] = [];
  const warn = (message: string) => said.push(message);
  const threads = new Threads(kernels, { host: browser, warn });
  t.equal(await threads.set(4), 1);
  t.equal(await threads.set(2), 1);
  t.equal(threads.count, 1);
  t.equal(said.length, 1);
  t.match(
    said[0],
    /^otimes: setThreads\(4\): one thread is used, as memory can be shared only on a page .*Opener-Policy/,
  );

  Object.assign(scope, { crossOriginIsolated: true, document: {}, Worker: class {} });
  t.teardown(() => {
    for (const name of ['crossOriginIsolated', 'document', 'Worker']) delete scope[name];
  });
  t.match(browser.whyOneThread(), /main thread of a page may not wait .* use otimes inside of a Worker/);
  delete scope.document;
  t.equal(browser.whyOneThread(), null);
  delete scope.Worker;
  t.match(browser.whyOneThread(), /no workers can be started/);

  const unshared = createKernels({ memory: { initial: 2 ** 23, shared: false } })!;
  t.notOk(unshared.memory.shared);
  t.equal(await new Threads(unshared, { warn }).set(2), 1);
  t.match(said.at(-1), /memory of these kernels is not shared/);

  scope.Worker = class {
    constructor() {
      throw new Error('Refused to create a worker');
    }
  };
  const refused = new Threads(kernels, { host: browser });
  await t.rejects(refused.set(2), { message: /did not start: Refused to create a worker; .*worker-src blob:/ });
});

/** A browser's Worker on top of Node's. */
class WebWorker {
  onmessage: (() => void) | null = null;
  onerror: ((event: { message: string }) => void) | null = null;
  readonly #worker: Promise<Worker>;

  constructor(url: string) {
    const prelude = `const { parentPort } = require('node:worker_threads');
      globalThis.postMessage = data => parentPort.postMessage(data);
      var onmessage;
      parentPort.on('message', data => onmessage({ data }));`;
    this.#worker = fetch(url)
      .then(response => response.text())
      .then(source => {
        const worker = new Worker(prelude + source.replace("'use strict';", ''), { eval: true, execArgv: [], env: {} });
        worker.on('message', () => {
          worker.unref();
          this.onmessage?.();
        });
        worker.on('error', ({ message }) => this.onerror?.({ message }));
        return worker;
      });
  }

  postMessage(data: object): void {
    void this.#worker.then(worker => worker.postMessage(data));
  }

  terminate(): void {
    void this.#worker.then(worker => worker.terminate());
  }
}

t.test('the workers of a browser compute the same', async t => {
  const scope = globalThis as Record<string, unknown>;
  Object.assign(scope, { crossOriginIsolated: true, Worker: WebWorker });
  t.teardown(() => {
    for (const name of ['crossOriginIsolated', 'Worker']) delete scope[name];
  });
  const kernels = createKernels({ memory: { initial: 2 ** 25 } })!;
  const threads = new Threads(kernels, { ...TINY, host: browser });
  t.equal(await threads.set(3), 3);
  const { pointer } = kernels.heap.allocate(2 ** 18)!;
  for (let i = 0; i < 50; i++) {
    kernels.exports.fill_f32(2 ** 16, i, pointer);
    kernels.exports.square_f32(2 ** 16, pointer, pointer);
    t.ok(kernels.memory.f32.subarray(pointer / 4, pointer / 4 + 2 ** 16).every(x => x === i * i));
  }
  t.equal(threads.runs, 100);
  t.equal(await threads.set(1), 1);
  const error = new Threads(kernels, {
    host: {
      ...browser,
      startWorker: (_, data, stopped) => browser.startWorker('throw new Error("boom");', data, stopped),
    },
  });
  await t.rejects(error.set(2), { message: /^setThreads: a worker did not start: boom/ });
});

// --- a lent thread ------------------------------------------------------------------------------------------------------

/** A product [n, n] = [n, n] [n, n] of known operands in a memory of its own; `product` returns C's bytes. */
function products(o: ThreadOptions) {
  const kernels = createKernels({ memory: { initial: 2 ** 25 } })!;
  const n = 64;
  const block = () => kernels.heap.allocate(4 * n * n)!.pointer;
  const [a, b, c] = [block(), block(), block()];
  const next = noise(9);
  for (const at of [a, b]) for (let i = 0; i < n * n; i++) kernels.memory.f32[at / 4 + i] = next();
  const product = (accumulate = false) => {
    if (!accumulate) kernels.memory.f32.fill(Number.NaN, c / 4, c / 4 + n * n);
    multiply(kernels, {
      dtype: 'float32',
      m: n,
      n,
      k: n,
      a,
      aRow: n,
      aCol: 1,
      b,
      bRow: 1,
      bCol: n,
      c,
      cRow: n,
      accumulate,
    });
    return Buffer.from(kernels.memory.u8.slice(c, c + 4 * n * n));
  };
  const said: string[] = [];
  const threads = new Threads(kernels, { ...TINY, warn: message => said.push(message), ...o });
  const alone = product();
  /** Lends until `enough`, without ever awaiting. */
  const until = (enough: () => boolean) => {
    const end = performance.now() + 20_000;
    while (!enough() && performance.now() < end) {
      const bits = threads.lend(() => product());
      if (!bits.equals(alone)) throw new Error('other bits');
    }
    if (!enough()) throw new Error('not within 20 seconds');
  };
  return { kernels, threads, said, product, alone, until, live: kernels.heap.pool.live };
}

/** Node's workers, which count their pieces in `count`. */
function counted() {
  const count = new Int32Array(new SharedArrayBuffer(4));
  const host: Host = {
    ...node,
    startWorker(source, data, stopped) {
      const before = 'const piece = at => {';
      const counts = source.replace(before, `${before} Atomics.add(data.count, 0, 1);`);
      return node.startWorker(counts, { ...data, count }, stopped);
    },
  };
  return { host, pieces: () => Atomics.load(count, 0) };
}

t.test('a lent thread takes part in products, in a loop that never awaits, and only while it is lent', async t => {
  const { host, pieces } = counted();
  const { threads, said, product, alone, until } = products({ host });
  t.equal(
    threads.lend(() => 'what it returns'),
    'what it returns',
  );
  until(() => pieces() > 3);
  t.equal(threads.count, 1);
  const { runs } = threads;
  t.strictSame(product(), alone);
  t.equal(threads.runs, runs, 'not lent');
  threads.lend(() => {
    t.equal(threads.runs, runs);
    product();
    threads.lend(product);
    product();
    t.equal(threads.runs, runs + 3, 'also around another');
    product(true);
    t.equal(threads.runs, runs + 3, 'but none that adds to its result, which could not be computed again');
  });
  t.throws(
    () =>
      threads.lend(() => {
        throw new Error('its own');
      }),
    { message: 'its own' },
  );
  product();
  t.equal(threads.runs, runs + 3, 'not after an error either');
  t.strictSame(said, []);
});

t.test('where threads are set there is no lent one beside them', async t => {
  const { threads, kernels, product, alone, until, live } = products({});
  until(() => threads.runs > 0);
  t.ok(kernels.heap.pool.live > live);
  await threads.set(2);
  const { runs } = threads;
  t.strictSame(threads.lend(product), alone);
  t.equal(threads.runs, runs + 1, 'those share it');
  await threads.set(1);
  t.equal(kernels.heap.pool.live, live, 'scratch is given back');
  t.equal(kernels.exports, kernels.compiled);
  until(() => threads.runs > 0);
});

t.test(
  'what a lent thread does not live to finish is computed again, and a warning says once that it is gone',
  async t => {
    const cases: [what: string, code: string, why: RegExp][] = [
      ['throws', "throw new Error('a piece broke')", /stopped \(a piece broke\)$/],
      ['calls process.exit', 'process.exit(7)', /stopped \(process\.exit\(7\)\)$/],
      ['dies without a word', 'process.reallyExit(7)', /stopped$/],
      ['is terminated', 'Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20000)', /stopped$/],
    ];
    for (const [what, code, why] of cases) {
      const { state, host } = saboteur();
      state.code = code;
      state.terminate = code.startsWith('Atomics');
      const { threads, kernels, said, until, live } = products({ host });
      threads.lend(() => {});
      await state.workers[0]!.ready;
      await setTimeout(20); // from then on this thread can tell whether it lives
      const start = performance.now();
      until(() => said.length > 0);
      t.ok(performance.now() - start < 10_000, what);
      t.match(
        said[0],
        /^otimes: a second thread does not help any more, and one goes on alone: a worker thread stopped/,
      );
      t.match(said[0], why);
      until(() => true);
      t.strictSame([threads.runs, said.length, state.workers.length], [0, 1, 1], 'there is no other');
      await setTimeout(50);
      t.equal(kernels.heap.pool.live, live, 'scratch is given back');
      t.equal(kernels.exports, kernels.compiled);
    }
  },
);

t.test('a lent thread that stops between calls is not missed', async t => {
  const { host, tell } = informer();
  const { threads, said, product, alone, until } = products({ host });
  until(() => threads.runs > 0);
  threads.lend(() => {
    tell('stopped (exit code 1)');
    t.strictSame([product(), product()], [alone, alone]);
  });
  t.strictSame(said, []);
  t.strictSame(threads.lend(product), alone);
  t.match(said, [/: a worker thread stopped \(exit code 1\)$/]);
});

t.test('a lent thread that cannot start is a warning, and none where threads share nothing', async t => {
  const forbidden: Host = {
    ...node,
    startWorker() {
      throw new Error('workers are forbidden');
    },
  };
  const dying: Host = {
    ...node,
    startWorker: (_, data, stopped) => node.startWorker('process.reallyExit(3);', data, stopped),
  };
  for (const [host, why] of [
    [forbidden, /: workers are forbidden$/],
    [dying, /: a worker thread stopped \(exit code 3\)$/],
  ] as const) {
    const { threads, kernels, said, product, alone, live } = products({ host });
    t.strictSame(threads.lend(product), alone);
    while (said.length === 0) {
      await setTimeout(10);
      t.strictSame(threads.lend(product), alone);
    }
    t.strictSame(threads.lend(product), alone);
    t.match(said, [why]);
    t.equal(said.length, 1);
    await setTimeout(50);
    t.equal(kernels.heap.pool.live, live);
  }
  const page = products({ host: browser });
  t.strictSame(page.threads.lend(page.product), page.alone);
  t.strictSame([page.threads.runs, page.said], [0, []]);
});

// --- programs ---------------------------------------------------------------------------------------------------------

const PROGRAM = `import { getThreads, randn, setThreads } from '@otimes/core';
const [a, b] = [randn([400, 300]), randn([300, 500])];
const one = a.matmul(b).dataSync();
const n = await setThreads(3);
const same = a.matmul(b).dataSync().every((x, i) => x === one[i]);
console.log(JSON.stringify([n, getThreads(), same]));
`;

t.test('a program ends by itself, from the sources and bundled into one file', { timeout: 60_000 }, t =>
  endsByItself(t, PROGRAM, {
    prints: '[3,3,true]',
    inBrowser: { warning: /one thread is used, as memory can be shared only/, prints: '[1,1,true]' },
  }),
);
