/** Interpolation along an axis on the `wasm` backend. */

import { resample as module } from '@otimes/kernels';
import { sizeOf } from '../../../shape.ts';
import type { Operand } from '../../backend.ts';
import * as reference from '../../reference/layers/resample.ts';
import { contextIn, type WasmBackend } from '../index.ts';
import { rowMajor } from '../memory.ts';
import { addressOf, inMemory } from '../region.ts';
import { kernelsOf } from './load.ts';

const kernels = kernelsOf(module, ['resample', 'resampleBackward']);

/** Runs a kernel between `whole`, which has the axis as it was, and another operand. */
function run(
  backend: WasmBackend,
  name: 'resample' | 'resampleBackward',
  axis: number,
  whole: Operand,
  x: Operand,
  taps: readonly [Operand, Operand | null, Operand | null],
  out: Operand,
): void {
  const c = contextIn(backend);
  const call = kernels(c)[name][out.dtype]!;
  const [from, left, right, weight] = [x, ...taps].map(one => one && rowMajor(c, one));
  const [outer, inner] = [sizeOf(whole.shape.slice(0, axis)), sizeOf(whole.shape.slice(axis + 1))];
  const addresses = [from, left, right, weight, out].map(one => (one ? addressOf(one) : 0));
  const [px, pl, pr, pw, po] = addresses as [number, number, number, number, number];
  call(outer, whole.shape[axis]!, inner, taps[0].shape[0]!, px, pl, pr, pw, po);
}

export function resample(
  this: WasmBackend,
  x: Operand,
  axis: number,
  left: Operand,
  right: Operand | null,
  weight: Operand | null,
  out: Operand,
): void {
  if (!inMemory(out)) return reference.resample(x, axis, left, right, weight, out);
  run(this, 'resample', axis, x, x, [left, right, weight], out);
}

export function resampleGrad(
  this: WasmBackend,
  gy: Operand,
  axis: number,
  left: Operand,
  right: Operand | null,
  weight: Operand | null,
  out: Operand,
): void {
  if (!inMemory(out)) return reference.resampleGrad(gy, axis, left, right, weight, out);
  run(this, 'resampleBackward', axis, out, gy, [left, right, weight], out);
}
