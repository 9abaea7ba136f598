/**
 * Pictures in another size. 'bilinear' is PyTorch's `interpolate(mode='bilinear', align_corners=False)`, with or without `antialias`,
 * and 'nearest' its mode of that name. Axes are resampled one after the other: columns first, then rows.
 */

import { type View, whole } from './view.ts';

export type Interpolation = 'bilinear' | 'nearest';

/** For each output i: `counts[i]` ≤ `taps` weights, which sum to 1, of inputs from `first[i]` on. */
type Weights = {
  readonly first: Int32Array;
  readonly counts: Int32Array;
  readonly taps: number;
  readonly weights: Float64Array;
};

/**
 * A view with nothing outside of its planes, in the size [height, width]. Bilinear values are float32.
 *
 * @param scratch gives memory for the result
 */
export function resampled(
  view: View,
  [height, width]: readonly [number, number],
  { interpolation, antialias }: { interpolation: Interpolation; antialias: boolean },
  scratch: (bytes: boolean, size: number) => Uint8Array | Float32Array,
): View {
  const planes = view.stride === 0 ? 1 : view.channels;
  const { data, stride, width: pitch, top, left, rows, cols } = view;
  const nearest = interpolation === 'nearest';
  const out = scratch(nearest && data instanceof Uint8Array, planes * height * width);
  if (nearest) {
    const [ys, xs] = [nearestOf(rows, height), nearestOf(cols, width)];
    for (let c = 0; c < planes; c++)
      for (let y = 0; y < height; y++) {
        const s = c * stride + (top + ys[y]!) * pitch + left;
        const o = (c * height + y) * width;
        for (let x = 0; x < width; x++) out[o + x] = data[s + xs[x]!]!;
      }
  } else {
    const across = weightsOf(cols, width, antialias);
    const down = weightsOf(rows, height, antialias);
    const rowSum = new Float64Array(width);
    // Rows [rows, width] of one plane after the first axis.
    const narrow = new Float32Array(rows * width);
    for (let c = 0; c < planes; c++) {
      for (let y = 0; y < rows; y++) along(data, c * stride + (top + y) * pitch + left, across, narrow, y * width);
      for (let y = 0; y < height; y++) {
        rowSum.fill(0);
        for (let k = 0; k < down.counts[y]!; k++) {
          const weight = down.weights[y * down.taps + k]!;
          const s = (down.first[y]! + k) * width;
          for (let x = 0; x < width; x++) rowSum[x]! += weight * narrow[s + x]!;
        }
        const o = (c * height + y) * width;
        for (let x = 0; x < width; x++) out[o + x] = rowSum[x]!;
      }
    }
  }
  return whole({ data: out, height, width }, view.channels, view.stride === 0 ? 0 : height * width);
}

/** One row from `from` on, weighed. */
function along(data: Uint8Array | Float32Array, from: number, w: Weights, out: Float32Array, at: number): void {
  const { first, taps, counts, weights } = w;
  for (let x = 0; x < first.length; x++) {
    const s = from + first[x]!;
    const o = x * taps;
    let sum = 0;
    for (let k = 0; k < counts[x]!; k++) sum += weights[o + k]! * data[s + k]!;
    out[at + x] = sum;
  }
}

/** The input of each output: floor(i · n / m), in float32 as PyTorch computes it. */
function nearestOf(n: number, m: number): Int32Array {
  const scale = Math.fround(n / m);
  return Int32Array.from({ length: m }, (_, i) => Math.min(Math.floor(Math.fround(i * scale)), n - 1));
}

/** A triangle around the place of each output: of width 2, or with `antialias` of 2 n/m where that is more. */
function weightsOf(n: number, m: number, antialias: boolean): Weights {
  const scale = n / m;
  const spread = antialias ? Math.max(scale, 1) : 1;
  const taps = Math.min(n, Math.ceil(2 * spread) + 1);
  const first = new Int32Array(m);
  const counts = new Int32Array(m);
  const weights = new Float64Array(m * taps);
  for (let i = 0; i < m; i++) {
    const place = (i + 0.5) * scale;
    // Beyond the first and last pixel's middle the value is that pixel's. Antialiased triangles are cut instead.
    const centre = antialias ? place : Math.min(Math.max(place, 0.5), n - 0.5);
    const start = Math.max(Math.trunc(centre - spread + 0.5), 0);
    const end = Math.min(Math.trunc(centre + spread + 0.5), n);
    first[i] = start;
    counts[i] = end - start;
    let total = 0;
    for (let j = start; j < end; j++)
      total += weights[i * taps + j - start] = Math.max(0, 1 - Math.abs(j + 0.5 - centre) / spread);
    for (let j = start; j < end; j++) weights[i * taps + j - start]! /= total;
  }
  return { first, counts, taps, weights };
}
