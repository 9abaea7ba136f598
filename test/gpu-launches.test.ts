/** The device 'gpu': few dispatches a step, and the same numbers as with one for each launch. */

import assert from 'node:assert/strict';
import { Generator, randint, randn, type Tensor } from '@otimes/core';
import type { GpuBackend } from '@otimes/gpu';
import { BatchNorm2d, Conv2d, crossEntropy, Flatten, Linear, type Module, ReLU, Sequential } from '@otimes/nn';
import { Adam, type Optimizer, STEVE } from '@otimes/optim';
import t from 'tap';
import { gpuNamed } from './helpers/gpu.ts';
import { testNeeding } from './helpers/requires.ts';
import { nets } from './suites/float32.ts';

const law = await testNeeding(t, 'gpu');

const devices: Record<string, GpuBackend> = {};

type Net = (typeof nets)[string];
type Make = (model: Module) => Optimizer;

/** Losses, and dispatches and submits of each step, read in the middle and at the end. */
async function train({ shape, make }: Net, optimizerOf: Make, device: string, steps: number) {
  const rng = new Generator(5);
  const model = make(rng).to(device);
  const optimizer = optimizerOf(model);
  const [x, y] = [randn(shape, { rng, device }), randint(0, 3, [shape[0]!], { rng, device })];
  const [losses, dispatches, submits]: number[][] = [[], [], []];
  for (let step = 0; step < steps; step++) {
    const before = devices[device]!.stats;
    optimizer.zeroGrad();
    const loss = crossEntropy(model.call(x) as Tensor, y);
    loss.backward();
    await optimizer.step();
    losses!.push(await loss.number());
    const after = devices[device]!.stats;
    dispatches!.push(after.dispatches - before.dispatches);
    submits!.push(after.submits - before.submits);
  }
  return { losses: losses!, dispatches: dispatches!, submits: submits! };
}

const adam: Make = model => new Adam(model.parameters(), { lr: 0.01 });
const steve: Make = model => new STEVE(model, { lr: 0.01, refreshEvery: 100 });

const layers = (count: number): Net => ({
  shape: [2, 4, 5, 5],
  make: rng =>
    new Sequential(
      ...Array.from({ length: count }, () => [
        new Conv2d(4, 4, 3, { padding: 1, bias: false, rng }),
        new BatchNorm2d(4),
        new ReLU(),
      ]).flat(),
      new Flatten(),
      new Linear(100, 3, { rng }),
    ),
});

law('devices that join launches and that do not', async inner => {
  devices.joined = await gpuNamed('joined', { joinAt: 2 });
  devices.apart = await gpuNamed('apart', { joinAt: Infinity });
  const cases: [name: string, net: Net, make: Make, most: number][] = [
    ['an MLP with Adam', nets.MLP!, adam, 8],
    ['an MLP with STEVE', nets.MLP!, steve, 24],
    ['a transformer with Adam', nets.transformer!, adam, 40],
    ['four layers of convolution, normalisation and ReLU with Adam', layers(4), adam, 32],
  ];
  for (const [name, net, make, most] of cases)
    inner.test(
      `${name}: at most ${most} dispatches and one submit a step, and the bits of one dispatch a launch`,
      async () => {
        const [joined, apart] = [await train(net, make, 'joined', 4), await train(net, make, 'apart', 4)];
        assert.deepEqual(joined.losses, apart.losses);
        assert.ok(joined.dispatches.at(-1)! <= most, `${joined.dispatches}, alone ${apart.dispatches}`);
        assert.deepEqual(joined.submits.slice(1), [1, 1, 1]);
      },
    );
});
