/** Patches and pooling of images [N, C, H, W]: a thread for each element of the result, which looks at what it sees. */

import type { Operand, Window } from '@otimes/core';
import { sizeOf } from '@otimes/core/extend';
import { type Context, kernelOf, memoryOf } from './context.ts';
import { rowMajor } from './copy.ts';
import { constants, FLAT, flatGroups, INDEX, tensor } from './wgsl.ts';

const FIELDS = 'n:u32, x0:u32, planes:u32, pad:u32, size:vec4<i32>, kernel:vec4<i32>, step:vec4<i32>, far:vec4<i32>';
const TYPES = `uuuu${'i'.repeat(16)}`;

/** size (H, W, Ho, Wo), kernel (kh, kw, C, include), step (sh, sw, ph, pw), far (dh, dw). */
function constantsOf(
  x: Operand,
  image: Operand,
  window: Window,
  [ho, wo]: readonly [number, number],
  include: number,
): number[] {
  const [n, channels, h, w] = image.shape as [number, number, number, number];
  const { kernel, stride, padding, dilation } = window;
  return [
    ...[x.offset, n * channels, 0],
    ...[h, w, ho, wo],
    ...[kernel[0], kernel[1], channels, include],
    ...[stride[0], stride[1], padding[0], padding[1]],
    ...[dilation[0], dilation[1], 0, 0],
  ];
}

const head = (words: string) => `${constants(FIELDS)}
${words}
@compute @workgroup_size(64) fn main(${FLAT}) {
  ${INDEX}
  if (i >= p.n) { return; }
  let h = p.size.x; let w = p.size.y; let ho = p.size.z; let wo = p.size.w;`;

/** Y [N, Ho·Wo, C·kh·kw] ← patches of X. */
const UNFOLD = `${head(`${tensor(1, 'X')} ${tensor(2, 'Y', 'read_write')}`)}
  let e = i32(i);
  let kx = e % p.kernel.y; var rest = e / p.kernel.y;
  let ky = rest % p.kernel.x; rest /= p.kernel.x;
  let channel = rest % p.kernel.z; rest /= p.kernel.z;
  let ox = rest % wo; rest /= wo;
  let oy = rest % ho; let image = rest / ho;
  let y = oy * p.step.x - p.step.z + ky * p.far.x; let x = ox * p.step.y - p.step.w + kx * p.far.y;
  var value = 0.0;
  if (y >= 0 && y < h && x >= 0 && x < w) { value = X[i32(p.x0) + ((image * p.kernel.z + channel) * h + y) * w + x]; }
  Y[i] = value;
}`;

/** For pixel (y, x) of a plane: every place (oy, ox) of the output that sees it, at tap (ky, kx). */
const seenBy = (body: string) => `
  for (var ky = 0; ky < p.kernel.x; ky++) {
    let ay = y + p.step.z - ky * p.far.x;
    if (ay < 0 || ay % p.step.x != 0) { continue; }
    let oy = ay / p.step.x; if (oy >= ho) { continue; }
    for (var kx = 0; kx < p.kernel.y; kx++) {
      let ax = x + p.step.w - kx * p.far.y;
      if (ax < 0 || ax % p.step.y != 0) { continue; }
      let ox = ax / p.step.y; if (ox >= wo) { continue; }
      ${body}
    }
  }`;
const PIXEL = 'let x = i32(i) % w; let y = (i32(i) / w) % h; let plane = i32(i) / (w * h);';

/** Y [N, C, H, W] ← patches X [N, Ho·Wo, C·kh·kw] added up where they overlap. */
const FOLD = `${head(`${tensor(1, 'X')} ${tensor(2, 'Y', 'read_write')}`)}
  ${PIXEL}
  let image = plane / p.kernel.z; let channel = plane % p.kernel.z;
  var sum = 0.0;
  ${seenBy('sum += X[i32(p.x0) + (((image * ho + oy) * wo + ox) * p.kernel.z + channel) * p.kernel.x * p.kernel.y + ky * p.kernel.y + kx];')}
  Y[i] = sum;
}`;

const PLACE = 'let ox = i32(i) % wo; let oy = (i32(i) / wo) % ho; let plane = i32(i) / (wo * ho);';
/** The pixels that place (oy, ox) sees, in order. */
const sees = (body: string) => `
  for (var ky = 0; ky < p.kernel.x; ky++) {
    let y = oy * p.step.x - p.step.z + ky; if (y < 0 || y >= h) { continue; }
    for (var kx = 0; kx < p.kernel.y; kx++) {
      let x = ox * p.step.y - p.step.w + kx; if (x < 0 || x >= w) { continue; }
      ${body}
    }
  }`;

const MAX = `${head(`${tensor(1, 'X')} ${tensor(2, 'Y', 'read_write', 'i32')}`)}
  ${PLACE}
  var best = 0.0; var place = -1;
  ${sees(`let value = X[i32(p.x0) + (plane * h + y) * w + x];
      if (place < 0 || (!isnan_(best) && (value > best || isnan_(value)))) { best = value; place = y * w + x; }`)}
  Y[i] = place;
}`;

const AVERAGE = `${head(`${tensor(1, 'X')} ${tensor(2, 'Y', 'read_write')}`)}
  ${PLACE}
  var sum = 0.0; var count = 0;
  ${sees('sum += X[i32(p.x0) + (plane * h + y) * w + x]; count++;')}
  if (p.kernel.w == 1) { count = p.kernel.x * p.kernel.y; }
  Y[i] = sum / f32(count);
}`;

/** Pixels of the window at (oy, ox): all of the kernel, or those inside. */
const COUNT = `
  let y0 = oy * p.step.x - p.step.z; let x0 = ox * p.step.y - p.step.w;
  var count = (min(y0 + p.kernel.x, h) - max(y0, 0)) * (min(x0 + p.kernel.y, w) - max(x0, 0));
  if (p.kernel.w == 1) { count = p.kernel.x * p.kernel.y; }`;
const AVERAGE_GRAD = `${head(`${tensor(1, 'X')} ${tensor(2, 'Y', 'read_write')}`)}
  ${PIXEL}
  var sum = 0.0;
  ${seenBy(`${COUNT} sum += X[i32(p.x0) + (plane * ho + oy) * wo + ox] / f32(count);`)}
  Y[i] = sum;
}`;

/** Of the windows that see a pixel, those whose largest it is. */
const MAX_GRAD = `${head(`${tensor(1, 'X')} ${tensor(2, 'I', 'read', 'i32')} ${tensor(3, 'Y', 'read_write')}`)}
  ${PIXEL}
  var sum = 0.0;
  ${seenBy('let k = (plane * ho + oy) * wo + ox; if (I[u32(k) + p.pad] == y * w + x) { sum += X[i32(p.x0) + k]; }')}
  Y[i] = sum;
}`;

const CODE = { unfold: UNFOLD, fold: FOLD, maxPoolIndex: MAX, avgPool: AVERAGE, avgPoolGrad: AVERAGE_GRAD };

/** @param image the side that is [N, C, H, W] @param places its [Ho, Wo] */
function run(
  c: Context,
  name: keyof typeof CODE,
  x: Operand,
  out: Operand,
  image: Operand,
  window: Window,
  places: readonly [number, number],
  include = 0,
): void {
  const size = sizeOf(out.shape);
  if (size === 0) return;
  const source = rowMajor(c, x);
  const kernel = kernelOf(c, name, () => ({ code: CODE[name], types: TYPES }));
  const all = [size, ...constantsOf(source, image, window, places, include)];
  c.commands.dispatch(kernel, [source, out].map(memoryOf), all, flatGroups(size));
}

/** [Ho, Wo] of windows over [N, C, H, W]. */
export function placesOf({ shape }: Operand, { kernel, stride, padding, dilation }: Window): [number, number] {
  const count = (i: 0 | 1) =>
    Math.floor((shape[2 + i]! + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) / stride[i]) + 1;
  return [count(0), count(1)];
}

export function unfold(c: Context, x: Operand, out: Operand, window: Window): void {
  run(c, 'unfold', x, out, x, window, placesOf(x, window));
}

export function fold(c: Context, x: Operand, out: Operand, window: Window): void {
  run(c, 'fold', x, out, out, window, placesOf(out, window));
}

export function maxPoolIndex(c: Context, x: Operand, out: Operand, window: Window): void {
  run(c, 'maxPoolIndex', x, out, x, window, placesOf(x, window));
}

export function avgPool(c: Context, x: Operand, out: Operand, window: Window, countIncludePad: boolean): void {
  run(c, 'avgPool', x, out, x, window, placesOf(x, window), Number(countIncludePad));
}

export function avgPoolGrad(c: Context, gy: Operand, out: Operand, window: Window, countIncludePad: boolean): void {
  run(c, 'avgPoolGrad', gy, out, out, window, placesOf(out, window), Number(countIncludePad));
}

/** out [N, C, H, W] ← gy [N, C, Ho, Wo] at the places in the plane that `index` has for each window. */
export function maxPoolGrad(c: Context, gy: Operand, index: Operand, out: Operand, window: Window): void {
  const size = sizeOf(out.shape);
  if (size === 0) return;
  const [grads, places] = [rowMajor(c, gy), rowMajor(c, index)];
  const kernel = kernelOf(c, 'maxPoolGrad', () => ({ code: MAX_GRAD, types: TYPES }));
  const [x0, planes, , ...rest] = constantsOf(grads, out, window, placesOf(out, window), 0);
  const values = [size, x0!, planes!, places.offset, ...rest];
  c.commands.dispatch(kernel, [grads, places, out].map(memoryOf), values, flatGroups(size));
}
