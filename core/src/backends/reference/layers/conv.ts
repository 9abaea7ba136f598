/** Convolution on the reference backend: one walk over all products of an input, a weight and an output element. */

import { allocateArray } from '../../../dtype.ts';
import { sizeOf } from '../../../shape.ts';
import { type Window, windowsIn } from '../../../window.ts';
import type { ConvGeometry, Operand } from '../../backend.ts';
import { perChannel } from '../../operand.ts';
import { rowMajor } from '../../walk.ts';
import { gramOf } from '../blocks.ts';
import { addScaled } from '../update.ts';

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

export function convForward(x: Operand, w: Operand, bias: Operand | null, out: Operand, geometry: ConvGeometry): void {
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
  if (bias !== null) addScaled(out, perChannel(bias), 1, 1);
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

/**
 * Calls `tap(xAt, patch, element)` for every element of every patch that lies inside the plane: its row-major position in
 * the images, which patch it is in, and where there.
 */
function taps(
  [n, c, h, w]: Images,
  positions: number,
  { kernel: [kh, kw], stride: [sy, sx], padding: [py, px], dilation: [dy, dx] }: Window,
  tap: (xAt: number, patch: number, element: number) => void,
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
            const xAt = ((image * c + channel) * h + row) * w + column;
            tap(xAt, image * positions + position, (channel * kh + ky) * kw + kx);
          }
}

export function unfold(x: Operand, out: Operand, window: Window): void {
  const [pixels, patches] = [rowMajor(x), out.storage.array];
  const [, positions, width] = out.shape as [number, number, number];
  // Positions in the padding are visited by no tap.
  patches.fill(0, out.offset, out.offset + sizeOf(out.shape));
  taps(images(x), positions, window, (xAt, patch, element) => {
    patches[out.offset + patch * width + element] = pixels[xAt]!;
  });
}

export function patchGram(x: Operand, out: Operand, window: Window, ones: boolean): void {
  const [ho, wo] = windowsIn('patchGram', [x.shape[2]!, x.shape[3]!], window);
  const [count, width] = [x.shape[0]! * ho * wo, out.shape[0]!];
  const [pixels, patches] = [rowMajor(x), allocateArray(x.dtype, count * width)];
  taps(images(x), ho * wo, window, (xAt, patch, element) => {
    patches[patch * width + element] = pixels[xAt]!;
  });
  if (ones) for (let patch = 1; patch <= count; patch++) patches[patch * width - 1] = 1;
  gramOf(patches, count, width, out.storage.array, out.offset);
}

export function fold(x: Operand, out: Operand, window: Window): void {
  const [pixels, patches] = [accumulator(out), rowMajor(x)];
  const [, positions, width] = x.shape as [number, number, number];
  taps(images(out), positions, window, (xAt, patch, element) => {
    pixels[xAt]! += patches[patch * width + element]!;
  });
  out.storage.array.set(pixels, out.offset);
}
