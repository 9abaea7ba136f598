/**
 * Convolution and pooling, as the modules export them. Operands are row-major without gaps, and results overlap none of
 * them. Sums of float32 run in float32. NOTE: the zeros around a plane are multiplied as its pixels are, so a weight, or
 * for its gradient a gy, that is NaN or infinite makes a NaN there too.
 */

import type { Family, Float } from './elementwise.ts';

/**
 * Images x [n, c, h, w], weights [o, c/groups, kh, kw], results [n, o, ho, wo]; stride, padding and dilation in rows (y)
 * and columns (x). `o` is not read where there are no weights.
 */
type Geometry = [
  ...[n: number, c: number, h: number, w: number, o: number, kh: number, kw: number, ho: number, wo: number],
  ...[sy: number, sx: number, py: number, px: number, dy: number, dx: number, groups: number],
];
/** out ← what is asked for of two of x, weights and the result's gradient. */
export type ConvExport = (...x: [...Geometry, ...[a: number, b: number, out: number, scratch: number]]) => void;
/** As `ConvExport`; only the elements from … to − 1 of each patch [c/groups, kh, kw], or all where `to` is 0 or left out. */
export type ConvWeightGradExport = (
  ...x: [...Geometry, ...[a: number, b: number, out: number, scratch: number, from?: number, to?: number]]
) => void;
/** Images to patches [n, ho·wo, c·kh·kw] or back. */
export type PatchesExport = (...x: [...Geometry, ...[x: number, out: number]]) => void;

/**
 * Σ p pᵀ over the patches p [c·kh·kw] of images, with 1 behind their elements if `ones` is 1: exactly symmetric; zeros above
 * and below the planes are not multiplied. `work` has kh·(kh + 1)·size rows, size = c·kw + ones, each as long as `size`
 * rounded up to 32 bytes. Returns 0, and does nothing, where kh rows of patches, and those between them, are too long for the
 * scratch.
 */
export type PatchGramExport = (
  ...x: [...Geometry, ...[ones: number, x: number, work: number, out: number, scratch: number]]
) => number;

/** Planes [planes, h, w] and [planes, ho, wo]. */
type Windows = [
  ...[planes: number, h: number, w: number, ho: number, wo: number],
  ...[kh: number, kw: number, sy: number, sx: number, py: number, px: number],
];
export type MaxPoolIndexExport = (...x: [...Windows, ...[x: number, out: number]]) => void;
/** The mean is taken of the whole window, zeros around the plane included, where `padded` is 1. */
export type AvgPoolExport = (...x: [...Windows, ...[padded: number, x: number, out: number]]) => void;

export type ConvExports = {
  /** Bytes of scratch that each convolution needs; at least `gemmScratch()`. */
  readonly convScratch: () => number;
} & Family<'convForward', Float, ConvExport> & // (x, weights)
  Family<'convInputGrad', Float, ConvExport> & // (gy, weights)
  Family<'convWeightGrad', Float, ConvWeightGradExport> & // (x, gy)
  Family<'unfold' | 'fold', Float, PatchesExport> &
  Family<'patchGram', Float, PatchGramExport> &
  // int32: the row-major position in the plane of the first maximum of each window, or of its last NaN.
  Family<'maxPoolIndex', Float, MaxPoolIndexExport> &
  Family<'avgPool' | 'avgPoolGrad', Float, AvgPoolExport>;
