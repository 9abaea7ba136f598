/** Padding by what lies inside: what is refused, and PyTorch's examples. */

import assert from 'node:assert/strict';
import { arange, grad, ones, type PadMode, pad, zeros } from '@otimes/core';
import t from 'tap';
import { law } from './helpers/law.ts';

const row = () => arange(5, undefined, 1, { dtype: 'float64' });

law(t, 'the ends are those of the documentation of PyTorch', () => {
  const padded = (mode: PadMode) => pad(row(), [[2, 1]], { mode }).toArray();
  assert.deepEqual(padded('reflect'), [2, 1, 0, 1, 2, 3, 4, 3]);
  assert.deepEqual(padded('replicate'), [0, 0, 0, 1, 2, 3, 4, 4]);
  assert.deepEqual(padded('circular'), [3, 4, 0, 1, 2, 3, 4, 0]);
  assert.deepEqual(pad(row(), [[2, 1]], { value: 7 }).toArray(), [7, 7, 0, 1, 2, 3, 4, 7]);
});

law(t, 'the gradient of an element is how often it occurs', () => {
  const counts = (mode: PadMode) => {
    const x = row();
    x.requiresGrad = true;
    const [g] = grad(pad(x, [[3, 2]], { mode }).sum(), [x]);
    return g!.toArray();
  };
  assert.deepEqual(counts('reflect'), [1, 2, 3, 3, 1]);
  assert.deepEqual(counts('replicate'), [4, 1, 1, 1, 3]);
  assert.deepEqual(counts('circular'), [2, 2, 2, 2, 2]);
  assert.deepEqual(counts('constant'), [1, 1, 1, 1, 1]);
});

law(t, 'pads that the axis is too short for, and values that would not be used, are refused', () => {
  const refused = (mode: PadMode, pads: [number, number][], says: RegExp, x = ones([2, 3])) =>
    assert.throws(() => pad(x, pads, { mode }), { name: 'ShapeError', message: says });
  refused(
    'reflect',
    [
      [0, 0],
      [3, 0],
    ],
    /^pad: mode 'reflect' adds at most 2 .* axis 1 of float32\[2,3\], got \[3, 0\]/,
  );
  refused('circular', [[0, 3]], /^pad: mode 'circular' adds at most 2 .* axis 0 of float32\[2,3\], got \[0, 3\]/);
  for (const mode of ['reflect', 'replicate', 'circular'] as const)
    refused(mode, [[1, 0]], /^pad: mode '.*' adds at most 0 .* axis 0 of float32\[0,3\]/, zeros([0, 3]));
  refused('replicate', [[1, -1]], /^pad: expected at most 2 pairs of integers ≥ 0/);
  assert.throws(
    () => pad(row(), [[1, 1]], { mode: 'reflect', value: 1 }),
    /^TypeError: pad: expected value to be left out/,
  );
  assert.throws(() => pad(row(), [[1, 1]], { mode: 'symmetric' as PadMode }), /^RangeError: pad: expected mode to be/);
  assert.deepEqual(pad(ones([1]), [[2, 2]], { mode: 'replicate' }).shape, [5]);
  assert.deepEqual(
    pad(
      zeros([0, 3]),
      [
        [0, 0],
        [1, 1],
      ],
      { mode: 'reflect' },
    ).shape,
    [0, 5],
  );
});
