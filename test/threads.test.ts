// Threads change how long training takes and nothing else; and what users see of them.

import { setTimeout } from 'node:timers/promises';
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
import { Threads } from '@otimes/kernels';
import { type AnyModule, Conv2d, crossEntropy, Flatten, Linear, MaxPool2d, mlp, ReLU, Sequential } from '@otimes/nn';
import { Adam } from '@otimes/optim';
import t from 'tap';
import { law } from './helpers/law.ts';
import { endsByItself } from './helpers/program.ts';

/** So that calls of any size are cut. */
const TINY = { least: 0, piece: 1e-9, line: 1 };

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

law(t, 'training ends at the same bits on 1, 2 and 3 threads', async t => {
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

law(t, 'setThreads says how many are in use, from when they are', async t => {
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

law(t, 'what users are given is in ordinary memory, and can be sent and cloned', async t => {
  const x = rand([3, 4]);
  const kinds = [x.dataSync(), await x.data(), x.transpose(0, 1).dataSync(), x.ndarray().data.slice()];
  for (const array of kinds) {
    t.equal(Object.prototype.toString.call(array.buffer), '[object ArrayBuffer]');
    t.strictSame(structuredClone(array, { transfer: [array.buffer as ArrayBuffer] }).length, 12);
  }
});

law(t, 'workers sleep when there is nothing to do', async t => {
  await setThreads(3);
  randn([300, 300]).matmul(randn([300, 300]));
  await setTimeout(50);
  const before = process.cpuUsage();
  await setTimeout(300);
  const { user, system } = process.cpuUsage(before);
  t.ok(user + system < 100e3, `${(user + system) / 1e3} ms of CPU time in 300 ms`);
  await setThreads(1);
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
