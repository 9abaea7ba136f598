/** The device 'gpu': few dispatches a step, and the same numbers as with one for each launch. */

import assert from 'node:assert/strict';
import { setTimeout } from 'node:timers/promises';
import { Generator, noGrad, ones, randint, randn, type Tensor } from '@otimes/core';
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
    while (devices[device]!.stats.compiling > 0) await setTimeout(2);
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
    ['an MLP with STEVE, in a step that measures its graft', nets.MLP!, steve, 40],
    ['a transformer with Adam', nets.transformer!, adam, 40],
    ['four layers of convolution, normalisation and ReLU with Adam', layers(4), adam, 32],
  ];
  for (const [name, net, make, most] of cases)
    inner.test(
      `${name}: at most ${most} dispatches and one submit a step, and the bits of one dispatch a launch`,
      async () => {
        const [joined, apart] = [await train(net, make, 'joined', 7), await train(net, make, 'apart', 7)];
        assert.deepEqual(joined.losses, apart.losses);
        assert.ok(joined.dispatches.at(-1)! <= most, `${joined.dispatches}, alone ${apart.dispatches}`);
        assert.deepEqual(joined.submits.slice(1), [1, 1, 1, 1, 1, 1]);
      },
    );
});

law('nobody waits for the compiler of joined launches: they go on apart until it is done', async () => {
  const backend = await gpuNamed('aside', { joinAt: 2 });
  const x = ones([8], { device: 'aside' });
  await x.data();
  const step = () => [x.exp(), x.sqrt(), x.neg()];
  const dispatches = async () => {
    const before = backend.stats.dispatches;
    const all = await Promise.all(step().map(y => y.data()));
    assert.deepEqual(
      all.map(y => y[0]),
      [Math.fround(Math.E), 1, -1],
    );
    return backend.stats.dispatches - before;
  };
  assert.equal(await dispatches(), 3);
  step().map(y => y.data());
  assert.ok(backend.stats.compiling <= 1);
  for (let turn = 0; turn < 50 && (backend.stats.compiling > 0 || turn < 2); turn++) await setTimeout(20);
  assert.equal(await dispatches(), 1);
});

law('a batch that writes much is submitted in parts, so that the GPU need not wait for the host', async () => {
  const { stats: before } = devices.apart!;
  const [x, y] = [ones([2 ** 20], { device: 'apart' }), ones([2 ** 20], { device: 'apart' })];
  noGrad(() => {
    for (let i = 0; i < 130; i++) y.addScaled_(x, 0);
  });
  const { submits } = devices.apart!.stats;
  assert.equal(submits - before.submits, 2);
  assert.equal((await y.data())[5], 1);
});
