/** Tensors like others, evenly spaced numbers, and grids. */

import assert from 'node:assert/strict';
import {
  arange,
  fullLike,
  Generator,
  grad,
  linspace,
  logspace,
  meshgrid,
  ones,
  onesLike,
  rand,
  randLike,
  randn,
  randnLike,
  tensor,
  zerosLike,
} from '@otimes/core';
import t from 'tap';
import { law } from './helpers/law.ts';

law(
  t,
  'what is like a tensor has its shape, dtype and device, and no gradient, unless the options say otherwise',
  () => {
    for (const dtype of ['float32', 'float64', 'int32', 'bool'] as const)
      for (const device of ['cpu', 'reference']) {
        const x = ones([3, 2], { dtype, device }).T;
        if (dtype.startsWith('float')) x.requiresGrad = true;
        const made = [zerosLike(x), onesLike(x), fullLike(x, 1)];
        if (dtype.startsWith('float')) made.push(randLike(x), randnLike(x));
        for (const y of made) {
          assert.deepEqual([y.shape, y.dtype, y.device, y.requiresGrad], [[2, 3], dtype, device, false]);
          assert.ok(y.isContiguous && y.storage !== x.storage);
        }
        const other = onesLike(x, { dtype: 'float64', device: 'cpu', requiresGrad: true });
        assert.deepEqual([other.dtype, other.device, other.requiresGrad], ['float64', 'cpu', true]);
      }
    assert.deepEqual(zerosLike(ones([2])).toArray(), [0, 0]);
    assert.deepEqual(fullLike(ones([2], { dtype: 'int32' }), -3).toArray(), [-3, -3]);
    assert.throws(() => fullLike(ones([2], { dtype: 'int32' }), 0.5), /^DTypeError: fullLike: int32 holds integers/);
    assert.throws(
      () => randLike(ones([2], { dtype: 'int32' })),
      /^DTypeError: randLike: expected a floating dtype, got int32/,
    );
  },
);

law(t, 'random numbers like a tensor are those of its shape', () => {
  const rng = () => ({ rng: new Generator(5) });
  assert.deepEqual(randLike(ones([2, 3]), rng()).toArray(), rand([2, 3], rng()).toArray());
  assert.deepEqual(randnLike(ones([2, 3]), rng()).toArray(), randn([2, 3], rng()).toArray());
});

law(t, 'evenly spaced numbers have exact ends, are symmetric, and of any count', () => {
  for (const count of [2, 3, 7, 10, 100]) {
    const x = linspace(-0.3, 0.3, count, { dtype: 'float64' }).dataSync();
    assert.deepEqual([x[0], x.at(-1)], [-0.3, 0.3]);
    x.forEach((value, i) => {
      assert.ok(Math.abs(value - (-0.3 + (0.6 * i) / (count - 1))) < 1e-15);
      // 0 stands against −0 in the middle.
      assert.equal(value + x[count - 1 - i]!, 0);
    });
  }
  assert.deepEqual(linspace(5, 9, 1).toArray(), [5]);
  assert.deepEqual(linspace(5, 9, 0).toArray(), []);
  assert.deepEqual(linspace(3, 1, 5).toArray(), [3, 2.5, 2, 1.5, 1]);
  assert.deepEqual(logspace(0, 3, 4).toArray(), [1, 10, 100, 1000]);
  assert.deepEqual(logspace(-1, 1, 3, { base: 2, dtype: 'float64' }).toArray(), [0.5, 1, 2]);
  assert.throws(
    () => linspace(0, 1, 3, { dtype: 'int32' }),
    /^DTypeError: linspace: expected a floating dtype, got int32/,
  );
  assert.throws(() => linspace(0, 1, -1), /^RangeError: linspace: expected steps to be an integer ≥ 0, got -1/);
});

law(t, 'a grid has each vector along its own axis, as views through which gradients flow', () => {
  const [x, y, z] = [arange(2), arange(3), arange(4)];
  const grids = meshgrid([x, y, z]);
  for (const [i, grid] of grids.entries()) {
    assert.deepEqual(grid.shape, [2, 3, 4]);
    assert.equal(grid.storage, [x, y, z][i]!.storage);
    for (const index of [
      [0, 0, 0],
      [1, 2, 3],
      [1, 0, 2],
    ] as const)
      assert.equal(grid.at(...(index as readonly number[] as [number])).item(), index[i]);
  }
  const [columns, rows] = meshgrid([x, y], { indexing: 'xy' });
  assert.deepEqual(columns!.toArray(), [
    [0, 1],
    [0, 1],
    [0, 1],
  ]);
  assert.deepEqual(rows!.toArray(), [
    [0, 0],
    [1, 1],
    [2, 2],
  ]);
  assert.deepEqual(meshgrid([x], { indexing: 'xy' })[0]!.toArray(), [0, 1]);
  assert.deepEqual(meshgrid([]), []);
  const w = tensor([1, 2], { requiresGrad: true });
  const [g] = grad(meshgrid([w, tensor([1, 2, 3])])[0]!.sum(), [w]);
  assert.deepEqual(g!.toArray(), [3, 3]);
  assert.throws(() => meshgrid([ones([2, 2])]), /^ShapeError: meshgrid: expected vectors, got float32\[2,2\]/);
});

law(t, 'linspace has its ends where they are infinite, and what lies between where their distance is no float', () => {
  const between = (start: number, end: number, steps: number) =>
    linspace(start, end, steps, { dtype: 'float64' }).toArray();
  assert.deepEqual(between(-1e308, 1e308, 3), [-1e308, 0, 1e308]);
  assert.deepEqual(between(-1e308, 1e308, 5), [-1e308, -5e307, 0, 5e307, 1e308]);
  for (const [start, end] of [
    [0, Infinity],
    [-Infinity, 1],
    [Infinity, -Infinity],
  ] as const) {
    const x = between(start, end, 4) as number[];
    assert.deepEqual([x[0], x[3]], [start, end]);
  }
});
