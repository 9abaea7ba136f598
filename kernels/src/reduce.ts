/**
 * Reductions, softmax, normalisation and selection, as the modules export them. Names, addresses and sizes are those of
 * elementwise.ts; operands are row-major without gaps. `outer, length, inner` is a shape of which the middle axis is
 * reduced or indexed: `inner` is 1 for the last axis, `outer` is 1 for the first.
 *
 * Sums of floats run in float64 and are rounded once, so that those of float32 differ from a float64 loop's by its
 * rounding alone; those of float64 have the error of four partial sums or better. Sums of int32 wrap.
 */

import type { Element, Family, Float, Numeric } from './elementwise.ts';

/** out [outer, inner] ← x [outer, length, inner] reduced. */
export type ReduceExport = (outer: number, length: number, inner: number, x: number, out: number) => void;
/** The same of some columns or channels of wider arrays: `step` elements lie from row to row, or from one `outer` to the next. */
export type PartialReduceExport = (
  ...x: [...[outer: number, length: number, inner: number, x: number, out: number], ...[step?: number]]
) => void;
/** A function of each row. */
export type RowsExport = (rows: number, cols: number, x: number, out: number) => void;
/** out ← the gradient by the argument, from that of the result and the result y. */
export type RowsBackwardExport = (rows: number, cols: number, dy: number, y: number, out: number) => void;
/**
 * Returns Σ over the rows of −log softmax(x)[label] for int32 labels; `stats` [rows, 2] keeps each row's largest element
 * and log Σ exp(x − largest) for the gradient.
 */
export type CrossEntropyExport = (rows: number, cols: number, x: number, labels: number, stats: number) => number;
/** out ← scale · (softmax(x) − 1 at the label). */
export type CrossEntropyBackwardExport = (
  ...x: [...[rows: number, cols: number, x: number, labels: number, stats: number], ...[scale: number, out: number]]
) => void;

/** Returns Σ (a − b)² over n elements. */
export type SquaredErrorExport = (n: number, a: number, b: number) => number;
/** out ← scale · (a − b). */
export type SquaredErrorBackwardExport = (n: number, a: number, b: number, scale: number, out: number) => void;

/**
 * out ← x̂ · w + b in each row, x̂ = (x − mean) / √(variance + ε); w, b [cols] may be 0; mean and variance (with 1/cols),
 * float64 [rows] whatever the type, are written.
 */
export type LayerNormExport = (
  ...x: [
    ...[rows: number, cols: number, x: number, w: number, b: number, eps: number],
    ...[out: number, mean: number, variance: number],
  ]
) => void;
/** out ← the gradient by x; w may be 0. */
export type LayerNormBackwardExport = (
  ...x: [
    ...[rows: number, cols: number, dy: number, x: number, w: number, eps: number],
    ...[mean: number, variance: number, out: number],
  ]
) => void;
/** dw, db [cols] ← the gradients by w and b; db may be 0. Rows lie `step` elements apart, by default `cols`. */
export type LayerNormWeightsExport = (
  ...x: [
    ...[rows: number, cols: number, dy: number, x: number, eps: number],
    ...[mean: number, variance: number, dw: number, db: number],
    ...[step?: number],
  ]
) => void;

/**
 * mean, variance (with 1/n), float64 [channels] ← those of x [outer, channels, inner], of which the next `outer` lies `step` elements
 * on, by default channels · inner.
 */
export type BatchStatsExport = (
  ...x: [
    ...[outer: number, channels: number, inner: number],
    ...[x: number, mean: number, variance: number],
    ...[step?: number],
  ]
) => void;
/** out ← (x − mean) · w / √(variance + ε) + b in each channel; w, b [channels] may be 0. */
export type BatchNormExport = (
  ...x: [
    ...[outer: number, channels: number, inner: number, x: number, mean: number, variance: number, eps: number],
    ...[w: number, b: number, out: number],
  ]
) => void;
/**
 * dw, db [channels] ← the gradients by w and b, and out ← that by x: through mean and variance as well where `training` is
 * 1. Each of the three may be 0, for not wanted, and so may w, for none. `step` as in `batchStats`, for dy, x and out.
 */
export type BatchNormBackwardExport = (
  ...x: [
    ...[outer: number, channels: number, inner: number, dy: number, x: number, mean: number, variance: number],
    ...[eps: number, w: number, training: number, out: number, dw: number, db: number],
    ...[step?: number],
  ]
) => void;

/** `x`, `index` (int32, unchecked) and `out`; `count` indices, or of them along the axis. */
export type IndexExport = (
  ...x: [...[outer: number, length: number, inner: number, count: number], ...[x: number, index: number, out: number]]
) => void;

export type ReduceExports =
  // NaN wins in max and min.
  Family<'sum', Numeric, PartialReduceExport> &
    Family<'max' | 'min', Numeric, ReduceExport> &
    // int32 indices of the first largest or smallest; NaN counts as that.
    Family<'argmax' | 'argmin', Numeric, ReduceExport> &
    // out [channels] ← x [outer, channels, inner] summed over both others.
    Family<'sumChannels', Float, PartialReduceExport> &
    Family<'softmax' | 'logSoftmax', Float, RowsExport> &
    // out [rows] ← √Σx² of each row.
    Family<'norm', Float, RowsExport> &
    Family<'softmaxBackward' | 'logSoftmaxBackward', Float, RowsBackwardExport> &
    Family<'crossEntropy', Float, CrossEntropyExport> &
    Family<'crossEntropyBackward', Float, CrossEntropyBackwardExport> &
    Family<'squaredError', Float, SquaredErrorExport> &
    Family<'squaredErrorBackward', Float, SquaredErrorBackwardExport> &
    Family<'layerNorm', Float, LayerNormExport> &
    Family<'layerNormBackward', Float, LayerNormBackwardExport> &
    Family<'layerNormWeights', Float, LayerNormWeightsExport> &
    Family<'batchStats', Float, BatchStatsExport> &
    Family<'batchNorm', Float, BatchNormExport> &
    Family<'batchNormBackward', Float, BatchNormBackwardExport> &
    // out[o, i, :] ← x[o, index[i], :], x [outer, length, inner].
    Family<'indexSelect', Element, IndexExport> &
    // out[o, index[i], :] += x[o, i, :], out [outer, length, inner].
    Family<'indexAdd', Numeric, IndexExport> &
    // out[o, i, j] ← x[o, index[o, i, j], j], x [outer, length, inner], index [outer, count, inner].
    Family<'gather', Element, IndexExport> &
    // out[o, index[o, i, j], j] += x[o, i, j], out [outer, length, inner], index [outer, count, inner].
    Family<'scatterAdd', Numeric, IndexExport>;
