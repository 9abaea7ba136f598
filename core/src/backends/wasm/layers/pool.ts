/** Pooling on the `wasm` backend. */

import { images } from '@otimes/kernels';
import type { Shape } from '../../../shape.ts';
import type { Window } from '../../../window.ts';
import type { Operand } from '../../backend.ts';
import * as reference from '../../reference/layers/pool.ts';
import { contextIn, type WasmBackend } from '../index.ts';
import { rowMajor } from '../memory.ts';
import { addressOf, inMemory } from '../region.ts';
import { kernelsOf } from './load.ts';

const kernels = kernelsOf(images, ['maxPoolIndex', 'maxPoolGrad', 'avgPool', 'avgPoolGrad']);

export function maxPoolIndex(this: WasmBackend, x: Operand, out: Operand, window: Window): void {
  const c = contextIn(this);
  const run = kernels(c).maxPoolIndex[x.dtype];
  if (run === undefined || !inMemory(out)) return reference.maxPoolIndex(x, out, window);
  const planes = rowMajor(c, x);
  run(...poolSizes(x.shape, out.shape, window), addressOf(planes), addressOf(out), 0);
}

export function maxPool(this: WasmBackend, x: Operand, index: Operand, out: Operand, window: Window): void {
  const c = contextIn(this);
  const run = kernels(c).maxPoolIndex[x.dtype];
  if (run === undefined || ![index, out].every(inMemory)) return reference.maxPool(x, index, out, window);
  const planes = rowMajor(c, x);
  run(...poolSizes(x.shape, out.shape, window), addressOf(planes), addressOf(index), addressOf(out));
}

export function maxPoolGrad(this: WasmBackend, gy: Operand, index: Operand, out: Operand, window: Window): void {
  const c = contextIn(this);
  const run = kernels(c).maxPoolGrad[out.dtype];
  if (run === undefined || !inMemory(out)) return reference.maxPoolGrad(gy, index, out, window);
  const [grads, places] = [rowMajor(c, gy), rowMajor(c, index)];
  run(...poolSizes(out.shape, gy.shape, window), addressOf(grads), addressOf(places), addressOf(out));
}

export function avgPool(this: WasmBackend, x: Operand, out: Operand, window: Window, countIncludePad: boolean): void {
  const c = contextIn(this);
  const run = kernels(c).avgPool[out.dtype];
  if (run === undefined || !inMemory(out)) return reference.avgPool(x, out, window, countIncludePad);
  const planes = rowMajor(c, x);
  run(...poolSizes(x.shape, out.shape, window), countIncludePad ? 1 : 0, addressOf(planes), addressOf(out));
}

export function avgPoolGrad(
  this: WasmBackend,
  gy: Operand,
  out: Operand,
  window: Window,
  countIncludePad: boolean,
): void {
  const c = contextIn(this);
  const run = kernels(c).avgPoolGrad[out.dtype];
  if (run === undefined || !inMemory(out)) return reference.avgPoolGrad(gy, out, window, countIncludePad);
  const grads = rowMajor(c, gy);
  run(...poolSizes(out.shape, gy.shape, window), countIncludePad ? 1 : 0, addressOf(grads), addressOf(out));
}

function poolSizes(x: Shape, y: Shape, { kernel, stride, padding }: Window) {
  const [n, c, h, w] = x as [number, number, number, number];
  return [n * c, h, w, y[2]!, y[3]!, ...kernel, ...stride, ...padding] as const;
}
