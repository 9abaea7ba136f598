/** Rows of tensors, as loops take them, and what else in a language of iterables sees a tensor. */

import assert from 'node:assert/strict';
import { concat, grad, ones, type Tensor, tensor, zeros } from '@otimes/core';
import { clipGradNorm, SGD } from '@otimes/optim';
import t from 'tap';
import { law } from './helpers/law.ts';

const matrix = () =>
  tensor(
    [
      [1, 2, 3],
      [4, 5, 6],
    ],
    { dtype: 'float64' },
  );

law(t, 'a loop, spread, destructuring and Array.from go over the first axis', () => {
  const rows: unknown[] = [];
  for (const row of matrix()) rows.push(row.toArray());
  assert.deepEqual(rows, matrix().toArray());
  assert.deepEqual(
    [...matrix()].map(row => row.toArray()),
    rows,
  );
  const [first, second, third] = matrix();
  assert.deepEqual([first!.toArray(), second!.toArray(), third], [...rows, undefined]);
  assert.deepEqual(
    Array.from(matrix(), row => row.toArray()),
    rows,
  );
  assert.deepEqual([...zeros([0, 3])], []);
  assert.equal([...zeros([2, 0])].length, 2);
  const [x, y] = tensor([3, 4]);
  assert.equal(Number(x) + Number(y), 7);
  assert.deepEqual(Float64Array.from(tensor([0.5, 2]), Number), Float64Array.of(0.5, 2));
});

law(t, 'rows are views: writing to one writes to the tensor', () => {
  const x = matrix();
  for (const row of x) row.scale_(2);
  x.at(-1)
    .at(0)
    .copy_(tensor(0, { dtype: 'float64' }));
  assert.deepEqual(x.toArray(), [
    [2, 4, 6],
    [0, 10, 12],
  ]);
  assert.ok([...x].every(row => row.storage === x.storage));
});

law(t, 'gradients flow through rows to their places', () => {
  const x = matrix();
  x.requiresGrad = true;
  const [a, b] = x;
  const [g] = grad(a!.mul(b!).sum(), [x]);
  assert.deepEqual(g!.toArray(), [
    [4, 5, 6],
    [1, 2, 3],
  ]);
});

law(t, 'a scalar has no rows, and an index has its range', () => {
  assert.throws(() => [...tensor(1)], {
    name: 'ShapeError',
    message: /^iteration: expected at least one axis, got float32\[\]/,
  });
  assert.throws(() => matrix().at(2), {
    name: 'ShapeError',
    message: /^at: index 2 is out of range for axis 0 of length 2/,
  });
  assert.throws(() => matrix().at(0, -4), { message: /^at: index -4 is out of range for axis 1 of length 3/ });
  assert.throws(() => matrix().at(0, 0, 0), { message: /^at: 3 ranges for a tensor of rank 2/ });
  assert.throws(() => matrix().at(...([] as unknown as [number])), { message: /^at: expected index to be an integer/ });
  for (const x of [tensor(1), ones([3]), ones([1, 2, 3])])
    assert.throws(() => x.T, {
      name: 'ShapeError',
      message: /^T: expected a matrix, got float32.*permute takes other ranks/,
    });
});

law(t, 'a tensor is still one tensor wherever a list is something else', () => {
  const x = matrix();
  x.requiresGrad = true;
  const message = (run: () => unknown, says: RegExp) => assert.throws(run, { message: says });
  message(
    () => concat(x as unknown as Tensor[]),
    /^concat: expected tensors to be an array of tensors.*put them into one/,
  );
  message(() => grad(x.sum(), x as unknown as Tensor[]), /^grad: .*put them into one array/);
  message(() => tensor(x as never), /^tensor: .*stack joins tensors/);
  message(() => tensor([x, x] as never), /^tensor: .*stack joins tensors/);
  message(() => x.add([x.at(0)] as never), /^add: .*stack joins tensors/);
  message(() => new SGD(x, { lr: 1 }), /^SGD: expected parameters to be an iterable.*give a list: \[w\]/);
  message(() => clipGradNorm(x, 1), /^clipGradNorm: expected parameters to be an iterable.*give a list: \[w\]/);
  assert.match(String(x), /^tensor\(\[\[1, 2, 3\],/);
  assert.equal(JSON.stringify({ x }), '{"x":[[1,2,3],[4,5,6]]}');
  assert.ok(!Array.isArray(x));
  assert.deepEqual([x].flat(), [x]);
});

t.test('deep equality of tap and of Node is that of layouts and storages, as before', async t => {
  const x = matrix();
  t.same(x, x);
  t.same([x], [x]);
  t.same({ x }, { x });
  assert.deepEqual(x, x);
  assert.notDeepEqual(tensor([1]), tensor([[1]]));
});
