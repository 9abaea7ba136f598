/** The device 'gpu' when something fails: the next read tells it, and what is trained is what it was before. */

import assert from 'node:assert/strict';
import { Generator, ones, readStateDict, scope, type Tensor, tensor, zeros } from '@otimes/core';
import { gpuBackend, initGpu } from '@otimes/gpu';
import { crossEntropy, type Module, mlp } from '@otimes/nn';
import { Adam, type Optimizer, STEVE } from '@otimes/optim';
import t from 'tap';
import { gpuNamed } from './helpers/gpu.ts';
import { testNeeding } from './helpers/requires.ts';

const law = await testNeeding(t, 'gpu');
const SHAPE = [4, 5, 3];

function trained(device: string, make: (model: Module) => Optimizer) {
  const model = mlp(SHAPE, { rng: new Generator(0) }).to(device);
  const optimizer = make(model);
  return {
    model,
    step(x: Tensor = ones([6, 4], { device }), labels = [0, 1, 2, 0, 1, 2]) {
      optimizer.zeroGrad();
      crossEntropy(model.call(x), tensor(labels, { device, dtype: 'int32' })).backward();
      return optimizer.step();
    },
    async all() {
      const state = Object.entries({ ...model.stateDict(), ...optimizer.stateDict() });
      return Promise.all(state.map(async ([name, x]) => [name, [...(await x.data())]]));
    },
  };
}
const adam = (model: Module) => new Adam(model.parameters(), { lr: 0.01 });
const steve = (model: Module) => new STEVE(model, { lr: 0.01, refreshEvery: 100 });

for (const [name, make] of Object.entries({ Adam: adam, STEVE: steve }))
  law(
    `${name}: after a label out of range nothing changes until a read has told it; then training goes on`,
    async () => {
      const { step, all, model } = trained('gpu', make);
      await step();
      const before = await all();
      step(undefined, [0, 1, 2, 0, 3, 2]);
      step();
      await assert.rejects(model.parameters()[0]!.data(), { message: /3 at position 4 is out of range 0 … 2/ });
      assert.deepEqual(await all(), before);
      await step();
      assert.notDeepEqual(await all(), before);
    },
  );

law('a state is loaded while a check that failed is not told, and steps are made again once it is', async () => {
  const { step, all, model } = trained('gpu', adam);
  const state = await readStateDict(model.stateDict());
  await step();
  step(undefined, [0, 1, 2, 0, 3, 2]);
  model.loadStateDict(state);
  step();
  await assert.rejects(model.parameters()[0]!.data(), { message: /3 at position 4 is out of range/ });
  const loaded = Object.fromEntries(await all());
  for (const [name, x] of Object.entries(state)) assert.deepEqual(loaded[name], [...x.dataSync()]);
  await step();
  assert.notDeepEqual(Object.fromEntries(await all()), loaded);
});

law('of checks that fail the first is told, whichever ran first', async () => {
  const [x, y] = [zeros([3], { device: 'gpu' }), tensor([1, -7, 9], { device: 'gpu', dtype: 'int32' })];
  // The second needs nothing, the first the result of a sum.
  const late = y.sum().add(y);
  assert.throws(() => x.gather(0, zeros([1])), { name: 'DTypeError' });
  x.gather(0, late);
  x.gather(0, y);
  await assert.rejects(x.data(), { message: /4 at position 0 is out of range/ });
  assert.deepEqual([...(await x.data())], [0, 0, 0]);
});

law('STEVE: a gradient that is not finite is told, and moments and averages are those before', async () => {
  const { step, all, model } = trained('gpu', steve);
  await step();
  const before = await all();
  step(ones([6, 4], { device: 'gpu' }).mul(Number.NaN));
  await assert.rejects(model.parameters()[0]!.data(), { name: 'RangeError', message: /not finite|NaN/ });
  assert.deepEqual(await all(), before);
});

law('a shader that does not compile is told by its name, once, and its batch is as if it had not been', async () => {
  const { gpuDevice } = await gpuNamed('broken');
  const { step, all, model } = trained('broken', adam);
  await step();
  const before = await all();
  const create = gpuDevice.createShaderModule.bind(gpuDevice);
  gpuDevice.createShaderModule = o => create({ ...o, code: 'fn main(' });
  const x = ones([6, 4], { device: 'broken' }).mul(2).sigmoid();
  gpuDevice.createShaderModule = create;
  step(x);
  const reads = await Promise.allSettled([x.data(), model.parameters()[0]!.data()]);
  for (const read of reads)
    assert.match(String((read as PromiseRejectedResult).reason), /the kernel '.*' does not compile/);
  assert.deepEqual(await all(), before);
  await step();
  assert.notDeepEqual(await all(), before);
});

law(
  'memory beyond the limit is an OutOfMemoryError after a collection, and what is given back can be used',
  async () => {
    await gpuNamed('small', { memoryLimit: 4e6 });
    const on = { device: 'small' };
    const kept = zeros([500_000], on);
    assert.throws(() => zeros([700_000], on), {
      name: 'OutOfMemoryError',
      message: /4000000 of this GPU's memoryLimit/,
    });
    for (let i = 0; i < 20; i++) scope(() => void kept.sum().add(zeros([100_000 + 20_000 * (i % 5)], on)).keep);
    assert.equal(await kept.sum().number(), 0);
  },
);

law('a tensor that is larger than the GPU has them is refused where it is made', () => {
  const { maxTensorBytes } = gpuBackend()!.info.limits;
  assert.throws(() => zeros([maxTensorBytes / 4 + 1], { device: 'gpu' }), {
    name: 'OutOfMemoryError',
    message: new RegExp(`more than the ${maxTensorBytes} that a tensor may have`),
  });
});

law('a loop that awaits nothing takes no more memory of the device than before the first collection', async () => {
  const backend = await gpuNamed('loop', { joinAt: Number.POSITIVE_INFINITY });
  const { step, model } = trained('loop', adam);
  for (let i = 0; i < 1000; i++) step();
  // Tensors that nobody releases are found when there are 2,000 of them, of 256 bytes each; a batch sets aside as many.
  const { bytes, submits } = backend.stats;
  assert.ok(bytes <= 1.2e6, `${bytes} bytes`);
  assert.ok(submits < 20, `${submits} submits`);
  assert.ok((await model.parameters()[0]!.data()).every(Number.isFinite));
});

law(
  'a device that was lost says so at every read and every step that is awaited; a new one takes its place, and the two do not mix',
  async () => {
    const old = gpuBackend()!;
    const kept = trained('gpu', adam);
    await initGpu();
    assert.notEqual(gpuBackend(), old);
    const [there, here] = [kept.model.parameters()[0]!, ones([5, 4], { device: 'gpu' })];
    assert.throws(() => there.add(here), {
      message: /on gpu of an earlier initGpu\(\) \(.*\) and float32\[5,4\] on gpu/,
    });
    assert.throws(() => kept.model.to('gpu'), { message: /await model\.cpu\(\)/ });
    there.grad = there.detach();
    for (const use of [() => adam(kept.model).step(), () => kept.model.loadStateDict(mlp(SHAPE).stateDict())])
      assert.throws(use, { message: /'gpu of an earlier initGpu\(\) \(make its model anew, or .*model\.cpu\(\)/ });
    const values = [...(await there.data())];
    (await kept.model.cpu()).to('gpu');
    assert.deepEqual([...(await kept.model.parameters()[0]!.data())], values);

    const lost = trained('gpu', adam);
    gpuBackend()!.gpuDevice.destroy();
    await assert.rejects(lost.model.parameters()[0]!.data(), {
      message: /the device was lost .*call initGpu\(\) again/,
    });
    await assert.rejects(async () => lost.step(), { message: /the device was lost/ });
    await assert.rejects(lost.model.parameters()[0]!.data(), { message: /the device was lost/ });
    await initGpu();
    const again = trained('gpu', adam);
    await again.step();
    assert.ok((await again.all()).length > 0);
  },
);
