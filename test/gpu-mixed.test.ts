/** The device 'gpu' opened with `mixed`: products take their operands in f16; and GradScaler on the device. */

import assert from 'node:assert/strict';
import { Generator, gram, randn, type Tensor, tensor } from '@otimes/core';
import { gpuBackend, initGpu } from '@otimes/gpu';
import { Linear, type Module } from '@otimes/nn';
import { Adam, clipGradNorm, Muon, type Optimizer, rotate, SGD, STEVE } from '@otimes/optim';
import t from 'tap';
import { testNeeding } from './helpers/requires.ts';
import { losses } from './suites/float32.ts';
import { ScaledRun } from './suites/scaled.ts';

const law = await testNeeding(t, 'gpu');
const on = { device: 'gpu' };

/** To the nearest number of f16, ties to even. */
function rounded(x: number): number {
  if (!Number.isFinite(x)) return x;
  const step = 2 ** Math.max(Math.floor(Math.log2(Math.abs(x))) - 10, -24);
  const count = Math.abs(x) / step;
  const below = Math.floor(count);
  const up = count - below > 0.5 || (count - below === 0.5 && below % 2 === 1);
  const value = (below + Number(up)) * step;
  return Math.sign(x) * (value > 65504 ? Infinity : value);
}

async function roundedTensor(x: Tensor): Promise<Tensor> {
  return tensor([...(await x.data())].map(rounded), { dtype: 'float64' }).reshape(x.shape);
}

async function mustBeNear(found: Tensor, expected: Tensor, limit: number): Promise<void> {
  const [values, wanted] = await Promise.all([found.data(), expected.data()]);
  for (const [i, value] of values.entries())
    assert.ok(Math.abs(value - wanted[i]!) < limit, `${found.shape} at ${i}: ${value}, expected ${wanted[i]}`);
}

law('initGpu({ mixed: true }) says by what products are computed', async () => {
  const { mixed } = await initGpu({ mixed: true });
  assert.ok(mixed === 'matrices' || mixed === 'packed', `${mixed}`);
});

law('numbers are rounded to the nearest of f16, ties to even, and to infinity from 65520 on', async () => {
  const edges = [
    0,
    1 / 3,
    65504,
    65519.99,
    65520,
    1e6,
    1e38,
    Infinity,
    1 + 2 ** -11,
    1 + 3 * 2 ** -11,
    2 ** -14,
    6.1e-5,
  ];
  const tiny = [2 ** -24, 2 ** -25, 1.1 * 2 ** -25, 3.3e-6, 1e-30];
  const values = [...edges, ...edges, ...tiny].map((x, i) => (i % 2 === 0 ? x : -x));
  const found = await tensor(values, on)
    .reshape([-1, 1])
    .matmul(tensor([[1]], on))
    .data();
  for (const [i, value] of found.entries())
    assert.ok(value === rounded(Math.fround(values[i]!)), `${values[i]}: ${value}`);
  assert.ok(
    Number.isNaN(
      await tensor([[Number.NaN]], on)
        .matmul(tensor([[1]], on))
        .number(),
    ),
  );
});

law('products of all layouts are those of rounded operands, added in float32', async () => {
  const rng = new Generator(1);
  const shapes: [number, number, number, number[]][] = [
    [3, 5, 7, []],
    [40, 24, 16, [3]],
    [24, 8, 1000, []],
  ];
  for (const [m, n, k, batch] of shapes)
    for (const [left, right] of [
      [0, 0],
      [1, 0],
      [0, 1],
      [1, 1],
    ]) {
      const a = randn([...batch, ...(left ? [k, m] : [m, k])], { rng });
      const b = randn([...batch, ...(right ? [n, k] : [k, n])], { rng });
      const turned = (x: Tensor, turns: number | undefined) => (turns ? x.transpose(-1, -2) : x);
      const product = (x: Tensor, y: Tensor) => turned(x, left).matmul(turned(y, right));
      const expected = product(await roundedTensor(a), await roundedTensor(b));
      await mustBeNear(product(a.to('gpu'), b.to('gpu')), expected, 1e-5 * Math.sqrt(k));
    }
});

law('what was written to is rounded anew, and views of it too', async () => {
  const x = tensor(
    [
      [1, 2],
      [3, 4],
    ],
    on,
  );
  const one = tensor([[1], [0]], on);
  assert.deepEqual([...(await x.matmul(one).data())], [1, 3]);
  x.scale_(3);
  assert.deepEqual([...(await x.transpose().matmul(one).data())], [3, 6]);
  x.copy_(
    tensor(
      [
        [5, 6],
        [7, 8],
      ],
      on,
    ),
  );
  assert.deepEqual([...(await x.matmul(one).data())], [5, 7]);
});

law('Gram matrices, rotations of bases and the products of Muon stay float32', async () => {
  const rng = new Generator(2);
  const x = randn([30, 8], { rng });
  await mustBeNear(gram(x.to('gpu')), gram(x.astype('float64')), 1e-5);
  const R = randn([8, 8], { rng });
  const turned = (x: Tensor, R: Tensor) => rotate(x, { RA: R, RG: null });
  await mustBeNear(turned(x.to('gpu'), R.to('gpu')), turned(x.astype('float64'), R.astype('float64')), 1e-5);
  const stepped = (device: string) => {
    const layer = new Linear(8, 6, { bias: false, rng: new Generator(3) }).to(device);
    layer.weight.grad = randn([6, 8], { rng: new Generator(4) }).to(device);
    const muon = new Muon(layer, { lr: 1 });
    muon.step();
    return layer.weight.detach();
  };
  await mustBeNear(stepped('gpu'), stepped('cpu'), 1e-5);
});

const adam = (m: Module): Optimizer => new Adam(m.parameters(), { lr: 0.01 });
for (const net of ['MLP', 'CNN'])
  law(`${net}: learns in f16 what it learns in float32, within 1%`, async () => {
    const [expected, found] = [await losses(net, adam, 'cpu'), await losses(net, adam, 'gpu')];
    for (const [i, loss] of found.entries())
      assert.ok(Math.abs(loss - expected[i]!) < 0.01 * expected[i]!, `loss ${i}: ${loss}, expected ${expected[i]}`);
    assert.notDeepEqual(found, expected);
  });

law('gradients that vanish in f16 do not where the loss is scaled', async () => {
  const gradient = async (scale: number) => {
    const w = tensor([[1]], { ...on, requiresGrad: true });
    tensor([[1]], on)
      .matmul(w)
      .mul(1e-9)
      .mul(scale)
      .sum()
      .backward();
    return w.grad!.number();
  };
  assert.equal(await gradient(1), 0);
  const scaled = (await gradient(65536)) / 65536;
  assert.ok(Math.abs(scaled - 1e-9) < 2e-12, `${scaled}`);
});

const optimizers: Record<string, (m: Module) => Optimizer> = {
  'SGD with momentum': m => new SGD(m.parameters(), { lr: 0.1, momentum: 0.9 }),
  Adam: adam,
  STEVE: m => new STEVE(m, { lr: 0.05, refreshEvery: 2 }),
};
for (const [name, make] of Object.entries(optimizers))
  law(`a step of ${name} whose gradients overflow changes nothing on the GPU, and halves the scale`, async () => {
    const run = new ScaledRun('gpu', make, { initScale: 2 ** 10, growthInterval: 2 });
    await run.step(Number.NaN);
    await run.step();
    const before = await run.tensors();
    await run.step(Infinity);
    assert.deepEqual(await run.tensors(), before);
    assert.equal(await run.scaler.getScale(), 2 ** 8);
    await run.step();
    assert.notDeepEqual(await run.tensors(), before);
    for (const value of await run.parameters()) assert.ok(Number.isFinite(value));
  });

law('gradients that overflowed pass clipGradNorm after unscale_, and the step is skipped', async () => {
  const run = new ScaledRun('gpu', adam, { initScale: 2 ** 10 });
  const before = await run.parameters();
  run.backward(Infinity);
  run.scaler.unscale_(run.optimizer);
  assert.ok(!Number.isFinite(await clipGradNorm(run.model.parameters(), 1)));
  await run.scaler.step(run.optimizer);
  run.scaler.update();
  assert.deepEqual(await run.parameters(), before);
  assert.equal(await run.scaler.getScale(), 2 ** 9);
  await assert.rejects(async () => clipGradNorm(run.model.parameters(), 1), {
    message: /the norm of the gradients is/,
  });
});

law('steps of Adam with a scaler wait for nothing', async () => {
  const run = new ScaledRun('gpu', adam, {});
  await run.step();
  const { reads } = gpuBackend()!.stats;
  for (const factor of [1, Infinity, 1]) {
    run.backward(factor);
    assert.equal(run.scaler.step(run.optimizer), undefined);
    run.scaler.update();
  }
  assert.equal(gpuBackend()!.stats.reads, reads);
  assert.equal(await run.scaler.getScale(), 2 ** 15);
});
