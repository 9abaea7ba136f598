/** The device 'gpu' opened with `mixed`: products take their operands in f16. */

import assert from 'node:assert/strict';
import { Generator, randn, type Tensor, tensor } from '@otimes/core';
import { initGpu } from '@otimes/gpu';
import t from 'tap';
import { testNeeding } from './helpers/requires.ts';

const law = await testNeeding(t, 'gpu');
const on = { device: 'gpu' };

/** To the nearest number of f16, ties to even. */
function rounded(x: number): number {
  if (!Number.isFinite(x)) return x;
  const step = 2 ** Math.max(Math.floor(Math.log2(Math.abs(x))) - 10, -24);
  const count = Math.abs(x) / step;
  const below = Math.floor(count);
  const up = count - below > 0.5 || (count - below === 0.5 && below % 2 === 1);
  const value = Math.sign(x) * (below + Number(up)) * step;
  return Math.abs(value) > 65504 ? Math.sign(x) * Infinity : value;
}

law('mixed: opens', async () => {
  const info = await initGpu({ mixed: true });
  console.error(info);
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
  const x = tensor(values, on).reshape([-1, 1]);
  const found = [...(await x.matmul(tensor([[1]], on)).data())];
  for (const [i, value] of found.entries()) {
    const expected = rounded(Math.fround(values[i]!));
    assert.ok(value === expected, `${values[i]}: ${value}, expected ${expected}`);
  }
});

law('products of all layouts are those of rounded operands, added in float32', async () => {
  const rng = new Generator(1);
  const shapes = [
    [3, 5, 7],
    [40, 24, 16],
    [72, 88, 64],
    [130, 70, 200],
    [8, 8, 1000],
  ];
  for (const [m, n, k] of shapes as [number, number, number][])
    for (const [ta, tb] of [
      [false, false],
      [true, false],
      [false, true],
      [true, true],
    ]) {
      const a = randn(ta ? [k, m] : [m, k], { rng });
      const b = randn(tb ? [n, k] : [k, n], { rng });
      const [A, B] = [ta ? a.transpose(0, 1) : a, tb ? b.transpose(0, 1) : b];
      const round = async (x: Tensor) =>
        tensor([...(await x.data())].map(rounded), { dtype: 'float64' }).reshape(x.shape);
      const expected = await (await round(A)).matmul(await round(B)).data();
      const [ga, gb] = [a.to('gpu'), b.to('gpu')];
      const found = await (ta ? ga.transpose(0, 1) : ga).matmul(tb ? gb.transpose(0, 1) : gb).data();
      for (const [i, value] of found.entries())
        assert.ok(
          Math.abs(value - expected[i]!) < 1e-5 * Math.sqrt(k),
          `${m} ${n} ${k} ${ta} ${tb} at ${i}: ${value}, expected ${expected[i]}`,
        );
    }
});
