/** Selections, scatters and samples at their edges, and where values are read with await. */

import assert from 'node:assert/strict';
import {
  bernoulli,
  booleanMask,
  booleanMaskAsync,
  type DType,
  full,
  Generator,
  grad,
  maskedSelect,
  maskedSelectAsync,
  multinomial,
  multinomialAsync,
  nonzero,
  nonzeroAsync,
  ones,
  randperm,
  registerBackend,
  scatter,
  scatterMax,
  type Tensor,
  tensor,
  unique,
  uniqueAsync,
  zeros,
} from '@otimes/core';
import t from 'tap';
import { Dozen } from './helpers/dozen.ts';
import { laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';

registerBackend(new Dozen('composed'));
const later = laterDevice();
const { NaN: nan } = Number;

for (const device of ['cpu', 'reference', 'composed']) {
  const made = (values: readonly number[], dtype: DType = 'float32') => tensor([...values], { dtype, device });
  const index = (...values: number[]) => made(values, 'int32');

  law(t, `${device}: nonzero lists indices in row-major order; NaN is not 0, −0 is`, () => {
    const x = made([0, 2, nan, -0, 0, -1]).reshape(2, 3);
    assert.deepEqual(nonzero(x).toArray(), [
      [0, 1],
      [0, 2],
      [1, 2],
    ]);
    assert.deepEqual(nonzero(zeros([2, 3], { device })).shape, [0, 2]);
    assert.deepEqual(nonzero(zeros([2, 0], { device })).shape, [0, 2]);
    assert.deepEqual(
      [nonzero(tensor(1, { device })).shape, nonzero(tensor(0, { device })).shape],
      [
        [1, 0],
        [0, 0],
      ],
    );
    assert.equal(nonzero(x).device, device);
  });

  law(t, `${device}: masks pick elements and slices, and gradients go back to them`, () => {
    const x = tensor(
      [
        [1, 2, 3],
        [4, 5, 6],
      ],
      { dtype: 'float64', device, requiresGrad: true },
    );
    const mask = made([1, 0, 1], 'bool');
    const y = maskedSelect(x, mask);
    assert.deepEqual(y.toArray(), [1, 3, 4, 6]);
    assert.deepEqual(grad(y.square().sum(), [x])[0].toArray(), [
      [2, 0, 6],
      [8, 0, 12],
    ]);
    assert.deepEqual(booleanMask(x, made([0, 1], 'bool')).toArray(), [[4, 5, 6]]);
    assert.deepEqual(booleanMask(x, x.gt(4)).toArray(), [5, 6]);
    assert.deepEqual(booleanMask(x, made([0, 0], 'bool')).shape, [0, 3]);
    assert.deepEqual(grad(booleanMask(x, made([0, 1], 'bool')).sum(), [x])[0].toArray(), [
      [0, 0, 0],
      [1, 1, 1],
    ]);
    assert.throws(() => booleanMask(x, mask), {
      name: 'ShapeError',
      message: /leading axes of float64\[2,3\], got bool\[3\]/,
    });
  });

  law(t, `${device}: unique gives ascending values, each NaN by itself, and rebuilds x from its inverse`, () => {
    const x = made([3, 1, nan, 3, -0, 0, nan, -Infinity]).reshape(2, 4);
    const { values, inverse, counts } = unique(x, { returnInverse: true, returnCounts: true });
    assert.deepEqual(
      Array.from(values.dataSync(), v => v + 0),
      [-Infinity, 0, 1, 3, nan, nan],
    );
    assert.deepEqual(counts!.toArray(), [1, 2, 1, 2, 1, 1]);
    assert.deepEqual(inverse!.toArray(), [
      [3, 2, 4, 3],
      [1, 1, 5, 0],
    ]);
    assert.deepEqual(Object.keys(unique(x)), ['values']);
    assert.deepEqual(unique(made([1, 0, 1], 'bool')).values.toArray(), [false, true]);
    assert.deepEqual(unique(zeros([0], { device }), { returnCounts: true }).counts!.shape, [0]);
  });

  law(t, `${device}: of several writes to a place the last one stays, and has the gradient`, () => {
    const [x, src] = [zeros([3], { dtype: 'float64', device }), made([5, 6, 7, 8], 'float64')];
    x.requiresGrad = src.requiresGrad = true;
    const y = scatter(x, 0, index(0, 2, 0, 2), src);
    assert.deepEqual(y.toArray(), [7, 0, 8]);
    assert.deepEqual(
      grad(y.mul([1, 10, 100]).sum(), [x, src]).map(g => g.toArray()),
      [
        [0, 10, 0],
        [0, 0, 1, 100],
      ],
    );
    assert.deepEqual(scatter(x, -1, index(1), 9).toArray(), [0, 9, 0]);
    assert.throws(() => scatter(x, 0, index(3), 1), { name: 'RangeError' });
    assert.throws(() => scatter(index(1, 2), 0, index(0), src), { name: 'DTypeError' });
  });

  law(t, `${device}: equal largest elements share the gradient of scatterMax, and NaN wins`, () => {
    const [x, src] = [made([2, 0], 'float64'), made([1, 2, 2], 'float64')];
    x.requiresGrad = src.requiresGrad = true;
    const y = scatterMax(x, 0, index(0, 0, 0), src);
    assert.deepEqual(y.toArray(), [2, 0]);
    const shares = grad(y.sum(), [x, src]).map(g => Array.from(g.dataSync(), v => v.toFixed(6)));
    assert.deepEqual(shares, [
      ['0.333333', '1.000000'],
      ['0.000000', '0.333333', '0.333333'],
    ]);
    assert.deepEqual(scatterMax(made([1, 1]), 0, index(0, 0), made([nan, 5])).toArray(), [nan, 1]);
    assert.deepEqual(scatterMax(made([-Infinity, 1]), 0, index(0, 0), made([-Infinity, -3])).toArray(), [-3, 1]);
  });

  law(t, `${device}: bernoulli is 0 and 1 as often as its probabilities say, and always where they are 0 and 1`, () => {
    const rng = new Generator(3);
    assert.deepEqual(bernoulli(made([0, 1, 0, 1]), { rng }).toArray(), [0, 1, 0, 1]);
    const rate = bernoulli(full([4000], 0.3, { device }), { rng })
      .mean()
      .item();
    assert.ok(Math.abs(rate - 0.3) < 0.03, `${rate}`);
    for (const bad of [-0.1, 1.5, nan])
      assert.throws(() => bernoulli(made([0.5, bad])), {
        message: 'bernoulli: expected probabilities in [0, 1], got another one at position 1',
      });
  });

  law(t, `${device}: multinomial draws in proportion to weights, never one of weight 0`, () => {
    const rng = new Generator(4);
    const weights = made([1, 0, 3, 0]);
    const many = Array.from(multinomial(weights, 4000, { replacement: true, rng }).dataSync());
    assert.deepEqual([...new Set(many)].sort(), [0, 2]);
    const share = many.filter(i => i === 2).length / many.length;
    assert.ok(Math.abs(share - 0.75) < 0.03, `${share}`);
    let first = 0;
    for (let i = 0; i < 2000; i++) {
      const pair = multinomial(weights, 2, { rng }).toArray() as number[];
      assert.deepEqual([...pair].sort(), [0, 2]);
      if (pair[0] === 2) first++;
    }
    assert.ok(Math.abs(first / 2000 - 0.75) < 0.04, `${first}`);
    assert.deepEqual(multinomial(ones([3, 5], { device }), 2, { rng }).shape, [3, 2]);
    assert.throws(() => multinomial(weights, 3, { rng }), {
      message: 'multinomial: expected at least 3 weights above 0, got 2 in row 0',
    });
    assert.throws(() => multinomial(made([1, -1]), 1), {
      message: 'multinomial: expected finite weights ≥ 0, got -1 in row 0',
    });
  });
}

law(t, 'randperm is a permutation, the same for the same seed', () => {
  const draw = () => Array.from(randperm(100, { rng: new Generator(7) }).dataSync());
  assert.deepEqual(draw(), draw());
  assert.deepEqual(
    [...draw()].sort((a, b) => a - b),
    Array.from({ length: 100 }, (_, i) => i),
  );
  assert.equal(randperm(3, { dtype: 'float64', device: 'reference' }).device, 'reference');
  assert.deepEqual(randperm(0).shape, [0]);
});

law(
  t,
  'what is found among values that are read with await has a form with await, which reads nothing at once',
  async () => {
    const on = { device: later.device };
    const [x, mask] = [tensor([0, 2, 2], on), tensor([1, 0, 1], { ...on, dtype: 'bool' })];
    const reads = later.instantReads;
    const forms: Readonly<Record<string, readonly [() => unknown, () => Promise<Tensor>, unknown]>> = {
      nonzero: [() => nonzero(x), () => nonzeroAsync(x), [[1], [2]]],
      maskedSelect: [() => maskedSelect(x, mask), () => maskedSelectAsync(x, mask), [0, 2]],
      booleanMask: [() => booleanMask(x, mask), () => booleanMaskAsync(x, mask), [0, 2]],
      unique: [() => unique(x), async () => (await uniqueAsync(x)).values, [0, 2]],
      multinomial: [
        () => multinomial(x, 2),
        async () => (await multinomialAsync(x, 2)).astype('bool').astype('int32'),
        [1, 1],
      ],
    };
    for (const [name, [now, soon, expected]] of Object.entries(forms)) {
      assert.throws(now, {
        name: 'TypeError',
        message: `${name}: its result depends on values, and tensors on 'later' are read with await: await ${name}Async(…)`,
      });
      const found = await soon();
      assert.equal(found.device, later.device);
      assert.deepEqual(await found.array(), expected);
    }
    const bad = bernoulli(tensor([0.5, 2], on));
    await assert.rejects(bad.data(), /^RangeError: bernoulli: expected probabilities in \[0, 1\]/);
    assert.equal(later.instantReads, reads);
  },
);
