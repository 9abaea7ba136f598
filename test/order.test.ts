/** Orders at their edges: ties, NaN, long rows and gradients, on every device. */

import assert from 'node:assert/strict';
import {
  argsort,
  type DType,
  Generator,
  grad,
  randint,
  randn,
  registerBackend,
  sort,
  type Tensor,
  tensor,
  topk,
  where,
  zeros,
} from '@otimes/core';
import t from 'tap';
import { Dozen } from './helpers/dozen.ts';
import { law } from './helpers/law.ts';

registerBackend(new Dozen('composed'));
const DEVICES = ['cpu', 'reference', 'composed'];
const { NaN: nan } = Number;

for (const device of DEVICES) {
  const made = (values: readonly number[], dtype: DType = 'float32') => tensor([...values], { dtype, device });

  law(t, `${device}: NaN counts as largest, ±0 are equal, and equals keep their order, both ways`, () => {
    for (const dtype of ['float32', 'float64'] as const) {
      const x = made([nan, 0, -Infinity, -0, Infinity, nan, -1, 0], dtype);
      assert.deepEqual(argsort(x).toArray(), [2, 6, 1, 3, 7, 4, 0, 5]);
      assert.deepEqual(argsort(x, 0, { descending: true, stable: true }).toArray(), [0, 5, 4, 1, 3, 7, 6, 2]);
      assert.deepEqual(topk(x, 3).indices.toArray(), [0, 5, 4]);
      assert.deepEqual(topk(x, 4, 0, { largest: false, sorted: true }).indices.toArray(), [2, 6, 1, 3]);
      assert.deepEqual([...sort(x, -1, { descending: true }).values.dataSync()].slice(0, 3), [nan, nan, Infinity]);
    }
    assert.deepEqual(sort(made([2147483647, -2147483648, 0], 'int32')).values.toArray(), [-2147483648, 0, 2147483647]);
    assert.deepEqual(topk(made([2147483647, -2147483648, 0], 'int32'), 2).values.toArray(), [2147483647, 0]);
    assert.deepEqual(sort(made([1, 0, 1], 'bool')).values.toArray(), [false, true, true]);
    assert.deepEqual(sort(made([1, 0, 1], 'bool')).indices.toArray(), [1, 0, 2]);
  });

  law(t, `${device}: scalars and empty axes have an order too`, () => {
    const { values, indices } = sort(tensor(3, { device }));
    assert.deepEqual([values.toArray(), indices.toArray()], [3, 0]);
    assert.deepEqual(topk(tensor(3, { device }), 1).values.toArray(), 3);
    assert.deepEqual(sort(zeros([0], { device })).values.shape, [0]);
    assert.deepEqual(argsort(zeros([3, 0, 2], { device }), 1).shape, [3, 0, 2]);
    assert.deepEqual(topk(zeros([2, 3], { device }), 0).values.shape, [2, 0]);
    assert.throws(() => topk(zeros([2, 3], { device }), 4), {
      name: 'ShapeError',
      message: 'topk: expected k in 0 … 3 for axis 1 of float32[2,3], got 4',
    });
  });

  law(t, `${device}: gradients go to the elements that were picked, ties and second derivatives too`, () => {
    const x = tensor([3, 1, 3, 2], { dtype: 'float64', device, requiresGrad: true });
    const of = (f: (x: Tensor) => Tensor) => grad(f(x).sum(), [x])[0].toArray();
    assert.deepEqual(
      of(x => sort(x).values.mul([1, 10, 100, 1000])),
      [100, 1, 1000, 10],
    );
    assert.deepEqual(
      of(x => topk(x, 2).values.mul([1, 10])),
      [1, 0, 10, 0],
    );
    const [g] = grad(topk(x, 2).values.square().sum(), [x], { createGraph: true });
    assert.deepEqual(grad(g.sum(), [x])[0].toArray(), [2, 0, 2, 0]);
  });
}

/** Rows with many equal elements and some special ones. */
function mixed(shape: readonly number[], dtype: DType): Tensor {
  const rng = new Generator(3);
  if (dtype === 'int32')
    return where(
      randint(0, 3, shape, { rng }).eq(0),
      randint(-5, 5, shape, { rng }),
      randint(-2147483648, 2147483647, shape, { rng }),
    );
  const x = where(
    randint(0, 3, shape, { rng }).eq(0),
    randint(-2, 2, shape, { rng }),
    randn(shape, { rng, dtype }).mul(1e3),
  );
  const special = where(randint(0, 9, shape, { rng }).eq(0), Number.NaN, x.astype(dtype));
  return where(randint(0, 9, shape, { rng }).eq(0), -Infinity, special);
}

law(t, 'long rows have the order of the plain sort, along every axis and of every dtype', () => {
  for (const dtype of ['float32', 'float64', 'int32'] as const)
    for (const [shape, axis] of [
      [[1, 3000], 1],
      [[200, 3], 0],
      [[2, 49, 2], 1],
      [[2, 48, 2], 1],
    ] as const) {
      const x = mixed(shape, dtype);
      const exact = x.to('reference');
      for (const descending of [false, true]) {
        assert.deepEqual(argsort(x, axis, { descending }).toArray(), argsort(exact, axis, { descending }).toArray());
        for (const k of [1, 2, 7, 48, 128, 130].filter(k => k <= shape[axis]!)) {
          const o = { largest: descending };
          assert.deepEqual(topk(x, k, axis, o).indices.toArray(), topk(exact, k, axis, o).indices.toArray());
        }
      }
    }
});

law(t, 'a sorting network of other operations gives that order, whether lengths are powers of 2 or not', () => {
  for (const length of [1, 2, 3, 31, 32, 33, 100])
    for (const dtype of ['float32', 'int32'] as const) {
      const x = mixed([2, length, 2], dtype);
      for (const descending of [false, true])
        assert.deepEqual(
          argsort(x.to('composed'), 1, { descending }).toArray(),
          argsort(x.to('reference'), 1, { descending }).toArray(),
        );
    }
});
