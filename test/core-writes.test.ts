/** Writing in place. */

import assert from 'node:assert/strict';
import { adamMoments, full, ones, rand, randn, type Tensor, tensor, zeros } from '@otimes/core';
import fc from 'fast-check';
import t from 'tap';
import { laidOut, real } from './arbitraries/tensor.ts';
import { mustBeClose } from './helpers/allclose.ts';
import { build, Dense } from './helpers/dense.ts';
import { law } from './helpers/law.ts';
import { numbered, runs, sizeOf } from './helpers/tensors.ts';

law(t, 'copy_, addScaled_, addcdiv_ and scale_ write what plain loops write, in any layout, broadcast', () =>
  fc.assert(
    fc.property(numbered(), fc.nat(3), real(64, false), ({ s, values, how }, missing, numbers) => {
      const from = s.slice(missing).map((n, i) => (i % 2 === 1 ? 1 : n));
      const x = tensor(numbers.slice(0, sizeOf(from)), { shape: from, dtype: 'float64' });
      const [p, q] = [new Dense(s, values), new Dense(from, x.dataSync())];
      const check = (write: (y: Tensor) => Tensor, f: (before: number, value: number) => number) => {
        const y = laidOut(values, s, how);
        assert.equal(write(y), y);
        mustBeClose(y, tensor(Float64Array.from(build(s, k => f(p.at(k), q.at(k))).data), { shape: s }));
      };
      check(
        y => y.copy_(x),
        (_, value) => value,
      );
      check(
        y => y.addScaled_(x, -0.5),
        (before, value) => before - value / 2,
      );
      check(
        y => y.addScaled_(x, -0.5, 0.25),
        (before, value) => before / 4 - value / 2,
      );
      const d = x.square().add(1);
      check(
        y => y.addcdiv_(x, d, 3),
        (before, value) => before + (3 * value) / (value * value + 1),
      );
      check(
        y => y.addcdiv_(d, x.abs().add(2), 3, 0.25),
        (before, value) => before / 4 + (3 * (value * value + 1)) / (Math.abs(value) + 2),
      );
      check(
        y => y.scale_(3),
        before => before * 3,
      );
    }),
    runs,
  ),
);

law(t, 'a write whose source shares its memory reads the values from before', () => {
  const x = tensor([
    [1, 2],
    [3, 4],
  ]);
  x.copy_(x.transpose());
  assert.deepEqual(x.toArray(), [
    [1, 3],
    [2, 4],
  ]);
  x.slice([1]).copy_(x.slice([0, 1]));
  x.slice([null, null, -1]).addScaled_(x, 1);
  assert.deepEqual(x.toArray(), [
    [2, 6],
    [2, 6],
  ]);
  x.addScaled_(x, 1);
  assert.deepEqual(x.toArray(), [
    [4, 12],
    [4, 12],
  ]);
  x.addcdiv_(x.transpose(), x.slice([null, null, -1]), 1);
  assert.deepEqual(x.toArray(), [
    [5, Math.fround(12 + 4 / 12)],
    [7, 13],
  ]);
});

law(t, 'addcdiv_ is division and addScaled_, to the bit, and the one counts as a write as the other does', () => {
  const [x, d, y] = [randn([5, 7]), rand([5, 7]).add(0.1), randn([5, 7])];
  const apart = y.clone().addScaled_(x.div(d), -0.3, 0.9);
  assert.deepEqual(y.clone().addcdiv_(x, d, -0.3, 0.9).toArray(), apart.toArray());
  const { version } = y.storage;
  y.addcdiv_(x, d, 1);
  assert.equal(y.storage.version, version + 1);
});

law(t, 'copy_ converts: truncation to int32, ≠ 0 to bool', () => {
  assert.deepEqual(
    zeros([2], { dtype: 'int32' })
      .copy_(tensor([1.7, -1.7]))
      .toArray(),
    [1, -1],
  );
  assert.deepEqual(
    zeros([2], { dtype: 'bool' })
      .copy_(tensor([0.5, 0]))
      .toArray(),
    [true, false],
  );
});

law(t, 'adamMoments is Algorithm 1 of Kingma & Ba, and takes a second moment in place of g²', () => {
  const o = { beta1: 0.9, beta2: 0.99, eps: 1e-8, correction1: 0.1, correction2: 0.01 };
  for (const second of [null, tensor(new Float64Array([4, 5]))]) {
    // Windows with an offset: what lies before them must not change.
    const [ms, vs] = [ones([3], { dtype: 'float64' }), ones([3], { dtype: 'float64' })];
    const g = tensor(new Float64Array([2, -3]));
    const direction = adamMoments(ms.slice([1]), vs.slice([1]), g, second, o);
    const m = [0.9 + 0.1 * 2, 0.9 - 0.1 * 3];
    const v = [4, 9].map((s, i) => 0.99 + 0.01 * (second === null ? s : [4, 5][i]!));
    mustBeClose(ms, [1, ...m]);
    mustBeClose(vs, [1, ...v]);
    mustBeClose(
      direction,
      m.map((mi, i) => mi / 0.1 / (Math.sqrt(v[i]! / 0.01) + 1e-8)),
    );
  }
  const tiny = zeros([1]);
  adamMoments(zeros([1]), tiny, full([1], 1e-19), null, o);
  assert.equal(tiny.item(), 0, 'no denormal numbers');
});
