/** What scripts/runtimes.mjs runs under each runtime. Throws where something does not hold, and prints figures as JSON. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { Generator, getThreads, nextTask, ones, randint, randn, releaseBlas, setThreads, useBlas } from '@otimes/core';
import { load, save } from '@otimes/core/node';
import { initGpu } from '@otimes/gpu';
import { collector } from '@otimes/kernels';
import { crossEntropy, mlp } from '@otimes/nn';
import { STEVE } from '@otimes/optim';

/** MB. */
const resident = () => Math.round(process.memoryUsage().rss / 1e6);

// Threads, to the same bits.
const a = randn([400, 400], { rng: new Generator(1) });
const one = a.matmul(a).dataSync();
const { bun, deno } = process.versions;
if (bun === undefined && deno === undefined && availableParallelism() > 1) {
  const end = performance.now() + 60_000;
  while (getThreads() === 1 && performance.now() < end) assert.deepEqual(a.matmul(a).dataSync(), one);
  assert.ok(getThreads() > 1, 'threads started by themselves');
}
assert.equal(await setThreads(2), 2);
assert.deepEqual(a.matmul(a).dataSync(), one);

// 1.2 GB of tensors in a loop that awaits nothing.
let peak = 0;
for (let i = 0; i < 6000; i++) {
  a.slice([0, 125]).mul(2);
  if (i % 100 === 0) peak = Math.max(peak, resident());
}
assert.ok(peak < 600, `${peak} MB are resident in a loop`);

// Bases from the background.
const rng = new Generator(0);
const model = mlp([64, 128, 10], { rng });
const optimizer = new STEVE(model, { lr: 0.01, refreshEvery: 5, refresh: 'background', refreshLag: 2 });
const [xs, ys] = [randn([128, 64], { rng }), randint(0, 10, [128], { rng })];
const losses = [];
for (let step = 0; step < 40; step++) {
  optimizer.zeroGrad();
  const loss = crossEntropy(model.call(xs), ys);
  loss.backward();
  await optimizer.step();
  losses.push(loss.item());
  if (step % 5 === 0) await nextTask();
}
assert.ok(losses.at(-1) < 0.1 * losses[0], `losses ${losses[0]} … ${losses.at(-1)}`);
const { refreshes } = optimizer.report();
assert.equal(refreshes.failed, 0);
assert.ok(refreshes.done > 4);

// Files.
const folder = mkdtempSync(join(tmpdir(), 'otimes-'));
save(join(folder, 'model.safetensors'), model.stateDict());
const again = mlp([64, 128, 10]);
again.loadStateDict(load(join(folder, 'model.safetensors')));
rmSync(folder, { recursive: true });
assert.equal(again.call(xs).sub(model.call(xs)).abs().max().item(), 0);

// A native library where there is one, else an error that says what to install.
const blas = await useBlas().then(
  ({ kind }) => kind,
  ({ message }) => {
    assert.match(message, /^useBlas: .*install/);
    return `none: ${message.includes('koffi') ? 'no koffi' : 'no library'}`;
  },
);
if (!blas.startsWith('none')) releaseBlas();

// A GPU where there is one, else an error that says what is missing.
const own = typeof globalThis.navigator?.gpu?.requestAdapter === 'function';
await initGpu().then(
  async () => {
    const [tanh] = await ones([1], { device: 'gpu' }).tanh().data();
    assert.ok(Math.abs(tanh - Math.tanh(1)) < 1e-6);
  },
  ({ message }) =>
    assert.match(message, own ? /^initGpu: expected an adapter, got none: / : /^initGpu: .* npm install webgpu/),
);

console.log(JSON.stringify({ collector: collector() !== null, peak, blas, gpu: own ? 'its own' : 'by `webgpu`' }));
