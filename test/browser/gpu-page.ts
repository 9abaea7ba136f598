/**
 * The one script of the pages of test/gpu-browser.test.ts: trains on the GPU, on the page and in a worker that is made of the same
 * file, and leaves what came of it in `reports`. `?only=` in the address chooses the runs, `?alone` leaves the worker out. What else is
 * tried are functions of the page.
 */

import { ones, type Tensor, zeros } from '@otimes/core';
import { gpuBackend, initGpu } from '@otimes/gpu';
import { crossEntropy, mlp } from '@otimes/nn';
import { Adam } from '@otimes/optim';
import { type GpuReport, train } from './gpu-train.ts';

const WANTED = new URLSearchParams(location.search);
const ALONE = WANTED.has('alone');

async function report(): Promise<GpuReport> {
  try {
    const info = await initGpu();
    return { info, losses: await train('gpu', WANTED.get('only') ?? '') };
  } catch (error) {
    return (error as Error).message;
  }
}

function reportOfWorker(): Promise<GpuReport> {
  return new Promise((resolve, reject) => {
    // In a worker `location` is that of the script.
    const worker = new Worker(new URL(location.search, import.meta.url), { type: 'module' });
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = event => reject(new Error(`worker: ${event.message}`));
  });
}

/** Bytes of all buffers after some steps of training, with a read in each, and after many more. */
async function steps(): Promise<{ few: number; many: number }> {
  const model = mlp([16, 64, 10]).to('gpu');
  const optimizer = new Adam(model.parameters());
  const [x, y] = [ones([32, 16], { device: 'gpu' }), zeros([32], { device: 'gpu', dtype: 'int32' })];
  const after = async (count: number) => {
    for (let i = 0; i < count; i++) {
      optimizer.zeroGrad();
      const loss = crossEntropy(model.call(x) as Tensor, y);
      loss.backward();
      optimizer.step();
      await loss.number();
    }
    return gpuBackend()!.stats.bytes;
  };
  return { few: await after(20), many: await after(200) };
}

/** Makes 1 GB of tensors, of which none is kept, with a read after each two; the most bytes of all buffers. */
async function churn(): Promise<number> {
  let most = 0;
  for (let i = 0; i < 125; i++) {
    await ones([1e6], { device: 'gpu' }).mul(2).slice([0, 1]).data();
    most = Math.max(most, gpuBackend()!.stats.bytes);
  }
  return most;
}

/** What gpu.js translates. */
const tanh = async (): Promise<string> => `${await ones([2], { device: 'gpu' }).tanh().mul(0).data()}`;

/** What reads say before and after a device is lost, and after a new one was opened. */
async function lost(): Promise<string[]> {
  const adapter = (await navigator.gpu.requestAdapter())!;
  const device = await adapter.requestDevice();
  const { features, limits, info } = adapter;
  await initGpu({ adapter: { features, limits, info, requestDevice: async () => device } as GPUAdapter });
  const read = (x: Tensor) =>
    x.data().then(
      data => `${data}`,
      (error: Error) => error.message,
    );
  const x = ones([2], { device: 'gpu' });
  const before = await read(x);
  device.destroy();
  await device.lost;
  const after = await read(x);
  await initGpu();
  return [before, after, await read(x), await read(ones([2], { device: 'gpu' }))];
}

if (typeof document === 'undefined') postMessage(await report());
else
  Object.assign(globalThis, {
    steps,
    churn,
    tanh,
    lost,
    reports: report().then(async page => ({ page, worker: ALONE ? '' : await reportOfWorker() })),
  });
