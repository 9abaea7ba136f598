/** Convolution and patches on the `wasm` backend. */

import { images } from '@otimes/kernels';
import { bytesPerElement } from '../../../dtype.ts';
import { type Shape, sizeOf } from '../../../shape.ts';
import { type Window, windowsIn } from '../../../window.ts';
import type { ConvGeometry, Operand } from '../../backend.ts';
import { perChannel, withLayout } from '../../operand.ts';
import * as reference from '../../reference/layers/conv.ts';
import { empty } from '../context.ts';
import { binary } from '../elementwise.ts';
import { contextIn, type WasmBackend } from '../index.ts';
import { assign, fill, rowMajor } from '../memory.ts';
import { gram } from '../product.ts';
import { addressOf, inMemory } from '../region.ts';
import { depthwise } from './depthwise.ts';
import { kernelsOf } from './load.ts';
import { winograd } from './winograd.ts';

const kernels = kernelsOf(images, ['convForward', 'convInputGrad', 'convWeightGrad', 'unfold', 'fold', 'patchGram']);
/** Bytes of patches that are laid out at a time for their second moments. */
const PATCH_BYTES = 32 * 2 ** 20;

export function convForward(
  this: WasmBackend,
  x: Operand,
  w: Operand,
  bias: Operand | null,
  out: Operand,
  geometry: ConvGeometry,
): void {
  const c = contextIn(this);
  const run = kernels(c).convForward[out.dtype];
  if (run === undefined || !inMemory(out)) return reference.convForward(x, w, bias, out, geometry);
  const [images, weights] = [rowMajor(c, x), rowMajor(c, w)];
  const sizes = convSizes(x.shape, w.shape, out.shape, geometry);
  const plain = bias === null ? null : rowMajor(c, bias);
  if (winograd(c, 'forward', sizes, images, weights, plain, out)) return;
  if (depthwise(c, 0, sizes, images, weights, plain, out)) return;
  run(...sizes, addressOf(images), addressOf(weights), addressOf(out), c.kernels.scratch);
  if (bias !== null) binary(c, 'add', out, perChannel(bias), out);
}

export function convInputGrad(this: WasmBackend, gy: Operand, w: Operand, out: Operand, geometry: ConvGeometry): void {
  const c = contextIn(this);
  const run = kernels(c).convInputGrad[out.dtype];
  if (run === undefined || !inMemory(out)) return reference.convInputGrad(gy, w, out, geometry);
  const [grads, weights] = [rowMajor(c, gy), rowMajor(c, w)];
  const sizes = convSizes(out.shape, w.shape, gy.shape, geometry);
  if (winograd(c, 'inputGrad', sizes, grads, weights, null, out)) return;
  if (depthwise(c, 1, sizes, grads, weights, null, out)) return;
  run(...sizes, addressOf(grads), addressOf(weights), addressOf(out), c.kernels.scratch);
}

export function convWeightGrad(this: WasmBackend, x: Operand, gy: Operand, out: Operand, geometry: ConvGeometry): void {
  const c = contextIn(this);
  const run = kernels(c).convWeightGrad[out.dtype];
  if (run === undefined || !inMemory(out)) return reference.convWeightGrad(x, gy, out, geometry);
  const [images, grads] = [rowMajor(c, x), rowMajor(c, gy)];
  const sizes = convSizes(x.shape, out.shape, gy.shape, geometry);
  if (winograd(c, 'weightGrad', sizes, images, grads, null, out)) return;
  if (depthwise(c, 2, sizes, images, grads, null, out)) return;
  run(...sizes, addressOf(images), addressOf(grads), addressOf(out), c.kernels.scratch);
}

export function unfold(this: WasmBackend, x: Operand, out: Operand, window: Window): void {
  const c = contextIn(this);
  const run = kernels(c).unfold[out.dtype];
  if (run === undefined || !inMemory(out)) return reference.unfold(x, out, window);
  const images = rowMajor(c, x);
  run(...patchSizes(x.shape, window), addressOf(images), addressOf(out));
}

export function fold(this: WasmBackend, x: Operand, out: Operand, window: Window): void {
  const c = contextIn(this);
  const run = kernels(c).fold[out.dtype];
  if (run === undefined || !inMemory(out)) return reference.fold(x, out, window);
  const patches = rowMajor(c, x);
  run(...patchSizes(out.shape, window), addressOf(patches), addressOf(out));
}

export function patchGram(this: WasmBackend, x: Operand, out: Operand, window: Window, ones: boolean): void {
  const c = contextIn(this);
  const run = kernels(c).patchGram[out.dtype];
  if (run === undefined || !inMemory(out) || out.shape[0] === 0) return gramOfPatches(this, x, out, window, ones);
  const images = rowMajor(c, x);
  const [kh, kw] = window.kernel;
  const size = x.shape[1]! * kw + (ones ? 1 : 0);
  const perLine = 32 / bytesPerElement(out.dtype);
  const shape = [kh * (kh + 1) * size, Math.ceil(size / perLine) * perLine];
  const work = empty(c, { dtype: out.dtype, shape });
  const [px, pw, po] = [addressOf(images), addressOf(work), addressOf(out)];
  const done = run(...patchSizes(x.shape, window), ones ? 1 : 0, px, pw, po, c.kernels.scratch);
  // The kernel leaves padding out, but 0 · ∞ is NaN.
  if (!done || c.other.firstNotFinite[out.dtype]!(sizeOf(out.shape), po) >= 0)
    gramOfPatches(this, x, out, window, ones);
}

/** By the patches themselves, of some images at a time. */
function gramOfPatches(backend: WasmBackend, x: Operand, out: Operand, window: Window, ones: boolean): void {
  const c = contextIn(backend);
  const [images] = x.shape as [number];
  const positions = windowsIn('patchGram', [x.shape[2]!, x.shape[3]!], window).reduce((a, b) => a * b, 1);
  const elements = x.shape[1]! * window.kernel[0] * window.kernel[1];
  const size = elements + (ones ? 1 : 0);
  const bytes = bytesPerElement(out.dtype);
  const most = inMemory(out) ? Math.max(1, Math.floor(PATCH_BYTES / Math.max(1, positions * size * bytes))) : images;
  const count = Math.max(1, Math.min(images, most));
  const { dtype } = x;
  const patches = empty(c, { dtype, shape: [count, positions, elements] });
  const rows = ones ? empty(c, { dtype, shape: [count, positions, size] }) : patches;
  if (ones) fill(c, 1, rows);
  for (let i = 0; i === 0 || i < images; i += count) {
    const n = Math.min(count, images - i);
    const some = { ...x, shape: [n, ...x.shape.slice(1)], offset: x.offset + i * x.strides[0]! };
    const laid = { ...patches, shape: [n, positions, elements] };
    unfold.call(backend, some, laid, window);
    if (ones) assign(c, withLayout(rows, laid.shape, rows.strides), laid);
    gram(c, { ...rows, shape: [n, positions, size] }, out, i > 0);
  }
}

/** The geometry in the order of the kernels, by the shapes of images, weights and results. */
function convSizes(x: Shape, w: Shape, y: Shape, { stride, padding, dilation, groups }: ConvGeometry) {
  const [n, c, h, width] = x as [number, number, number, number];
  const [o, , kh, kw] = w as [number, number, number, number];
  const [, , ho, wo] = y as [number, number, number, number];
  return [n, c, h, width, o, kh, kw, ho, wo, ...stride, ...padding, ...dilation, groups] as const;
}

/** The same without weights: of images and a window. */
function patchSizes(x: Shape, window: Window) {
  const y = windowsIn('unfold', [x[2]!, x[3]!], window);
  return convSizes(x, [0, 0, ...window.kernel], [0, 0, ...y], { ...window, groups: 1 });
}
