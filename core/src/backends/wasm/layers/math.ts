/** Functions of one element that come with their operations, on the `wasm` backend. */

import { math as module } from '@otimes/kernels';
import { bytesPerElement } from '../../../dtype.ts';
import { sizeOf } from '../../../shape.ts';
import type { MathGradKernel, MathKernel, Operand } from '../../backend.ts';
import * as reference from '../../reference/layers/math.ts';
import { contextIn, type WasmBackend } from '../index.ts';
import { pathTo, resident, rowMajor } from '../memory.ts';
import { walkPlanes } from '../planes.ts';
import { addressOf, inMemory } from '../region.ts';
import { kernelsOf } from './load.ts';

const plain = kernelsOf(module, ['log2', 'log10', 'tan', 'sinh', 'cosh', 'silu', 'mish', 'logSigmoid']);
const parametrised = kernelsOf(module, ['softplus', 'elu', 'leakyRelu']);
const plainSlopes = kernelsOf(module, ['siluBackward', 'mishBackward', 'logSigmoidBackward']);
const slopes = kernelsOf(module, ['softplusBackward', 'eluBackward', 'leakyReluBackward']);
const angles = kernelsOf(module, ['atan2']);

type WithParameters = 'softplus' | 'elu' | 'leakyRelu';
const takesParameters = (kernel: MathKernel): kernel is WithParameters =>
  kernel === 'softplus' || kernel === 'elu' || kernel === 'leakyRelu';

export function math(this: WasmBackend, kernel: MathKernel, x: Operand, p: number, q: number, out: Operand): void {
  if (x.dtype !== out.dtype || !inMemory(out)) return reference.math(kernel, x, p, q, out);
  const c = contextIn(this);
  const source = rowMajor(c, x);
  const [size, from, to] = [sizeOf(out.shape), addressOf(source), addressOf(out)];
  if (takesParameters(kernel)) parametrised(c)[kernel][out.dtype]!(size, from, p, q, to);
  else plain(c)[kernel][out.dtype]!(size, from, to);
}

export function mathGrad(
  this: WasmBackend,
  kernel: MathGradKernel,
  gy: Operand,
  x: Operand,
  p: number,
  q: number,
  out: Operand,
): void {
  if (x.dtype !== out.dtype || gy.dtype !== out.dtype || !inMemory(out))
    return reference.mathGrad(kernel, gy, x, p, q, out);
  const c = contextIn(this);
  const [grads, source] = [rowMajor(c, gy), rowMajor(c, x)];
  const [size, from, at, to] = [sizeOf(out.shape), addressOf(grads), addressOf(source), addressOf(out)];
  if (takesParameters(kernel)) slopes(c)[`${kernel}Backward`][out.dtype]!(size, from, at, p, q, to);
  else plainSlopes(c)[`${kernel}Backward`][out.dtype]!(size, from, at, to);
}

export function atan2(this: WasmBackend, y: Operand, x: Operand, out: Operand): void {
  if (x.dtype !== out.dtype || y.dtype !== out.dtype || !inMemory(out)) return reference.atan2(y, x, out);
  const c = contextIn(this);
  const run = angles(c).atan2[out.dtype]!;
  const [left, right] = [resident(c, y), resident(c, x)];
  const [pa, pb, pc, bytes] = [addressOf(left), addressOf(right), addressOf(out), bytesPerElement(out.dtype)];
  walkPlanes(out.shape, [pathTo(left, out), pathTo(right, out)], (rows, cols, start, at, { row, col }) => {
    const [p, q] = [pa + at[0]! * bytes, pb + at[1]! * bytes];
    run(rows, cols, p, row[0]!, col[0]!, q, row[1]!, col[1]!, pc + start * bytes);
  });
}

/** The plain loop: the engine's remainder is as fast as one of these kernels could be. */
export function remainder(this: WasmBackend, a: Operand, b: Operand, out: Operand): void {
  reference.remainder(a, b, out);
}
