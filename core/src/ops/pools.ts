/** Pooling along one and three axes, by pooling of planes; and pooling to a given size. */

import { aBoolean, checkArgument, checkOptions, type Kind } from '../check.ts';
import { describe, ShapeError } from '../errors.ts';
import { arrayLike } from '../fill.ts';
import { owningIntermediates } from '../scope.ts';
import type { Tensor } from '../tensor.ts';
import { aTuple, type Windows } from '../window.ts';
import { checkVolumes } from './conv-check.ts';
import { div, where } from './elementwise.ts';
import { avgPoolOp, maxPooled, planesOf, poolCall } from './pool.ts';
import { sum } from './reduce.ts';
import { indexSelectOp } from './select.ts';
import { reshape, squeeze, unsqueeze } from './view.ts';

/** Each in positions, a number for all axes or one for each: `stride` defaults to the kernel, `padding` to 0. */
type Pooling<Sizes> = { stride?: number | Sizes; padding?: number | Sizes };
/** `countIncludePad`: whether the zeros around count, default true as in PyTorch. */
type Averaging<Sizes> = Pooling<Sizes> & { countIncludePad?: boolean };

type Line = readonly [length: number];
type Triple = readonly [depth: number, rows: number, columns: number];

/** Options of `maxPool1d`. */
export type Pool1dOptions = Pooling<Line>;
/** Options of `maxPool3d`. */
export type Pool3dOptions = Pooling<Triple>;

const kinds = (axes: number) => ({ stride: aTuple(axes), padding: aTuple(axes) });
const averagingKinds = (axes: number) => ({ ...kinds(axes), countIncludePad: aBoolean });

type Call = Windows & { readonly places: readonly number[] };
/** Pools images [N, C, H, W] by a window of rows and columns. */
type Pools = (x: Tensor, window: Windows, places: readonly number[]) => Tensor;

const byMax: Pools = (x, window, places) => maxPooled(x, planesOf(x, window, places));
const byMean =
  (countIncludePad: boolean): Pools =>
  (x, window, places) =>
    avgPoolOp([x], { ...planesOf(x, window, places), countIncludePad });

/** What of a window is along those axes. */
const along = ({ kernel, stride, padding, dilation }: Windows, axes: readonly (number | null)[]): Windows => {
  const of = (all: readonly number[], none: number) => axes.map(axis => (axis === null ? none : all[axis]!));
  return { kernel: of(kernel, 1), stride: of(stride, 1), padding: of(padding, 0), dilation: of(dilation, 1) };
};

const inOneRow = (x: Tensor, call: Call, pools: Pools) =>
  squeeze(pools(unsqueeze(x, 2), along(call, [null, 0]), [1, ...call.places]), 2);

/** Rows and columns first, then depths: the largest of the largest, the first of those that are equal, and the mean of means. */
function inTwoSteps(x: Tensor, call: Call, pools: Pools): Tensor {
  const [n, c, depth, h, w] = x.shape as [number, number, number, number, number];
  const [depths, ho, wo] = call.places as [number, number, number];
  return owningIntermediates(() => {
    const planes = pools(reshape(x, [n, c * depth, h, w]), along(call, [1, 2]), [ho, wo]);
    const columns = pools(reshape(planes, [n, c, depth, ho * wo]), along(call, [0, null]), [depths, ho * wo]);
    return reshape(columns, [n, c, depths, ho, wo]);
  });
}

/** The largest value in each window of x [N, C, L]; as `maxPool2d`. */
export function maxPool1d(x: Tensor, kernel: number | Line, o: Pool1dOptions = {}): Tensor {
  checkOptions('maxPool1d', o, kinds(1));
  return inOneRow(x, poolCall('maxPool1d', x, kernel, o, 1), byMax);
}

/** The mean of each window of x [N, C, L]; as `avgPool2d`. */
export function avgPool1d(x: Tensor, kernel: number | Line, o: Averaging<Line> = {}): Tensor {
  checkOptions('avgPool1d', o, averagingKinds(1));
  return inOneRow(x, poolCall('avgPool1d', x, kernel, o, 1), byMean(o.countIncludePad ?? true));
}

/** The largest value in each window of x [N, C, D, H, W]; as `maxPool2d`. */
export function maxPool3d(x: Tensor, kernel: number | Triple, o: Pool3dOptions = {}): Tensor {
  checkOptions('maxPool3d', o, kinds(3));
  return inTwoSteps(x, poolCall('maxPool3d', x, kernel, o, 3), byMax);
}

/** The mean of each window of x [N, C, D, H, W]; as `avgPool2d`. */
export function avgPool3d(x: Tensor, kernel: number | Triple, o: Averaging<Triple> = {}): Tensor {
  checkOptions('avgPool3d', o, averagingKinds(3));
  return inTwoSteps(x, poolCall('avgPool3d', x, kernel, o, 3), byMean(o.countIncludePad ?? true));
}

/** A size of the result along an axis; null is that of the input. */
type Size = number | null;
const isSize = (v: unknown) => v === null || (Number.isInteger(v) && Number(v) >= 1);
/** One size for all of so many axes, or one for each. */
const outputSizes = (axes: number): Kind => ({
  expected: `an integer ≥ 1 or null, or an array of ${axes} of them`,
  is: v => isSize(v) || (Array.isArray(v) && v.length === axes && v.every(isSize)),
  error: RangeError,
});

/** Checks a call, and gives the sizes of the input and of the result along the last axes. */
function adaptiveCall(
  op: string,
  x: Tensor,
  size: Size | readonly Size[],
  axes: number,
): [from: number[], to: number[]] {
  checkVolumes(op, x, axes);
  const from = x.shape.slice(2);
  if (from.includes(0))
    throw new ShapeError(`${op}: expected ${axes === 1 ? 'rows' : 'planes'} that are not empty, got ${describe(x)}`);
  checkArgument(op, 'the size', size, outputSizes(axes));
  const list = typeof size === 'object' && size !== null ? size : from.map(() => size as Size);
  return [from, from.map((length, i) => (list as readonly Size[])[i] ?? length)];
}

/** Bin i of `to` bins over `from` places has those from ⌊i · from / to⌋ up to ⌈(i + 1) · from / to⌉, as in PyTorch. */
function binsOf(from: number, to: number) {
  const starts = Array.from({ length: to }, (_, i) => Math.floor((i * from) / to));
  const counts = starts.map((start, i) => Math.ceil(((i + 1) * from) / to) - start);
  const widest = Math.max(...counts);
  const places = Array.from({ length: to * widest }, (_, k) => k % widest);
  const bin = (k: number) => Math.floor(k / widest);
  return {
    widest,
    counts,
    /** [to · widest]: the places of each bin; one that is shorter has its last place again. */
    index: places.map((place, k) => starts[bin(k)]! + Math.min(place, counts[bin(k)]! - 1)),
    inside: places.map((place, k) => Number(place < counts[bin(k)]!)),
  };
}

/** The places of all bins along an axis, one bin after the other, each as long as the longest. */
function binned(x: Tensor, axis: number, { index }: ReturnType<typeof binsOf>): Tensor {
  return indexSelectOp([x, arrayLike(x, Int32Array.from(index), [index.length])], axis);
}

/** Whether bins are windows of one size side by side. */
const isEven = (from: readonly number[], to: readonly number[]) => from.every((length, i) => length % to[i]! === 0);

/** Windows side by side of those sizes. */
const sideBySide = (kernel: readonly number[]): Windows => ({
  kernel,
  stride: kernel,
  padding: kernel.map(() => 0),
  dilation: kernel.map(() => 1),
});

/** The mean of each bin along an axis. */
function meansAlong(x: Tensor, axis: number, to: number): Tensor {
  if (x.shape[axis] === to) return x;
  const bins = binsOf(x.shape[axis]!, to);
  const [lead, rest] = [x.shape.slice(0, axis), x.shape.slice(axis + 1)];
  const ones = rest.map(() => 1);
  const seen = reshape(binned(x, axis, bins), [...lead, to, bins.widest, ...rest]);
  const inside = arrayLike(x, Uint8Array.from(bins.inside), [to, bins.widest, ...ones]);
  return div(sum(where(inside, seen, 0), axis + 1), arrayLike(x, Int32Array.from(bins.counts), [to, ...ones]));
}

/** Means of images by bins. */
function adaptiveMean(x: Tensor, from: readonly number[], to: readonly number[]): Tensor {
  if (isEven(from, to)) return byMean(true)(x, sideBySide(from.map((length, i) => length / to[i]!)), to);
  return owningIntermediates(() => meansAlong(meansAlong(x, 3, to[1]!), 2, to[0]!));
}

/** The largest of images by bins; a place that is there twice stands behind itself, so that the first one gets the gradient. */
function adaptiveMax(x: Tensor, from: readonly number[], to: readonly number[]): Tensor {
  if (isEven(from, to)) return byMax(x, sideBySide(from.map((length, i) => length / to[i]!)), to);
  return owningIntermediates(() => {
    const bins = from.map((length, i) => binsOf(length, to[i]!));
    const seen = bins.reduce((t, one, i) => binned(t, i + 2, one), x);
    return byMax(seen, sideBySide(bins.map(({ widest }) => widest)), to);
  });
}

/**
 * The mean of each of `size` bins of x [N, C, L], which cover it as evenly as may be: [N, C, size]. Bin i has the places from
 * ⌊i L / size⌋ up to ⌈(i + 1) L / size⌉; null keeps the length.
 */
export function adaptiveAvgPool1d(x: Tensor, size: Size | readonly [Size]): Tensor {
  const [[from], [to]] = adaptiveCall('adaptiveAvgPool1d', x, size, 1) as [[number], [number]];
  return squeeze(adaptiveMean(unsqueeze(x, 2), [1, from], [1, to]), 2);
}

/** The mean of each bin of x [N, C, H, W], with as many along both axes as `size` says; as `adaptiveAvgPool1d`. */
export function adaptiveAvgPool2d(x: Tensor, size: Size | readonly [rows: Size, columns: Size]): Tensor {
  return adaptiveMean(x, ...adaptiveCall('adaptiveAvgPool2d', x, size, 2));
}

/** The largest value in each bin of x [N, C, L]; as `adaptiveAvgPool1d`, with NaN and gradients as of `maxPool2d`. */
export function adaptiveMaxPool1d(x: Tensor, size: Size | readonly [Size]): Tensor {
  const [[from], [to]] = adaptiveCall('adaptiveMaxPool1d', x, size, 1) as [[number], [number]];
  return squeeze(adaptiveMax(unsqueeze(x, 2), [1, from], [1, to]), 2);
}

/** The largest value in each bin of x [N, C, H, W]; as `adaptiveAvgPool2d`, with NaN and gradients as of `maxPool2d`. */
export function adaptiveMaxPool2d(x: Tensor, size: Size | readonly [rows: Size, columns: Size]): Tensor {
  return adaptiveMax(x, ...adaptiveCall('adaptiveMaxPool2d', x, size, 2));
}
