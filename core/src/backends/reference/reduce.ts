/** Reductions and softmax on the reference backend. Sums run in float64 and are rounded once, when they are stored. */

import { contiguousStrides, isContiguous, reducedShape, sizeOf } from '../../shape.ts';
import type { Operand, ReduceKernel } from '../backend.ts';
import { around, lastStride, rowMajor, walkRows } from '../walk.ts';
import { REDUCE, type ReduceLoop, reduceLoop } from './rows.ts';

export function reduce(kernel: ReduceKernel, x: Operand, axes: readonly number[], out: Operand): void {
  if (kernel === 'mean' || kernel === 'norm') return average(kernel, x, axes, out);
  const { start, loop } = REDUCE[kernel];
  out.storage.array.set(reduced(x, axes, start, loop), out.offset);
}

/** Means and norms, of elements relative to a power of 2 near the largest: exact, and no sum or square leaves float64. */
function average(kernel: 'mean' | 'norm', x: Operand, axes: readonly number[], out: Operand): void {
  const largest = reduced(
    x,
    axes,
    0,
    reduceLoop((max, value) => Math.max(max, Math.abs(value))),
  );
  const unit = largest.map(max => (max > 0 && max < Infinity ? 2 ** Math.min(1023, Math.floor(Math.log2(max))) : 1));
  const add = reduceLoop((sum, value, j) => sum + (kernel === 'norm' ? (value / unit[j]!) ** 2 : value / unit[j]!));
  const count = sizeOf(x.shape) / sizeOf(out.shape);
  const finish = (sum: number, i: number) => unit[i]! * (kernel === 'norm' ? Math.sqrt(sum) : sum / count);
  out.storage.array.set(reduced(x, axes, 0, add).map(finish), out.offset);
}

/** Sums and the like, by a loop over rows. */
function reduced(x: Operand, axes: readonly number[], start: number, loop: ReduceLoop): Float64Array {
  const data = x.storage.array;
  const acc = new Float64Array(sizeOf(reducedShape(x.shape, axes, false))).fill(start);
  const kept = contiguousStrides(x.shape.map((length, i) => (axes.includes(i) ? 1 : length)));
  const path = { strides: kept.map((stride, i) => (axes.includes(i) ? 0 : stride)), offset: 0 };
  const length = x.shape.at(-1) ?? 1;
  const stepX = lastStride(x.strides);
  const stepOut = lastStride(path.strides);
  if (acc.length === 1 && isContiguous(x)) loop(data, x.offset, 1, acc, 0, 0, sizeOf(x.shape));
  else walkRows(x.shape, [x, path], (_, at) => loop(data, at[0]!, stepX, acc, at[1]!, stepOut, length));
  return acc;
}

export function argReduce(kernel: 'argmax' | 'argmin', x: Operand, axis: number, out: Operand): void {
  const better = kernel === 'argmax' ? (a: number, b: number) => a > b : (a: number, b: number) => a < b;
  const data = rowMajor(x);
  const target = out.storage.array;
  const { before, length, after } = around(x.shape, axis);
  for (let b = 0; b < before; b++)
    for (let j = 0; j < after; j++) {
      let best = 0;
      for (let i = 1; i < length; i++) {
        const value = data[(b * length + i) * after + j]!;
        const champion = data[(b * length + best) * after + j]!;
        if (Number.isNaN(champion)) break;
        if (Number.isNaN(value) || better(value, champion)) best = i;
      }
      target[b * after + j] = best;
    }
}

export function cumsum(x: Operand, axis: number, out: Operand): void {
  const [data, target] = [rowMajor(x), out.storage.array];
  const { before, length, after } = around(x.shape, axis);
  for (let b = 0; b < before; b++)
    for (let j = 0; j < after; j++) {
      let sum = 0;
      for (let i = 0; i < length; i++) {
        const at = (b * length + i) * after + j;
        sum += data[at]!;
        target[at] = sum;
      }
    }
}

export function softmax(x: Operand, axis: number, out: Operand): void {
  relative(x, axis, out, (value, max, sum) => Math.exp(value - max) / sum);
}

export function logSoftmax(x: Operand, axis: number, out: Operand): void {
  relative(x, axis, out, (value, max, sum) => value - max - Math.log(sum));
}

/** Calls `f(value, max, Σ exp(value − max))` along an axis. */
function relative(
  x: Operand,
  axis: number,
  out: Operand,
  f: (value: number, max: number, sum: number) => number,
): void {
  const data = rowMajor(x);
  const target = out.storage.array;
  const { before, length, after } = around(x.shape, axis);
  for (let b = 0; b < before; b++)
    for (let j = 0; j < after; j++) {
      const at = b * length * after + j;
      let max = -Infinity;
      for (let i = 0; i < length; i++) max = Math.max(max, data[at + i * after]!);
      // A row of −∞ alone: exp(−∞ − 0) = 0, so the result is 0/0 = NaN, as it should be.
      if (max === -Infinity) max = 0;
      let sum = 0;
      for (let i = 0; i < length; i++) sum += Math.exp(data[at + i * after]! - max);
      for (let i = 0; i < length; i++) target[at + i * after] = f(data[at + i * after]!, max, sum);
    }
}

export function softmaxGrad(gy: Operand, y: Operand, axis: number, out: Operand): void {
  slopes(
    gy,
    y,
    axis,
    out,
    (g, p) => g * p,
    (g, p, dot) => p * (g - dot),
  );
}

export function logSoftmaxGrad(gy: Operand, y: Operand, axis: number, out: Operand): void {
  slopes(
    gy,
    y,
    axis,
    out,
    g => g,
    (g, logP, sum) => g - Math.exp(logP) * sum,
  );
}

/** out ← f(gy, y, Σ term(gy, y)), the sum along an axis. */
function slopes(
  gy: Operand,
  y: Operand,
  axis: number,
  out: Operand,
  term: (g: number, y: number) => number,
  f: (g: number, y: number, sum: number) => number,
): void {
  const [p, q, target] = [rowMajor(gy), rowMajor(y), out.storage.array];
  const { before, length, after } = around(y.shape, axis);
  for (let b = 0; b < before; b++)
    for (let j = 0; j < after; j++) {
      const at = b * length * after + j;
      let sum = 0;
      for (let i = 0; i < length; i++) sum += term(p[at + i * after]!, q[at + i * after]!);
      for (let i = 0; i < length; i++) target[at + i * after] = f(p[at + i * after]!, q[at + i * after]!, sum);
    }
}
