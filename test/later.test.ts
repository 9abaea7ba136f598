/** Devices that are read with await, on 'later'. */

import {
  grad,
  labelCrossEntropy,
  loadSafetensors,
  noGrad,
  oneHot,
  ones,
  readStateDict,
  registerBackend,
  saveSafetensors,
  scope,
  type Tensor,
  tensor,
  zeros,
} from '@otimes/core';
import { Linear } from '@otimes/nn';
import t from 'tap';
import { DEVICES } from './helpers/devices.ts';
import { Queued } from './helpers/dozen.ts';
import { instantReadsIn, laterDevice } from './helpers/later.ts';

const device = laterDevice().device;
const on = { device };
registerBackend(new Queued('queued'));

t.test('values are read with data(), number() and array(), in the order of the calls', async t => {
  const x = tensor(
    [
      [1, 2],
      [3, 4],
    ],
    on,
  );
  const before = x.sum().number();
  x.scale_(10);
  t.equal(await before, 10);
  t.same(await x.array(), [
    [10, 20],
    [30, 40],
  ]);
  t.same([...(await x.mul(2).data())], [20, 40, 60, 80]);
  t.same(await tensor([true, false], on).array(), [true, false]);
});

t.test('what reads at once throws and names what can be awaited', t => {
  const x = ones([1], on);
  const message = { message: /^read: tensors on 'later' are read with await: await t\.data\(\)/ };
  t.throws(() => x.item(), message);
  t.throws(() => x.dataSync(), message);
  t.throws(() => x.toArray(), message);
  t.throws(() => x.ndarray(), message);
  t.throws(() => x.to('cpu'), {
    message:
      "to: tensors on 'later' are read with await: await x.cpu() is a copy on 'cpu' outside of the graph, await x.data() the elements",
  });
  t.throws(() => saveSafetensors({ 'layers.0.weight': x }), {
    message:
      "safetensors: 'layers.0.weight' is on 'later', which is read with await; give await readStateDict(tensors)",
  });
  t.match(String(x), "tensor(float32[1] on 'later', to be read with await t.data())");
  t.end();
});

t.test('number() expects one element on every device', async t => {
  for (const name of ['cpu', 'reference', device])
    await t.rejects(zeros([2], { device: name }).number(), { message: /^number: expected exactly one element/ });
});

t.test('instant reads are counted', async t => {
  const x = ones([2], on);
  t.equal(await instantReadsIn(() => x.dataSync().length + x.sum().item()), 2);
  t.equal(await instantReadsIn(() => x.add(1).mul(x)), 0);
});

for (const name of DEVICES) {
  t.test(`${name}: cpu() is a copy on 'cpu', outside of the graph, of the elements at the call`, async t => {
    const x = tensor(
      [
        [1, 2, 3],
        [4, 5, 6],
      ],
      { device: name, requiresGrad: true },
    );
    const later = x.transpose().mul(1).cpu();
    noGrad(() => x.scale_(2));
    const copy = await later;
    t.same([copy.device, copy.dtype, copy.requiresGrad], ['cpu', 'float32', false]);
    t.same(copy.toArray(), [
      [1, 4],
      [2, 5],
      [3, 6],
    ]);
    copy.scale_(0);
    t.same(await x.array(), [
      [2, 4, 6],
      [8, 10, 12],
    ]);
  });

  t.test(`${name}: a state goes through a file's bytes, as it was at the call of readStateDict`, async t => {
    const state = {
      b: tensor([1.5, -2], { device: name }),
      a: tensor([[1], [7]], { device: name, dtype: 'int32' }),
      'c.d': tensor([true, false, true], { device: name }),
      '0': tensor(0.1, { device: name, dtype: 'float64' }),
    };
    const reading = readStateDict(state);
    state.b.scale_(0);
    const read = await reading;
    t.same(Object.keys(read), Object.keys(state));
    const loaded = loadSafetensors(saveSafetensors(read));
    t.same(loaded.b!.toArray(), [1.5, -2]);
    t.same(loaded.a!.toArray(), [[1], [7]]);
    t.same(loaded['c.d']!.toArray(), [true, false, true]);
    t.same(loaded['0']!.item(), 0.1);
    t.same(
      Object.entries(loaded)
        .map(([key, { dtype }]) => [key, dtype])
        .sort(),
      Object.entries(state)
        .map(([key, { dtype }]) => [key, dtype])
        .sort(),
    );
  });

  t.test(
    `${name}: numbers that int32 cannot hold are refused by astype and copy_, which leaves its target as it was`,
    async t => {
      const on = { device: name };
      const message = /int32 holds −2147483648 … 2147483647, got 3000000000/;
      const big = tensor([1.9, 3e9], { ...on, dtype: 'float64' });
      await t.rejects(async () => big.astype('int32').data(), { name: 'RangeError', message });
      const y = tensor([5, 6], { ...on, dtype: 'int32' });
      await t.rejects(
        async () => {
          y.copy_(big);
          await y.data();
        },
        { name: 'RangeError', message },
      );
      t.same(await y.array(), [5, 6]);
      y.copy_(tensor([-1.9, 2.9], on));
      t.same(await y.array(), [-1, 2]);
    },
  );
}

t.test('conversions, picking, losses and their gradients read nothing', async t => {
  const x = tensor(
    [
      [1.5, 2.5, 0.5],
      [0.25, 1, 3],
    ],
    { ...on, requiresGrad: true },
  );
  const labels = tensor([2, 0], { ...on, dtype: 'int32' });
  const y = tensor([0, 0], { ...on, dtype: 'int32' });
  const reads = await instantReadsIn(() => {
    x.astype('int32').astype('bool').any();
    y.copy_(x.detach().narrow(1, 0, 1).reshape(2));
    y.copy_(tensor([1, 0], { ...on, dtype: 'float64' }));
    const picked = x
      .gather(1, labels.unsqueeze(1))
      .sum()
      .add(x.indexSelect(0, labels.astype('bool').astype('int32')).sum());
    const hot = oneHot(labels, 3, { dtype: 'float32' }).mul(x).sum();
    picked
      .add(hot)
      .add(labelCrossEntropy(x, labels, 0.5))
      .add(x.pow(2).max())
      .add(x.clamp(0, 2).norm())
      .backward();
    const [g] = grad(x.square().sum(), [x], { createGraph: true });
    g.sum().backward();
    noGrad(() => x.addScaled_(x.grad!, 0.1).addcdiv_(x.grad!, x.grad!.square().add(1), 0.1).scale_(0.9));
  });
  t.equal(reads, 0);
  t.same(await y.array(), [1, 0]);
});

t.test('an index out of range is told at the next read, and nothing was written in between', async t => {
  const x = ones([3], on);
  const p: Tensor = ones([1], on);
  const bad = x.gather(0, tensor([0, 7], { ...on, dtype: 'int32' }));
  p.addScaled_(bad.narrow(0, 0, 1), 1);
  await t.rejects(p.data(), { message: 'gather: index 7 at position 1 is out of range 0 … 2' });
  t.same(await p.array(), [1]);
  p.addScaled_(x.gather(0, tensor([0], { ...on, dtype: 'int32' })), 1);
  t.same(await p.array(), [2]);
});

for (const name of ['later', 'queued'])
  t.test(`${name}: a state is loaded while a check that failed is not told`, async t => {
    const on = { device: name };
    const layer = new Linear(2, 1, { bias: false }).to(name);
    ones([3], on).gather(0, tensor([0, 7], { ...on, dtype: 'int32' }));
    layer.loadStateDict({ weight: tensor([[1, 2]]) });
    noGrad(() => layer.weight.scale_(3));
    await t.rejects(layer.weight.data(), { message: /index 7 at position 1/ });
    t.same(await layer.weight.array(), [[1, 2]]);
  });

t.test('memory that was released is still there for the work that was entered before', async t => {
  const sum = scope(() => ones([4], on).mul(3).sum());
  t.equal(await sum.number(), 12);
});
