/** Convolution on the reference backend: one walk over all products of an input, a weight and an output element. */

import { sizeOf } from '../shape.ts';
import type { Window } from '../window.ts';
import type { ConvGeometry, Operand } from './backend.ts';
import { rowMajor } from './walk.ts';

type Images = readonly [images: number, channels: number, rows: number, columns: number];
const images = ({ shape }: Operand) => shape as Images;

/**
 * Calls `run` for every run of products of a convolution along a row of outputs, with row-major positions of the first:
 * y[yAt + k] takes part with w[wAt] and x[xAt + k · stride] for k < count. What lies in the padding is left out, or goes to
 * `outside`: there y[yAt + k] takes part with w[wAt] and 0, which is NaN where one is not finite.
 */
function products(
  [n, c, h, w]: Images,
  [o, share, kh, kw]: Images,
  [, , ho, wo]: Images,
  { stride: [sy, sx], padding: [py, px], dilation: [dy, dx], groups }: ConvGeometry,
  run: (xAt: number, wAt: number, yAt: number, count: number) => void,
  outside: (wAt: number, yAt: number, count: number) => void = () => {},
): void {
  for (let image = 0; image < n; image++)
    for (let output = 0; output < o; output++) {
      const first = Math.floor(output / (o / groups)) * share;
      for (let channel = 0; channel < share; channel++)
        for (let ky = 0; ky < kh; ky++)
          for (let kx = 0; kx < kw; kx++) {
            // Output column j reads input column j · sx + left, which must be 0 … w−1.
            const left = kx * dx - px;
            const from = Math.min(wo, Math.max(0, Math.ceil(-left / sx)));
            const to = Math.max(from, Math.min(wo, Math.floor((w - 1 - left) / sx) + 1));
            const wAt = ((output * share + channel) * kh + ky) * kw + kx;
            for (let i = 0; i < ho; i++) {
              const row = i * sy + ky * dy - py;
              const yAt = ((image * o + output) * ho + i) * wo;
              if (row < 0 || row >= h) {
                outside(wAt, yAt, wo);
                continue;
              }
              const xAt = ((image * c + first + channel) * h + row) * w + from * sx + left;
              outside(wAt, yAt, from);
              run(xAt, wAt, yAt + from, to - from);
              outside(wAt, yAt + to, wo - to);
            }
          }
    }
}

/** Sums run in float64 and round once, at the end. */
const accumulator = (out: Operand) => new Float64Array(out.shape.reduce((size, length) => size * length, 1));

export function convForward(x: Operand, w: Operand, out: Operand, geometry: ConvGeometry): void {
  const [xs, ws, ys] = [rowMajor(x), rowMajor(w), accumulator(out)];
  const step = geometry.stride[1];
  const run = (xAt: number, wAt: number, yAt: number, count: number) => {
    const weight = ws[wAt]!;
    for (let k = 0, p = xAt; k < count; k++, p += step) ys[yAt + k]! += xs[p]! * weight;
  };
  products(images(x), images(w), images(out), geometry, run, (wAt, yAt, count) => {
    for (let k = 0; k < count; k++) ys[yAt + k]! += 0 * ws[wAt]!;
  });
  out.storage.array.set(ys, out.offset);
}

export function convInputGrad(gy: Operand, w: Operand, out: Operand, geometry: ConvGeometry): void {
  const [xs, ws, ys] = [accumulator(out), rowMajor(w), rowMajor(gy)];
  const step = geometry.stride[1];
  products(images(out), images(w), images(gy), geometry, (xAt, wAt, yAt, count) => {
    const weight = ws[wAt]!;
    for (let k = 0, p = xAt; k < count; k++, p += step) xs[p]! += ys[yAt + k]! * weight;
  });
  out.storage.array.set(xs, out.offset);
}

export function convWeightGrad(x: Operand, gy: Operand, out: Operand, geometry: ConvGeometry): void {
  const [xs, ws, ys] = [rowMajor(x), accumulator(out), rowMajor(gy)];
  const step = geometry.stride[1];
  const run = (xAt: number, wAt: number, yAt: number, count: number) => {
    let sum = 0;
    for (let k = 0, p = xAt; k < count; k++, p += step) sum += xs[p]! * ys[yAt + k]!;
    ws[wAt]! += sum;
  };
  products(images(x), images(out), images(gy), geometry, run, (wAt, yAt, count) => {
    for (let k = 0; k < count; k++) ws[wAt]! += 0 * ys[yAt + k]!;
  });
  out.storage.array.set(ws, out.offset);
}

/** Calls `tap(xAt, patchAt)` for every element of every patch that lies inside the plane, by row-major positions. */
function taps(
  [n, c, h, w]: Images,
  positions: number,
  { kernel: [kh, kw], stride: [sy, sx], padding: [py, px], dilation: [dy, dx] }: Window,
  tap: (xAt: number, patchAt: number) => void,
): void {
  const wo = Math.floor((w + 2 * px - dx * (kw - 1) - 1) / sx) + 1;
  for (let image = 0; image < n; image++)
    for (let position = 0; position < positions; position++)
      for (let channel = 0; channel < c; channel++)
        for (let ky = 0; ky < kh; ky++)
          for (let kx = 0; kx < kw; kx++) {
            const row = Math.floor(position / wo) * sy + ky * dy - py;
            const column = (position % wo) * sx + kx * dx - px;
            if (row < 0 || row >= h || column < 0 || column >= w) continue;
            const patch = image * positions + position;
            tap(((image * c + channel) * h + row) * w + column, ((patch * c + channel) * kh + ky) * kw + kx);
          }
}

export function unfold(x: Operand, out: Operand, window: Window): void {
  const [pixels, patches] = [rowMajor(x), out.storage.array];
  // Positions in the padding are visited by no tap.
  patches.fill(0, out.offset, out.offset + sizeOf(out.shape));
  taps(images(x), out.shape[1]!, window, (xAt, patchAt) => {
    patches[out.offset + patchAt] = pixels[xAt]!;
  });
}

export function fold(x: Operand, out: Operand, window: Window): void {
  const [pixels, patches] = [accumulator(out), rowMajor(x)];
  taps(images(out), x.shape[1]!, window, (xAt, patchAt) => {
    pixels[xAt]! += patches[patchAt]!;
  });
  out.storage.array.set(pixels, out.offset);
}
