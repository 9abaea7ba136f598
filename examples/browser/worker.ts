/** Trains the same network with Adam and with STEVE, step by step in turn, on the CPU or the GPU, and reports every step to the page. */

import { Generator, noGrad, setThreads, type Tensor, tensor } from '@otimes/core';
import { initGpu } from '@otimes/gpu';
import { variants } from '@otimes/kernels';
import { crossEntropy, mlp } from '@otimes/nn';
import { Adam, STEVE } from '@otimes/optim';
import { points } from './data.ts';
import { type Machines, type Message, OPTIMIZERS, type Progress, SIDE, STEPS, type Wish } from './protocol.ts';

const COUNT = 1000;
const LR = 0.03;

const NAMES = { relaxed: 'relaxed SIMD', simd: 'SIMD', none: 'plain JavaScript' };

const say = (message: Message) => postMessage(message);

const grid = tensor(
  Array.from({ length: SIDE * SIDE }, (_, i) => [
    ((i % SIDE) + 0.5) * (2 / SIDE) - 1,
    1 - (Math.floor(i / SIDE) + 0.5) * (2 / SIDE),
  ]),
);
/** What the network is given: coordinates in [−3, 3], so that tanh has something to bend. */
const input = (xy: Tensor) => xy.mul(3);

function contender(name: (typeof OPTIMIZERS)[number], device: string) {
  const model = mlp([2, 64, 64, 2], { activation: 'tanh', rng: new Generator(3) }).to(device);
  const optimizer = name === 'Adam' ? new Adam(model.parameters(), { lr: LR }) : new STEVE(model, { lr: LR });
  const square = input(grid.to(device));
  return async (x: Tensor, y: Tensor): Promise<Progress> => {
    const start = performance.now();
    optimizer.zeroGrad();
    const logits = model.call(x);
    const loss = crossEntropy(logits, y);
    loss.backward();
    await optimizer.step();
    // Of a GPU this is when the step was computed, and not only asked for.
    const value = await loss.number();
    const ms = performance.now() - start;
    const [right, field] = noGrad(() => [
      logits.argmax(1).eq(y).astype('float32').mean(),
      model.call(square).softmax(1).slice(null, 1),
    ]);
    const [accuracy, picture] = await Promise.all([right!.number(), field!.data()]);
    return { loss: value, accuracy, ms, field: picture as Float32Array };
  };
}

/** Which run is wanted; an older one ends. */
let current = 0;

async function run({ dataset, device }: Wish): Promise<void> {
  const mine = ++current;
  const learn = points(dataset, COUNT);
  say({ kind: 'data', points: learn, device });
  const on = device.toLowerCase();
  const x = input(tensor(learn.xy, { shape: [COUNT, 2], device: on }));
  const y = tensor(learn.labels, { device: on });
  const contenders = OPTIMIZERS.map(name => contender(name, on));
  for (let step = 1; step <= STEPS && mine === current; step++) {
    const runs: Progress[] = [];
    for (const train of contenders) runs.push(await train(x, y));
    if (mine === current) say({ kind: 'step', step, runs });
    // A step is no shorter than a picture of the screen; without that `nextTask()` would do, which lets messages come in, and
    // dead tensors be collected.
    await new Promise(resolve => setTimeout(resolve, 8));
  }
}

addEventListener('message', ({ data }: MessageEvent<Wish>) => {
  run(data).catch((error: Error) => say({ kind: 'failed', why: error.message }));
});

const threads = await setThreads(Math.min(4, navigator.hardwareConcurrency));
const kernels = NAMES[variants()[0] ?? 'none'];
const machines: Machines = {
  CPU: `kernels <b>${kernels}</b> · <b>${threads}</b> thread${threads === 1 ? '' : 's'}`,
  GPU: await initGpu().catch((error: Error) => ({ why: error.message })),
};
say({ kind: 'ready', machines });
