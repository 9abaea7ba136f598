/** Trains the same network with Adam and with STEVE, step by step in turn, and reports every step to the page. */

import { Generator, noGrad, setThreads, type Tensor, tensor } from '@otimes/core';
import { variants } from '@otimes/kernels';
import { crossEntropy, mlp } from '@otimes/nn';
import { Adam, STEVE } from '@otimes/optim';
import { points } from './data.ts';
import { type Dataset, type Message, OPTIMIZERS, type Progress, SIDE, STEPS } from './protocol.ts';

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

function contender(name: (typeof OPTIMIZERS)[number]) {
  const model = mlp([2, 64, 64, 2], { activation: 'tanh', rng: new Generator(3) });
  const optimizer = name === 'Adam' ? new Adam(model.parameters(), { lr: LR }) : new STEVE(model, { lr: LR });
  return (x: Tensor, y: Tensor): Progress => {
    const start = performance.now();
    optimizer.zeroGrad();
    const logits = model.call(x);
    const loss = crossEntropy(logits, y);
    loss.backward();
    optimizer.step();
    const ms = performance.now() - start;
    return noGrad(() => ({
      loss: loss.item(),
      accuracy: logits.argmax(1).eq(y).astype('float32').mean().item(),
      ms,
      field: model.call(input(grid)).softmax(1).slice(null, 1).dataSync() as Float32Array,
    }));
  };
}

/** Which run is wanted; an older one ends. */
let current = 0;

async function run(dataset: Dataset): Promise<void> {
  const mine = ++current;
  const learn = points(dataset, COUNT);
  say({ kind: 'data', points: learn });
  const x = input(tensor(learn.xy, { shape: [COUNT, 2] }));
  const y = tensor(learn.labels);
  const contenders = OPTIMIZERS.map(contender);
  for (let step = 1; step <= STEPS && mine === current; step++) {
    say({ kind: 'step', step, runs: contenders.map(train => train(x, y)) });
    // A step is no shorter than a picture of the screen; without that `nextTask()` would do, which lets messages come in, and
    // dead tensors be collected.
    await new Promise(resolve => setTimeout(resolve, 8));
  }
}

addEventListener('message', ({ data }: MessageEvent<Dataset>) => run(data));
const threads = await setThreads(Math.min(4, navigator.hardwareConcurrency));
say({ kind: 'ready', kernels: NAMES[variants()[0] ?? 'none'], threads });
