/** Reductions of the backend. */

import type { Operand, ReduceKernel } from '@otimes/core';
import { sizeOf } from '@otimes/core/extend';
import type { Context } from './context.ts';
import { type Reduction, reduceBy } from './reduction.ts';

const called = (f: string) => (a: string, b: string) => `${f}(${a}, ${b})`;
const added = (a: string, b: string) => `${a} + ${b}`;

const FLOAT: Readonly<Record<ReduceKernel, Omit<Reduction, 'name'>>> = {
  sum: { type: 'f32', start: '0.0', join: added, element: 'x', finish: ['sum'] },
  max: { type: 'f32', start: '-inf_()', join: called('max_'), element: 'x', finish: ['sum'] },
  min: { type: 'f32', start: 'inf_()', join: called('min_'), element: 'x', finish: ['sum'] },
  // The second sum is that of far smaller terms, for where the first leaves the range.
  mean: {
    type: 'vec2<f32>',
    start: '0.0',
    join: added,
    element: 'vec2<f32>(x, x * 0x1p-64)',
    finish: ['select(div_(sum.y, p.count) * 0x1p64, div_(sum.x, p.count), isfinite_(sum.x) || !isfinite_(sum.y))'],
  },
  // Squares as they are, of small numbers made large, and of large ones made small (Blue 1978).
  norm: {
    type: 'vec4<f32>',
    start: '0.0',
    join: added,
    element: 'square_(x)',
    finish: ['root_(sum)'],
  },
};
const INT: Readonly<Record<'sum' | 'max' | 'min', Omit<Reduction, 'name'>>> = {
  sum: { type: 'i32', start: '0', join: added, element: 'i32(x)', finish: ['sum'] },
  max: { type: 'i32', start: '-2147483647 - 1', join: called('max'), element: 'i32(x)', finish: ['sum'] },
  min: { type: 'i32', start: '2147483647', join: called('min'), element: 'i32(x)', finish: ['sum'] },
};

export function reduce(c: Context, kernel: ReduceKernel, x: Operand, axes: readonly number[], out: Operand): void {
  const ints = out.dtype === 'int32' && kernel !== 'mean' && kernel !== 'norm';
  const r = ints
    ? { name: `int32 ${kernel}`, word: 'i32' as const, ...INT[kernel] }
    : { name: kernel, ...FLOAT[kernel] };
  // Means of integers.
  const element = !ints && x.dtype === 'int32' ? r.element.replaceAll(/\bx\b/g, 'f32(x)') : r.element;
  reduceBy(c, { ...r, element }, { x }, x.shape, axes, [out]);
}

/** Numbers in the order of their bits: NaN last, and −0 as 0. */
const KEY = { float32: 'key_(x)', int32: '(bitcast<u32>(x) ^ 0x80000000u)' };
/** The key of an element, the larger the better, and its place; of equal keys the first place wins. */
const arg = (key: string): Omit<Reduction, 'name'> => ({
  type: 'vec2<u32>',
  start: '0u, 0xffffffffu',
  join: (a, b) => `select(${a}, ${b}, ${b}.x > ${a}.x || (${b}.x == ${a}.x && ${b}.y < ${a}.y))`,
  element: `vec2<u32>(${key}, b)`,
  finish: ['i32(sum.y)'],
  word: 'i32',
});

export function argReduce(c: Context, kernel: 'argmax' | 'argmin', x: Operand, axis: number, out: Operand): void {
  if (sizeOf(out.shape) === 0) return;
  const ints = x.dtype === 'int32';
  const up = ints ? KEY.int32 : KEY.float32;
  const key = kernel === 'argmax' ? up : ints ? `~${up}` : 'select(~key_(x), 0xffffffffu, isnan_(x))';
  reduceBy(c, { name: kernel, ...arg(key) }, { x }, x.shape, [axis], [out]);
}
