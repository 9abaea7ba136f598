/** Sequences, images and volumes at another resolution: one axis after the other, since the weights of all modes are products. */

import type { DeviceKernels } from '../backends/backend.ts';
import { bring } from '../backends/bring.ts';
import * as reference from '../backends/reference/layers/resample.ts';
import * as wasm from '../backends/wasm/layers/resample.ts';
import { aBoolean, checkOptions, type Kind, oneOf, received } from '../check.ts';
import { isFloat } from '../dtype.ts';
import { DTypeError, describe, ShapeError } from '../errors.ts';
import { arrayLike, emptyLike } from '../fill.ts';
import { defineOp, type Op } from '../op.ts';
import { owningIntermediates } from '../scope.ts';
import { checkTensors, type Tensor } from '../tensor.ts';
import { sub } from './elementwise.ts';
import { clone, reshape } from './view.ts';

bring<Required<Pick<DeviceKernels, 'resample' | 'resampleGrad'>>>(reference, wasm);

/** How values between the given ones are made: see `interpolate`. */
export type InterpolateMode = 'nearest' | 'linear' | 'bilinear' | 'trilinear';

/** Either `size` or `scaleFactor`, a number for all spatial axes or one for each. `mode` defaults to 'nearest', `alignCorners` to false. */
export type InterpolateOptions = {
  size?: number | readonly number[];
  scaleFactor?: number | readonly number[];
  mode?: InterpolateMode;
  alignCorners?: boolean;
};

/** What element j along `axis` is made of: x[left[j]], or (1 − weight[j]) · x[left[j]] + weight[j] · x[right[j]]. */
type Taps = {
  readonly axis: number;
  readonly length: number;
  readonly left: Tensor;
  readonly right: Tensor | null;
  readonly weight: Tensor | null;
};

const resampled = (x: Tensor, axis: number, length: number) => ({
  shape: x.shape.map((n, i) => (i === axis ? length : n)),
  dtype: x.dtype,
});

const resample: Op<Taps> = defineOp<Taps>({
  name: 'interpolate',
  shape: ([x], { axis, left }) => resampled(x!, axis, left.size),
  forward(backend, [x], out, { axis, left, right, weight }) {
    if (isFloat(out.dtype) && backend.resample !== undefined)
      return backend.resample(x!, axis, left, right, weight, out);
    backend.indexSelect(x!, axis, left, out);
    if (right === null || weight === null) return;
    const [other, weights] = [emptyLike(out), weightsAlong(axis, out, weight)];
    backend.binary('mul', out, weights[0], out);
    backend.indexSelect(x!, axis, right, other);
    backend.binary('mul', other, weights[1], other);
    backend.binary('add', out, other, out);
  },
  backward: (gy, { inputs, attrs }) => [resampleGrad([gy], { ...attrs, length: inputs[0]!.shape[attrs.axis]! })],
});

/** The transpose. */
const resampleGrad: Op<Taps> = defineOp<Taps>({
  name: 'interpolateGrad',
  shape: ([gy], { axis, length }) => resampled(gy!, axis, length),
  forward(backend, [gy], out, { axis, left, right, weight }) {
    if (backend.resampleGrad !== undefined) return backend.resampleGrad(gy!, axis, left, right, weight, out);
    if (right === null || weight === null) return backend.indexAdd(gy!, axis, left, out);
    const [share, other, weights] = [emptyLike(gy!), emptyLike(out), weightsAlong(axis, gy!, weight)];
    backend.binary('mul', gy!, weights[0], share);
    backend.indexAdd(share, axis, left, out);
    backend.binary('mul', gy!, weights[1], share);
    backend.indexAdd(share, axis, right, other);
    backend.binary('add', out, other, out);
  },
  backward: (ggx, { attrs }) => [resample([ggx], attrs)],
});

/** 1 − weight and weight, as they broadcast along an axis of `x`. */
function weightsAlong(axis: number, x: Tensor, weight: Tensor): readonly [Tensor, Tensor] {
  const along = reshape(
    weight,
    x.shape.map((_, i) => (i === axis ? weight.size : 1)),
  );
  return [sub(1, along), along];
}

/**
 * The taps of one axis from `n` to `count` elements. `factor` is the one that was given, if it was: as in PyTorch, places are then
 * computed with it, and not with count / n.
 */
function tapsOf(
  x: Tensor,
  axis: number,
  count: number,
  factor: number | null,
  o: { linear: boolean; alignCorners: boolean },
): Taps {
  const n = x.shape[axis]!;
  const ratio = factor === null ? n / count : 1 / factor;
  const indices = (f: (j: number) => number) =>
    arrayLike(
      x,
      Int32Array.from({ length: count }, (_, j) => f(j)),
      [count],
    );
  if (!o.linear) {
    // In float32, as in PyTorch: at the borders of elements rounding decides.
    const step = Math.fround(ratio);
    const left = indices(j => Math.min(n - 1, Math.floor(Math.fround(j * step))));
    return { axis, length: n, left, right: null, weight: null };
  }
  const place = (j: number) =>
    o.alignCorners ? (count > 1 ? (j * (n - 1)) / (count - 1) : 0) : Math.max(0, (j + 0.5) * ratio - 0.5);
  const leftOf = (j: number) => Math.min(n - 1, Math.floor(place(j)));
  const weights = Array.from({ length: count }, (_, j) => Math.min(1, place(j) - leftOf(j)));
  const weight = x.dtype === 'float64' ? Float64Array.from(weights) : Float32Array.from(weights);
  return {
    axis,
    length: n,
    left: indices(leftOf),
    right: indices(j => Math.min(n - 1, leftOf(j) + 1)),
    weight: arrayLike(x, weight, [count]),
  };
}

const MODES: readonly InterpolateMode[] = ['linear', 'bilinear', 'trilinear'];

const lengths: Kind = {
  expected: 'an integer ≥ 1, or an array of such',
  is: v => [v].flat().every(n => Number.isInteger(n) && Number(n) >= 1),
};
const factors: Kind = {
  expected: 'a finite number > 0, or an array of such',
  is: v => [v].flat().every(f => typeof f === 'number' && f > 0 && f < Infinity),
};

/**
 * `x` [batch, channels, …spatial axes], one to three of them, at another resolution: of `size`, or `scaleFactor` times as long, rounded
 * down. As torch.nn.functional.interpolate. `mode` is 'nearest' (default), which takes the element in whose area a place lies, or
 * 'linear', 'bilinear', 'trilinear' for one, two and three axes. With `alignCorners` (default false) first and last elements lie on each
 * other; else areas do, and beyond the centres of the outer ones their values go on.
 *
 * @throws ShapeError where a length is 0 or comes out as 0, or where rank and mode do not fit
 */
export function interpolate(x: Tensor, o: InterpolateOptions): Tensor {
  checkTensors('interpolate', x);
  checkOptions('interpolate', o, {
    size: lengths,
    scaleFactor: factors,
    mode: oneOf('nearest', ...MODES),
    alignCorners: aBoolean,
  });
  const { size, scaleFactor, mode = 'nearest', alignCorners = false } = o ?? {};
  const linear = mode !== 'nearest';
  const spatial = x.rank - 2;
  if (spatial < 1 || spatial > 3 || (linear && MODES[spatial - 1] !== mode))
    throw new ShapeError(
      `interpolate: expected [batch, channels, ${linear ? `${MODES.indexOf(mode) + 1} more axes` : 'one to three more axes'}] for mode ` +
        `'${mode}', got ${describe(x)}`,
    );
  if (linear && !isFloat(x.dtype))
    throw new DTypeError(`interpolate: mode '${mode}' takes a floating tensor, got ${describe(x)}`);
  if (alignCorners && !linear)
    throw new TypeError(`interpolate: alignCorners goes with ${MODES.join(', ')}, got '${mode}'`);
  if ((size === undefined) === (scaleFactor === undefined))
    throw new TypeError(
      `interpolate: expected either size or scaleFactor, got ${size === undefined ? 'neither' : 'both'}`,
    );
  const each = (value: number | readonly number[]): readonly number[] => {
    const all = typeof value === 'number' ? new Array<number>(spatial).fill(value) : value;
    if (all.length !== spatial)
      throw new ShapeError(`interpolate: expected a number for each of ${spatial} axes, got ${received(value)}`);
    return all;
  };
  const scale = scaleFactor === undefined ? null : each(scaleFactor);
  const counts = scale === null ? each(size!) : scale.map((f, i) => Math.floor(x.shape[i + 2]! * f));
  if ([...counts, ...x.shape.slice(2)].includes(0))
    throw new ShapeError(`interpolate: expected lengths ≥ 1, got ${describe(x)} to [${counts.join(',')}]`);
  // The last axis first: enlarged, it has the fewest elements then.
  return owningIntermediates(() => {
    const result = counts.reduceRight((y, count, i) => {
      const factor = scale?.[i] ?? null;
      // By a factor such as 1.1 the nearest places move even where the length stays, as they do in PyTorch.
      if (count === y.shape[i + 2] && (linear || factor === null || factor === 1)) return y;
      return resample([y], tapsOf(y, i + 2, count, factor, { linear, alignCorners }));
    }, x);
    return result === x ? clone(x) : result;
  });
}
