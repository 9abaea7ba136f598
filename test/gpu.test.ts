/** The device 'gpu': what it computes is what the reference computes, and what it refuses changes nothing. */

import assert from 'node:assert/strict';
import { Generator, ones, type Tensor, tensor, zeros } from '@otimes/core';
import { gpuBackend, initGpu } from '@otimes/gpu';
import { crossEntropy, type Module } from '@otimes/nn';
import { Adam, AdamW, EKFAC, KFAC, type KroneckerOptions, Muon, type Optimizer, SGD, STEVE } from '@otimes/optim';
import t from 'tap';
import { testNeeding } from './helpers/requires.ts';
import { losses, nets } from './suites/float32.ts';

const law = await testNeeding(t, 'gpu');
const on = { device: 'gpu' };

const small: KroneckerOptions = { lr: 0.01, refreshEvery: 3 };
const damped = { ...small, damping: 0.1 };
const optimizers: Record<string, (model: Module) => Optimizer> = {
  'SGD with momentum': model => new SGD(model.parameters(), { lr: 0.05, momentum: 0.9 }),
  Adam: model => new Adam(model.parameters(), { lr: 0.01 }),
  AdamW: model => new AdamW(model.parameters(), { lr: 0.01 }),
  Muon: model => new Muon(model),
  KFAC: model => new KFAC(model, { ...damped, dampingSplit: 'pi', klClip: 1e-3 }),
  EKFAC: model => new EKFAC(model, { ...damped, fisher: 'sampled', loss: 'crossEntropy' }),
  STEVE: model => new STEVE(model, small),
  'STEVE in the basis': model => new STEVE(model, { ...small, route: 'resident' }),
  'STEVE of sums over positions': model =>
    new STEVE(model, { ...small, sharing: 'reduce', fisher: 'ggn', loss: 'crossEntropy' }),
};

/** Adam trains every network, each other optimizer one of them, in turn. */
const runs = Object.keys(optimizers).flatMap((name, i) => {
  const all = Object.keys(nets);
  return (name === 'Adam' ? all : [all[i % all.length]!]).map(net => [net, name] as const);
});

for (const [net, name] of runs)
  law(`${net}: ${name} learns on the GPU what it learns on the CPU`, async () => {
    const make = optimizers[name]!;
    const [expected, found] = [await losses(net, make, 'cpu'), await losses(net, make, 'gpu')];
    for (const [i, loss] of found.entries())
      assert.ok(Math.abs(loss - expected[i]!) < 1e-3, `loss ${i}: ${loss}, expected ${expected[i]}`);
  });

law('a step that is not read submits nothing but when its constants are used up', async () => {
  const model = nets.MLP!.make(new Generator(0)).to('gpu');
  const optimizer = new Adam(model.parameters());
  const [x, y] = [ones([32, 16], on), zeros([32], { ...on, dtype: 'int32' })];
  const step = () => {
    optimizer.zeroGrad();
    const loss = crossEntropy(model.call(x) as Tensor, y);
    loss.backward();
    optimizer.step();
    return loss;
  };
  await step().number();
  const before = gpuBackend()!.stats;
  for (let i = 0; i < 5; i++) step();
  const after = gpuBackend()!.stats;
  assert.equal(after.submits, before.submits);
  assert.ok(
    (after.dispatches - before.dispatches) / 5 <= 24,
    `${(after.dispatches - before.dispatches) / 5} dispatches`,
  );
  await step().number();
});

law('a label out of range rejects the next read, and leaves parameters and moments as they were', async () => {
  const model = nets.MLP!.make(new Generator(0)).to('gpu');
  const optimizer = new Adam(model.parameters());
  const step = (labels: number[]) => {
    optimizer.zeroGrad();
    crossEntropy(model.call(ones([3, 16], on)) as Tensor, tensor(labels, { ...on, dtype: 'int32' })).backward();
    optimizer.step();
  };
  const all = async () => {
    const state = { ...model.stateDict(), ...optimizer.stateDict() };
    return Promise.all(Object.entries(state).map(async ([name, x]) => [name, [...(await x.data())]]));
  };
  step([0, 1, 2]);
  const before = await all();
  step([0, 3, 2]);
  await assert.rejects(model.parameters()[0]!.data(), { message: /3 at position 1 is out of range 0 … 2/ });
  assert.deepEqual(await all(), before);
  step([2, 1, 0]);
  assert.notDeepEqual(await all(), before);
});

law('initGpu refuses what it does not know, and keeps the GPU that is open', async () => {
  const open = gpuBackend();
  for (const o of [{ memory: 1 }, { memoryLimit: -1 }, { powerPreference: 'most' }, { adapter: {} }])
    await assert.rejects(initGpu(o as never), { message: /^initGpu: / });
  assert.equal(gpuBackend(), open);
});

law('what WebGPU has no numbers for is refused where it is made', () => {
  assert.throws(() => zeros([2], { ...on, dtype: 'float64' }), { name: 'DTypeError', message: /'gpu' has no float64/ });
});
