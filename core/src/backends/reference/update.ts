/** Updates in place on the reference backend: those of tensors, and whole steps of optimizers. */

import { allocateArray, type TypedArray } from '../../dtype.ts';
import { sizeOf } from '../../shape.ts';
import type { AdamOptions, MomentOptions, Operand, SgdOptions } from '../backend.ts';
import { lastStride, pathTo, rowMajor, walkRows } from '../walk.ts';
import { apart, update } from './inplace.ts';
import { addScaledLoop, scaleLoop } from './rows.ts';

export function addScaled(y: Operand, x: Operand, alpha: number, keep: number): void {
  update(y, x, addScaledLoop, alpha, keep);
}

export function addcdiv(y: Operand, x: Operand, d: Operand, value: number, keep: number): void {
  const target = y.storage.array;
  const [numerator, divisor] = [apart(x, y), apart(d, y)];
  const [p, q] = [numerator.storage.array, divisor.storage.array];
  const paths = [y, pathTo(numerator, y.shape), pathTo(divisor, y.shape)];
  const [stepY, stepX, stepD] = paths.map(path => lastStride(path.strides));
  const length = y.shape.at(-1) ?? 1;
  walkRows(y.shape, paths, (_, [i, j, l]) => {
    for (let k = 0; k < length; k++) {
      const at = i! + k * stepY!;
      target[at] = keep * target[at]! + (value * p[j! + k * stepX!]!) / q[l! + k * stepD!]!;
    }
  });
}

export function scale(y: Operand, beta: number): void {
  update(y, y, scaleLoop, beta);
}

export function moments(
  m: Operand,
  v: Operand,
  g: Operand,
  second: Operand | null,
  out: Operand,
  options: MomentOptions,
): void {
  advance(m, v, g, second, out.storage.array, options);
}

/** `moments`, with the direction in an array. */
function advance(
  m: Operand,
  v: Operand,
  g: Operand,
  second: Operand | null,
  direction: TypedArray,
  { beta1, beta2, eps, correction1, correction2 }: MomentOptions,
): void {
  const [first, variance, gradient] = [rowMajor(m), rowMajor(v), rowMajor(g)];
  const squares = second === null ? null : rowMajor(second);
  const tiny = v.dtype === 'float32' ? 1e-36 : 1e-290;
  for (let i = 0; i < gradient.length; i++) {
    const gi = gradient[i]!;
    const si = squares === null ? gi * gi : squares[i]!;
    const mi = beta1 * first[i]! + (1 - beta1) * gi;
    const vi = beta2 * variance[i]! + (1 - beta2) * si;
    first[i] = mi;
    variance[i] = vi < tiny ? 0 : vi;
    direction[i] = first[i]! / correction1 / (Math.sqrt(variance[i]! / correction2) + eps);
  }
}

export function adam(p: Operand, m: Operand, v: Operand, g: Operand, options: AdamOptions): void {
  const size = sizeOf(p.shape);
  // Rounded to the dtype, as the direction that `moments` returns.
  const direction = allocateArray(p.dtype, size);
  advance(m, v, g, null, direction, options);
  addScaledLoop(p.storage.array, p.offset, 1, direction, 0, 1, size, -options.lr, options.keep);
}

export function sgd(p: Operand, buf: Operand, g: Operand, o: SgdOptions): void {
  const { lr, momentum, gain, bufferWeight, gradientWeight } = o;
  const [value, buffer, gradient] = [rowMajor(p), rowMajor(buf), rowMajor(g)];
  for (let i = 0; i < value.length; i++) {
    buffer[i] = momentum * buffer[i]! + gain * gradient[i]!;
    value[i]! -= lr * (bufferWeight * buffer[i]! + gradientWeight * gradient[i]!);
  }
}
