// Elementwise kernels on values of every magnitude, in any layout.

import type { Element, Float } from '@otimes/kernels';
import type { UnaryKernel } from '../../core/src/backends/backend.ts';
import { type Bench, BYTES, elements, LAYS, type Lay, make, mustBe, noise, type Values, walked } from './kernels.ts';

export function unary(bench: Bench, name: string, type: Element, x: ArrayLike<number>, out = type, at = 0): Values {
  return bench.with(at, () => {
    const [a, y] = [bench.put(type, x), bench.room(out, x.length)];
    bench.call[`${name}_${type}`]!(x.length, a, y);
    mustBe(bench.read(type, a, x.length), make(type, x), `${name}_${type} changed its operand`);
    return bench.read(out, y, x.length);
  });
}

export type Transcendental = Exclude<UnaryKernel, 'not' | 'isFinite' | 'isNaN'>;
export const TRANSCENDENTAL: readonly Transcendental[] = [
  'exp',
  'expm1',
  'log',
  'log1p',
  'sin',
  'cos',
  'tanh',
  'sigmoid',
  'erf',
];

/** Numbers of every exponent and sign, and many in the ranges where functions do something. */
export function sweep(type: Float, count: number): Values {
  const xs = make(type, new Array(count).fill(0));
  const next = noise(3);
  const words = new Uint32Array(xs.buffer);
  const third = Math.floor(count / 3);
  for (let i = 0; i < third; i++) {
    const pattern = Math.floor((i / third) * 2 ** 32) + (i % 1024);
    if (type === 'f32') words[i] = pattern;
    else {
      words[2 * i] = next() * 2 ** 31;
      words[2 * i + 1] = pattern;
    }
  }
  const scales = type === 'f32' ? [0.7, 2, 12, 90, 110, 1e5] : [0.7, 2, 12, 90, 750, 1e5];
  for (let i = third; i < count; i++) xs[i] = next() * scales[i % scales.length]!;
  return xs;
}

/** Two operands of any layouts through a kernel, and row-major. */
export function binary(
  bench: Bench,
  name: string,
  type: Element,
  out: Element,
  p: BinaryCase,
): [Values, number[], number[]] {
  const [[rows, cols, at], layA, layB, seed] = p;
  return bench.with(at, () => {
    const [a, b] = [LAYS[layA]!(rows, cols), LAYS[layB]!(rows, cols)];
    const [x, y] = [elements(type, a.span, seed), elements(type, b.span, seed + 1)];
    const [px, py] = [bench.put(type, x), bench.put(type, y)];
    const to = bench.room(out, rows * cols);
    const start = (address: number, { start }: Lay) => address + start * BYTES[type];
    bench.call[`${name}_${type}`]!(rows, cols, start(px, a), a.row, a.col, start(py, b), b.row, b.col, to);
    return [bench.read(out, to, rows * cols), walked(x, a, rows, cols), walked(y, b, rows, cols)];
  });
}
export type BinaryCase = [[number, number, number], string, string, number];
