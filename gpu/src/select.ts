/** Picking and adding by index. WebGPU adds no floats atomically, and sums are to be reproducible: so a thread gathers its sum. */

import type { Operand } from '@otimes/core';
import { sizeOf } from '@otimes/core/extend';
import { type Context, kernelOf, memoryOf } from './context.ts';
import { led } from './layouts.ts';
import { fill } from './memory.ts';
import { AXES, constants, FLAT, flatGroups, INDEX, tensor, type Word, walk, walkFields, walkTypes } from './wgsl.ts';

/** Y ← X at index along one axis; an index out of range, which a check tells, picks entry 0. */
const GATHER = `${constants(`n:u32, axis:i32, length:i32, zero:i32, ${walkFields(['x', 'index'])}, x0:i32, i0:i32`)}
${tensor(1, 'X', 'read', 'u32')} ${tensor(2, 'I', 'read', 'i32')} ${tensor(3, 'Y', 'read_write', 'u32')}
@compute @workgroup_size(64) fn main(${FLAT}) {
  ${INDEX}
  if (i >= p.n) { return; }
  ${walk(['x', 'index'], ['x0', 'i0'])}
  let at = I[index_at];
  Y[i] = X[x_at + select(0, at, at >= 0 && at < p.length) * p.axis];
}`;

const path = (values: readonly number[]) => led(values, AXES, 0);

export function gather(c: Context, x: Operand, axis: number, index: Operand, out: Operand): void {
  const size = sizeOf(out.shape);
  if (size === 0) return;
  const steps = x.strides.map((stride, i) => (i === axis ? 0 : stride));
  const kernel = kernelOf(c, 'gather', () => ({ code: GATHER, types: `uiii${walkTypes(2)}ii` }));
  const values = [
    ...[size, x.strides[axis]!, x.shape[axis]!, 0],
    ...[led(index.shape, AXES, 1), path(steps), path(index.strides)].flat(),
    ...[x.offset, index.offset],
  ];
  c.commands.dispatch(kernel, [x, index, out].map(memoryOf), values, flatGroups(size));
}

/** Steps along the axes from the last one: `own` is the place along the axis of the index. */
function along(axis: number): string {
  if (axis < 0) return '';
  const at = (name: string) => `p.${name}_s${axis >> 2}[${axis & 3}]`;
  return `if (rest > 0) { let before = rest / ${at('shape')}; let k = rest - before * ${at('shape')}; rest = before;
    if (${axis} == p.axisBack) { own = k; } else { inside = inside && k < ${at('own')}; x_at += k * ${at('x')}; index_at += k * ${at('index')}; }
    ${along(axis - 1)} }`;
}

/** Each result looks through the indices of its line, in order. */
const scatterCode = (
  word: Word,
) => `${constants(`n:u32, length:i32, lines:i32, zero:i32, ${walkFields(['x', 'index'])}, x0:i32, i0:i32, ax:i32, ai:i32, axisBack:i32, pad0:i32, pad1:i32, pad2:i32, ${['own_s0:vec4<i32>', 'own_s1:vec4<i32>'].join(', ')}`)}
${tensor(1, 'X', 'read', word)} ${tensor(2, 'I', 'read', 'i32')} ${tensor(3, 'Y', 'read_write', word)}
@compute @workgroup_size(64) fn main(${FLAT}) {
  ${INDEX}
  if (i >= p.n) { return; }
  var rest = i32(i);
  var x_at = p.x0; var index_at = p.i0; var own = 0; var inside = true;
  ${along(AXES - 1)}
  var sum = ${word}(0);
  if (inside) { for (var k = 0; k < p.lines; k++) { if (I[index_at + k * p.ai] == own) { sum += X[x_at + k * p.ax]; } } }
  Y[i] = sum;
}`;

export function scatterAdd(c: Context, x: Operand, axis: number, index: Operand, out: Operand): void {
  const size = sizeOf(out.shape);
  if (size === 0) return;
  if (sizeOf(index.shape) === 0) return fill(c, 0, out);
  const word: Word = out.dtype === 'int32' ? 'i32' : 'f32';
  const lead = AXES - out.shape.length;
  const kernel = kernelOf(c, `${word} scatterAdd`, () => ({
    code: scatterCode(word),
    types: `uiii${walkTypes(2)}${'i'.repeat(16)}`,
  }));
  const values = [
    ...[size, out.shape[axis]!, index.shape[axis]!, 0],
    ...[led(out.shape, AXES, 1), path(x.strides), path(index.strides)].flat(),
    ...[x.offset, index.offset, x.strides[axis]!, index.strides[axis]!, axis + lead, 0, 0, 0],
    ...led(index.shape, AXES, 1),
  ];
  c.commands.dispatch(kernel, [x, index, out].map(memoryOf), values, flatGroups(size));
}
