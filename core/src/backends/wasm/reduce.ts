/** Reductions and softmax of the `wasm` backend. */

import { sizeOf } from '../../shape.ts';
import type { Operand, ReduceKernel } from '../backend.ts';
import * as reference from '../reference/reduce.ts';
import type { Context } from './context.ts';
import { rowMajor, spanOf } from './memory.ts';
import { addressOf, inMemory } from './region.ts';

export function reduce(c: Context, kernel: ReduceKernel, x: Operand, axes: readonly number[], out: Operand): void {
  if (kernel === 'norm') return norm(c, x, axes, out);
  if (kernel === 'mean') return mean(c, x, axes, out);
  const run = c.other[kernel][out.dtype];
  const span = spanOf(x.shape, axes);
  if (span === null && kernel === 'sum' && sumChannels(c, x, axes, out)) return;
  if (run === undefined || span === null || x.dtype !== out.dtype || !inMemory(out))
    return reference.reduce(kernel, x, axes, out);
  const source = rowMajor(c, x);
  run(span.outer, span.length, span.inner, addressOf(source), addressOf(out));
}

/** The rows of a copy with the reduced axes last, unless they are. */
function norm(c: Context, x: Operand, axes: readonly number[], out: Operand): void {
  const run = c.other.norm[out.dtype];
  if (run === undefined || !inMemory(out)) return reference.reduce('norm', x, axes, out);
  const { storage, dtype, offset } = x;
  const order = [...x.shape.keys()].sort((a, b) => Number(axes.includes(a)) - Number(axes.includes(b)));
  const [shape, strides] = [x.shape, x.strides].map(lengths => order.map(axis => lengths[axis]!));
  const source = rowMajor(c, { storage, dtype, shape: shape!, strides: strides!, offset });
  const rows = sizeOf(out.shape);
  run(rows, sizeOf(x.shape) / Math.max(1, rows), addressOf(source), addressOf(out));
}

/** The sum by its length, or where that is not finite by the plain loop, since a mean can be though its sum is not. */
function mean(c: Context, x: Operand, axes: readonly number[], out: Operand): void {
  if (x.dtype === out.dtype) reduce(c, 'sum', x, axes, out);
  const count = sizeOf(x.shape) / sizeOf(out.shape);
  const means = out.storage.array.subarray(out.offset, out.offset + sizeOf(out.shape));
  if (x.dtype !== out.dtype || !means.every(Number.isFinite)) reference.reduce('mean', x, axes, out);
  else for (let i = 0; i < means.length; i++) means[i]! /= count;
}

/** Sums over all axes but some side by side in the middle, as the gradient of a bias of channels. */
function sumChannels(c: Context, x: Operand, axes: readonly number[], out: Operand): boolean {
  const run = c.other.sumChannels[out.dtype];
  const kept = spanOf(
    x.shape,
    x.shape.flatMap((_, axis) => (axes.includes(axis) ? [] : [axis])),
  );
  if (run === undefined || kept === null || x.dtype !== out.dtype || !inMemory(out)) return false;
  const source = rowMajor(c, x);
  run(kept.outer, kept.length, kept.inner, addressOf(source), addressOf(out));
  return true;
}

export function argReduce(c: Context, kernel: 'argmax' | 'argmin', x: Operand, axis: number, out: Operand): void {
  const run = c.other[kernel][x.dtype];
  if (run === undefined || !inMemory(out)) return reference.argReduce(kernel, x, axis, out);
  const { outer, length, inner } = spanOf(x.shape, [axis])!;
  const source = rowMajor(c, x);
  run(outer, length, inner, addressOf(source), addressOf(out));
}

export function softmax(c: Context, x: Operand, axis: number, out: Operand): void {
  if (!rowwise(c, 'softmax', x, axis, out)) reference.softmax(x, axis, out);
}

export function logSoftmax(c: Context, x: Operand, axis: number, out: Operand): void {
  if (!rowwise(c, 'logSoftmax', x, axis, out)) reference.logSoftmax(x, axis, out);
}

function rowwise(c: Context, kernel: 'softmax' | 'logSoftmax', x: Operand, axis: number, out: Operand): boolean {
  const { outer, length, inner } = spanOf(x.shape, [axis])!;
  if (inner !== 1 || !inMemory(out)) return false;
  const source = rowMajor(c, x);
  c.other[kernel][x.dtype]!(outer, length, addressOf(source), addressOf(out));
  return true;
}

export function softmaxGrad(c: Context, gy: Operand, y: Operand, axis: number, out: Operand): void {
  if (!rowwiseGrad(c, 'softmaxBackward', gy, y, axis, out)) reference.softmaxGrad(gy, y, axis, out);
}

export function logSoftmaxGrad(c: Context, gy: Operand, y: Operand, axis: number, out: Operand): void {
  if (!rowwiseGrad(c, 'logSoftmaxBackward', gy, y, axis, out)) reference.logSoftmaxGrad(gy, y, axis, out);
}

function rowwiseGrad(
  c: Context,
  kernel: 'softmaxBackward' | 'logSoftmaxBackward',
  gy: Operand,
  y: Operand,
  axis: number,
  out: Operand,
): boolean {
  const { outer, length, inner } = spanOf(y.shape, [axis])!;
  if (inner !== 1 || !inMemory(out)) return false;
  const [grads, results] = [rowMajor(c, gy), rowMajor(c, y)];
  c.other[kernel][y.dtype]!(outer, length, addressOf(grads), addressOf(results), addressOf(out));
  return true;
}
