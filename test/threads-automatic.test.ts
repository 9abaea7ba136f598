// Threads that start by themselves: when, that they change no bit, and how a program is rid of them.

import { execFileSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import {
  Generator,
  getBackend,
  getThreads,
  randn,
  setThreads,
  type Tensor,
  tensor,
  WasmBackend,
  withSecondThread,
} from '@otimes/core';
import { createKernels, type Kernels } from '@otimes/kernels';
import { Conv2d, crossEntropy, Flatten, Linear, MaxPool2d, ReLU, Sequential } from '@otimes/nn';
import { Adam } from '@otimes/optim';
import { build } from 'esbuild';
import t from 'tap';
import type { Host } from '../kernels/src/host.ts';
import { host as node } from '../kernels/src/node.ts';
import { type AutomaticOptions, AutomaticThreads } from '../kernels/src/threads/automatic.ts';
import { law } from './helpers/law.ts';
import { endsByItself } from './helpers/program.ts';
import { saboteur } from './helpers/workers.ts';

/** So that calls of any size are counted and cut. */
const TINY = { counted: 0, least: 0, piece: 1e-9, line: 1 };

/** Kernels of their own with `size` float32, threads that start by themselves after `after` nanoseconds, and what was warned. */
function watched(o: Partial<AutomaticOptions> = {}, size = 2 ** 16) {
  const kernels = createKernels({ memory: { initial: 2 ** 25 } })!;
  const { pointer } = kernels.heap.allocate(4 * size)!;
  const { pointer: result } = kernels.heap.allocate(4 * size)!;
  const { live } = kernels.heap.pool;
  const said: string[] = [];
  const threads = new AutomaticThreads(kernels, { ...TINY, threads: () => 3, warn: x => said.push(x), ...o });
  const values = kernels.memory.f32.subarray(pointer / 4, pointer / 4 + size);
  const results = kernels.memory.f32.subarray(result / 4, result / 4 + size);
  return { kernels, threads, size, pointer, result, values, results, live, said };
}

/** Without ever awaiting: `run` until `enough`. */
function until(enough: () => boolean, run: () => void): void {
  const end = performance.now() + 20_000;
  while (!enough() && performance.now() < end) run();
  if (!enough()) throw new Error('not within 20 seconds');
}

const cpu = (): Kernels => {
  const backend = getBackend('cpu');
  if (!(backend instanceof WasmBackend)) throw new Error('there is no SIMD here');
  return backend.kernels;
};

// --- when ---------------------------------------------------------------------------------------------------------------

law(t, 'threads start once calls that count have come to the limit, and not before', async t => {
  // exp is estimated at 1.3 ns an element.
  const ns = 1.3 * 2 ** 16;
  const { kernels, threads, pointer, result, size } = watched({ counted: ns, after: 4.5 * ns });
  const exp = () => kernels.exports.exp_f32(size, pointer, result);
  for (let i = 0; i < 100; i++) kernels.exports.exp_f32(size - 1, pointer, result);
  for (let i = 0; i < 4; i++) exp();
  t.equal(threads.runs, 0);
  const watching = kernels.exports;
  exp();
  t.not(kernels.exports, watching);
  t.equal(threads.runs, 0, 'the call that comes to the limit is not shared yet');
  exp();
  t.equal(threads.runs, 1);
  await threads.end();
});

law(t, 'they come up in a loop that never awaits, and are in force from then on', async t => {
  const { kernels, threads, pointer, result, results, size, live, said } = watched({ after: 1 });
  t.equal(threads.count, 1);
  kernels.exports.fill_f32(size, 3, pointer);
  until(
    () => threads.count === 3,
    () => {
      results.fill(Number.NaN);
      kernels.exports.square_f32(size, pointer, result);
      if (!results.every(x => x === 9)) throw new Error('other values');
    },
  );
  t.ok(kernels.heap.pool.live > live);
  await threads.end();
  t.equal(threads.count, 1);
  t.equal(kernels.heap.pool.live, live, 'scratch is given back');
  t.equal(kernels.exports, kernels.compiled);
  t.equal(kernels.automatic, undefined);
  t.strictSame(said, []);
});

law(t, 'on one core they never do, and nothing watches any more', t => {
  const { kernels, threads, pointer, size } = watched({ after: 1, threads: () => 1 });
  kernels.exports.fill_f32(size, 3, pointer);
  t.equal(threads.count, 1);
  t.equal(kernels.exports, kernels.compiled);
  t.equal(kernels.automatic, undefined);
});

law(t, 'modules that are loaded before and after are shared too', async t => {
  await setThreads(1);
  const kernels = cpu();
  const x = randn([4, 3, 9, 9], { rng: new Generator(1) });
  const pooled = new MaxPool2d(2).call(x).dataSync();
  const threads = new AutomaticThreads(kernels, { ...TINY, after: 1, threads: () => 2 });
  t.ok(threads.start());
  const { runs } = threads;
  t.strictSame(new MaxPool2d(2).call(x).dataSync(), pooled);
  t.ok(threads.runs > runs);
  await threads.end();
});

// --- bits ---------------------------------------------------------------------------------------------------------------

/** The parameters and the losses of ten steps; `each` runs before a step. */
function trained(each: (step: number) => void): Float64Array {
  const rng = new Generator(0);
  const model = new Sequential(
    new Conv2d(2, 5, 3, { padding: 1, rng }),
    new ReLU(),
    new MaxPool2d(2),
    new Flatten(),
    new Linear(5 * 16, 5, { rng }),
  );
  const optimizer = new Adam(model.parameters(), { lr: 1e-2 });
  const x = randn([3, 2, 8, 8], { rng });
  const y = tensor(Int32Array.from([0, 1, 2]));
  const results: number[] = [];
  for (let step = 0; step < 10; step++) {
    each(step);
    optimizer.zeroGrad();
    const loss = crossEntropy(model.call(x) as Tensor, y);
    loss.backward();
    optimizer.step();
    results.push(loss.item());
  }
  for (const parameter of model.parameters()) results.push(...parameter.dataSync());
  return Float64Array.from(results);
}

law(t, 'training ends at the same bits, wherever in it they start and come up', async t => {
  await setThreads(1);
  const one = trained(() => {});
  t.ok(one.every(Number.isFinite) && new Set(one).size > one.length / 2);
  for (const [n, after] of [
    [2, 1],
    [3, 2e3],
  ] as const) {
    const threads = new AutomaticThreads(cpu(), { ...TINY, after, threads: () => n });
    const many = trained(step => {
      if (step === 6)
        until(
          () => threads.count === n,
          () => {},
        );
    });
    t.ok(threads.runs > 50, `${threads.runs} calls were shared`);
    t.strictSame(Buffer.from(many.buffer), Buffer.from(one.buffer), `${n} threads`);
    await threads.end();
  }
});

// --- the interface ------------------------------------------------------------------------------------------------------

law(t, 'setThreads fixes the number for good, at once', async t => {
  await setThreads(1);
  const kernels = cpu();
  const x = randn([64, 64]);
  for (const started of [false, true])
    for (const n of [1, 2]) {
      const threads = new AutomaticThreads(kernels, { ...TINY, after: started ? 1 : 1e18, threads: () => 2 });
      x.matmul(x);
      await t.rejects(setThreads(0), { name: 'RangeError' });
      t.equal(kernels.automatic, threads, 'a wrong number changes nothing');
      if (started)
        until(
          () => getThreads() === 2,
          () => {},
        );
      else t.equal(getThreads(), 1);
      const { runs } = threads;
      const fixed = setThreads(n);
      t.equal(kernels.automatic, undefined);
      t.equal(getThreads(), 1);
      x.matmul(x);
      t.equal(threads.runs, started ? 0 : runs);
      t.equal(await fixed, n);
      t.equal(getThreads(), n);
      await setThreads(1);
    }
});

law(t, 'withSecondThread starts them, and they share all there is', async t => {
  await setThreads(1);
  const threads = new AutomaticThreads(cpu(), { ...TINY, after: 1e18, threads: () => 2 });
  const x = randn([64, 64]);
  const one = x.matmul(x).exp().dataSync();
  t.equal(threads.runs, 0);
  t.strictSame(
    withSecondThread(() => x.matmul(x).exp().dataSync()),
    one,
  );
  t.ok(threads.runs >= 2);
  until(
    () => getThreads() === 2,
    () => {},
  );
  await setThreads(1);
});

// --- failures -----------------------------------------------------------------------------------------------------------

law(t, 'what a worker does not live to finish is computed again, or is an error; then one thread goes on', async t => {
  const message = /goes on with one thread: a worker thread stopped \(a piece broke\)$/;
  for (const inPlace of [false, true]) {
    const { state, host } = saboteur();
    state.code = "throw new Error('a piece broke')";
    const { kernels, threads, pointer, result, results, size, live, said } = watched({ host, after: 1 });
    kernels.exports.fill_f32(size, 3, pointer);
    until(
      () => threads.count === 3,
      () => {},
    );
    const run = () => kernels.exports.square_f32(size, pointer, inPlace ? pointer : result);
    if (inPlace) {
      t.throws(() => until(() => said.length > 0, run), {
        name: 'Error',
        message: /^threads: a worker thread stopped \(a piece broke\), and tensors .* what follows has one thread$/,
      });
      kernels.exports.fill_f32(size, 3, pointer);
    } else
      until(
        () => said.length > 0,
        () => {
          results.fill(Number.NaN);
          run();
          if (!results.every(x => x === 9)) throw new Error('other values');
        },
      );
    t.match(said, [message]);
    t.equal(kernels.exports, kernels.compiled);
    kernels.exports.square_f32(size, pointer, result);
    t.ok(results.every(x => x === 9));
    for (let i = 0; i < 1000 && kernels.heap.pool.live > live; i++) await setTimeout(10);
    t.equal(kernels.heap.pool.live, live, 'scratch is given back');
    t.equal(said.length, 1);
  }
});

law(t, 'a product that adds to its result is not made twice', t => {
  const { state, host } = saboteur();
  state.code = "throw new Error('a piece broke')";
  const { kernels, threads, pointer, result, said } = watched({ host, after: 1 });
  kernels.exports.fill_f32(64 * 64, 0, pointer);
  until(
    () => threads.count === 3,
    () => {},
  );
  const { sgemm } = kernels.exports;
  const add = () => sgemm(64, 64, 64, pointer, 64, 1, pointer, 64, 1, result, 64, 0, 1, 0, 1, 0, 0, 0, kernels.scratch);
  t.throws(() => until(() => said.length > 0, add), { message: /tensors that were being computed hold anything/ });
});

law(t, 'workers that cannot start are a warning, and one thread goes on', t => {
  const host: Host = {
    ...node,
    startWorker() {
      throw new Error('workers are forbidden');
    },
  };
  const { kernels, threads, pointer, values, size, live, said } = watched({ host, after: 1 });
  kernels.exports.fill_f32(size, 3, pointer);
  t.ok(values.every(x => x === 3));
  t.equal(threads.count, 1);
  t.strictSame(said, ["otimes: the device 'cpu' goes on with one thread: workers are forbidden"]);
  t.equal(kernels.exports, kernels.compiled);
  t.equal(kernels.heap.pool.live, live);
});

// --- programs -----------------------------------------------------------------------------------------------------------

const cores = availableParallelism();

/** Long enough in Node for threads to start, or as long as they take; `patience` is in ms. */
const program = (patience: number) => `import { getThreads, randn } from '@otimes/core';
const [a, b] = [randn([512, 512]), randn([512, 512])];
const one = a.matmul(b).dataSync();
const before = getThreads();
const end = performance.now() + ${patience};
let same = true;
for (let i = 0; i < 150 || (getThreads() === 1 && performance.now() < end); i++)
  same &&= a.matmul(b).dataSync().every((x, i) => x === one[i]);
console.log(JSON.stringify([before, getThreads() > 1, same]));
`;

t.test(
  'a program that computes at length has threads without asking, and ends by itself',
  { timeout: 120_000, skip: cores < 2 && 'one core' },
  t =>
    endsByItself(t, program(20_000), {
      prints: '[1,true,true]',
      inBrowser: { warning: /^/, prints: '[1,false,true]', program: program(0) },
    }),
);

const WATCHED = `import { isMainThread, Worker } from 'node:worker_threads';
import { getBackend } from '@otimes/core';
const watched = getBackend('cpu').kernels.automatic !== undefined;
if (isMainThread) new Worker(new URL(import.meta.url)).on('exit', () => console.log(watched));
else if (watched) throw new Error('a worker has threads of its own');
`;

law(t, 'a worker has none, where a program distributes its work itself', async t => {
  const outfile = join(t.testdir(), 'watched.mjs');
  const stdin = { contents: WATCHED, resolveDir: import.meta.dirname };
  const conditions = ['@otimes/source'];
  await build({ stdin, bundle: true, outfile, platform: 'node', format: 'esm', conditions, logLevel: 'silent' });
  t.equal(execFileSync(process.execPath, [outfile], { env: {} }).toString(), `${cores > 1}\n`);
});
