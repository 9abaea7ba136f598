/** Interpolation, padding and distances by PyTorch: values and gradients. test/golden/torch-shape.py writes the numbers. */

import assert from 'node:assert/strict';
import {
  arange,
  cdist,
  cosineSimilarity,
  grad,
  type InterpolateMode,
  type InterpolateOptions,
  interpolate,
  normalize,
  ones,
  type PadMode,
  pad,
  pairwiseDistance,
  type Tensor,
  tensor,
  zeros,
} from '@otimes/core';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { golden, type Stored, stored, within } from './helpers/golden.ts';
import { law } from './helpers/law.ts';

type Case = { inputs: Stored[]; shape: number[]; result: number[]; gradients: number[][] };
type Order = number | 'inf';
type Interpolation = {
  options: { size?: number[]; scale_factor?: number[]; mode: InterpolateMode; align_corners: boolean };
};
const recorded = golden<{
  interpolations: (Case & Interpolation)[];
  nearest: [n: number, count: number, picked: number[]][];
  factors: [n: number, factor: number, picked: number[]][];
  pads: (Case & { mode: PadMode; pads: number[] })[];
  distances: (Case & { p: Order })[];
  pairs: (Case & { p: Order })[];
  cosines: (Case & { axis: number })[];
  units: (Case & { p: Order; axis: number })[];
}>('torch-shape');

const orderOf = (p: Order) => (p === 'inf' ? Infinity : p);

/** Value, and gradients of Σ gy · y. */
function agrees({ inputs, shape, result, gradients }: Case, run: (...x: Tensor[]) => Tensor): void {
  const leaves = inputs.map(x => {
    const leaf = stored(x);
    leaf.requiresGrad = true;
    return leaf;
  });
  const y = run(...leaves);
  mustBeClose(y, stored({ shape, data: result }), within(1e-11));
  const gy = arange(y.size, undefined, 1, { dtype: 'int32' })
    .dataSync()
    .map(i => (i % 7) - 3);
  const grads = grad(y, leaves, { gy: tensor(gy, { shape, dtype: 'float64' }) });
  for (const [i, g] of grads.entries())
    mustBeClose(g, stored({ shape: inputs[i]!.shape, data: gradients[i]! }), within(1e-11));
}

for (const one of recorded.interpolations) {
  const { size, scale_factor: scaleFactor, mode, align_corners: alignCorners } = one.options;
  const o: InterpolateOptions = { ...(size ? { size } : { scaleFactor: scaleFactor! }), mode, alignCorners };
  law(t, `interpolate ${JSON.stringify(o)} of [${one.inputs[0]!.shape}] is PyTorch's`, () =>
    agrees(one, x => interpolate(x, o)),
  );
}

law(t, 'which element is nearest is as in PyTorch, to the rounding', () => {
  const picked = (n: number, o: InterpolateOptions) =>
    interpolate(arange(n, undefined, 1, { dtype: 'float32' }).reshape(1, 1, n), o)
      .flatten()
      .toArray();
  for (const [n, size, places] of recorded.nearest) assert.deepEqual(picked(n, { size }), places, `${n} to ${size}`);
  for (const [n, scaleFactor, places] of recorded.factors)
    assert.deepEqual(picked(n, { scaleFactor }), places, `${n} times ${scaleFactor}`);
});

for (const one of recorded.pads)
  law(t, `pad '${one.mode}' of [${one.inputs[0]!.shape}] by [${one.pads}] is PyTorch's`, () => {
    const pairs = Array.from({ length: one.pads.length / 2 }, (_, i): [number, number] => [
      one.pads[2 * i]!,
      one.pads[2 * i + 1]!,
    ]);
    agrees(one, x => pad(x, [[0, 0], [0, 0], ...pairs.reverse()], { mode: one.mode }));
  });

for (const one of recorded.distances)
  law(t, `cdist with p = ${one.p} is PyTorch's, with gradients at points that coincide`, () =>
    agrees(one, (a, b) => cdist(a, b, { p: orderOf(one.p) })),
  );
for (const one of recorded.pairs)
  law(t, `pairwiseDistance with p = ${one.p} is PyTorch's`, () =>
    agrees(one, (a, b) => pairwiseDistance(a, b, { p: orderOf(one.p) })),
  );
for (const one of recorded.cosines)
  law(t, `cosineSimilarity along axis ${one.axis} is PyTorch's, of vectors near 0 too`, () =>
    agrees(one, (a, b) => cosineSimilarity(a, b, one.axis)),
  );
for (const one of recorded.units)
  law(t, `normalize with p = ${one.p} along axis ${one.axis} is PyTorch's`, () =>
    agrees(one, x => normalize(x, one.axis, { p: orderOf(one.p) })),
  );

law(t, 'NaN and ∞ stay with the elements that are made of them', () => {
  const x = zeros([1, 1, 4, 4]);
  x.at(0, 0, 0, 0).copy_(tensor(Infinity));
  x.at(0, 0, 3, 3).copy_(tensor(NaN));
  const y = interpolate(x, { scaleFactor: 2, mode: 'bilinear' });
  assert.equal(y.at(0, 0, 0, 0).item(), Infinity);
  const at = (value: Tensor) => value.astype('int32').sum().item();
  assert.equal(at(y.isFinite()), 64 - 9 - 9);
  assert.equal(at(y.isNaN()), 9);
});

law(t, 'what interpolate does not take is refused', () => {
  const x = ones([1, 2, 3, 4]);
  const refused = (o: unknown, says: RegExp, of = x) =>
    assert.throws(() => interpolate(of, o as InterpolateOptions), says);
  refused(
    { size: 2, mode: 'linear' },
    /^ShapeError: interpolate: expected \[batch, channels, 1 more axes\] for mode 'linear'/,
  );
  refused({ size: 2 }, /^ShapeError: interpolate: expected \[batch, channels, one to three more/, ones([2, 2]));
  refused({}, /^TypeError: interpolate: expected either size or scaleFactor, got neither/);
  refused({ size: 2, scaleFactor: 2 }, /^TypeError: interpolate: expected either size or scaleFactor, got both/);
  refused({ size: [2] }, /^ShapeError: interpolate: expected a number for each of 2 axes, got \[2\]/);
  refused({ scaleFactor: 0.2 }, /^ShapeError: interpolate: expected lengths ≥ 1, got float32\[1,2,3,4\] to \[0,0\]/);
  refused({ size: 2 }, /^ShapeError: interpolate: expected lengths ≥ 1/, ones([1, 1, 0]));
  refused({ size: 2, alignCorners: true }, /^TypeError: interpolate: alignCorners goes with linear, bilinear/);
  refused(
    { size: 2, mode: 'bilinear' },
    /^DTypeError: interpolate: mode 'bilinear' takes a floating/,
    x.astype('int32'),
  );
  refused({ size: 2, mode: 'bicubic' }, /^RangeError: interpolate: expected mode to be 'nearest' or 'linear'/);
  assert.equal(interpolate(x.astype('int32'), { size: 2 }).dtype, 'int32');
});
