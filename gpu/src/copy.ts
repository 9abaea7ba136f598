/** Copies of elements, between any layouts and from one dtype to another. */

import type { Operand } from '@otimes/core';
import { isContiguous, sizeOf } from '@otimes/core/extend';
import { type Context, kernelOf, memoryOf, temporary } from './context.ts';
import { joined, led } from './layouts.ts';
import {
  AXES,
  constants,
  FLAT,
  flatGroups,
  GUARD,
  INDEX,
  tensor,
  type Word,
  walk,
  walkFields,
  walkTypes,
} from './wgsl.ts';

/** Words as the dtype of the result: float32 and bool are f32 words, int32 is i32. */
const CONVERSIONS: Readonly<Record<string, readonly [from: Word, to: Word, value: string]>> = {
  same: ['u32', 'u32', 'x'],
  'float32 to int32': ['f32', 'i32', 'i32(trunc(x))'],
  'bool to int32': ['f32', 'i32', 'i32(x)'],
  'int32 to float32': ['i32', 'f32', 'f32(x)'],
  'int32 to bool': ['i32', 'f32', 'select(0.0, 1.0, x != 0)'],
  'float32 to bool': ['f32', 'f32', 'select(0.0, 1.0, (bitcast<u32>(x) & 0x7fffffffu) != 0u)'],
};

function conversion(from: Operand['dtype'], to: Operand['dtype']): string {
  const name = `${from} to ${to}`;
  return from === to || (from === 'bool' && to === 'float32') ? 'same' : name;
}

/** y ← x, any layouts of up to eight axes that do not join. The guarded one is `assign`. */
const move = ([from, to, value]: readonly [Word, Word, string], guarded: boolean) => `
${constants(`n:u32, y0:i32, x0:i32, seen:u32, ${walkFields(['y', 'x'])}`)}
${tensor(1, 'X', 'read', from)} ${tensor(2, 'Y', 'read_write', to)} ${guarded ? tensor(3, 'status', 'read', 'u32') : ''}
@compute @workgroup_size(64) fn main(${FLAT}) {
  ${INDEX}
  if (i >= p.n) { return; }
  ${guarded ? GUARD : ''}
  ${walk(['y', 'x'], ['y0', 'x0'])}
  let x = X[x_at];
  Y[y_at] = ${value};
}`;

/** y ← x without a conversion that can fail. */
export function copyWords(c: Context, x: Operand, y: Operand, guarded = false): void {
  const size = sizeOf(y.shape);
  if (size === 0) return;
  const name = conversion(x.dtype, y.dtype);
  const kernel = kernelOf(c, `${guarded ? 'assign' : 'copy'} ${name}`, () => ({
    code: move(CONVERSIONS[name]!, guarded),
    types: `uiiu${walkTypes(2)}`,
  }));
  const { lengths, strides } = joined(y.shape, [y, x]);
  const steps = [led(lengths, AXES, 1), led(strides[0]!, AXES, 0), led(strides[1]!, AXES, 0)].flat();
  const memories = [memoryOf(x), memoryOf(y)];
  if (guarded) memories.push(c.commands.status);
  c.commands.dispatch(kernel, memories, [size, y.offset, x.offset, c.commands.seen, ...steps], flatGroups(size));
}

/** A copy in row-major order without gaps, in memory of the pool; broadcast to a shape if one is given. */
export function copied(c: Context, x: Operand, shape: readonly number[] = x.shape): Operand {
  const out = temporary(c, x.dtype, shape);
  copyWords(c, x, out);
  return out;
}

/** `x` in row-major order without gaps: itself, or a copy. */
export function rowMajor(c: Context, x: Operand): Operand {
  return isContiguous(x) ? x : copied(c, x);
}

/** `x` in words of that kind: itself, or a copy. A bool is a float32 word. */
export function inWords(c: Context, x: Operand, word: 'f32' | 'i32'): Operand {
  if ((x.dtype === 'int32') === (word === 'i32')) return x;
  const out = temporary(c, word === 'i32' ? 'int32' : 'float32', x.shape);
  copyWords(c, x, out);
  return out;
}

/** One buffer cannot be read and written in one dispatch: `x`, or a copy if it lies in memory that is written. */
export const apart = (c: Context, x: Operand, ...written: readonly Operand[]): Operand =>
  written.some(y => memoryOf(x) === memoryOf(y)) ? copied(c, x) : x;
