/** Devices that are read with await, on 'later'. */

import { ones, scope, type Tensor, tensor, zeros } from '@otimes/core';
import t from 'tap';
import { instantReadsIn, laterDevice } from './helpers/later.ts';

const device = laterDevice().device;
const on = { device };

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
  t.throws(() => x.to('cpu'), message);
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

t.test('memory that was released is still there for the work that was entered before', async t => {
  const sum = scope(() => ones([4], on).mul(3).sum());
  t.equal(await sum.number(), 12);
});
