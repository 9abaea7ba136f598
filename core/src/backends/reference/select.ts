/** Picking and adding by index on the reference backend. */

import { contiguousStrides, type Shape } from '../../shape.ts';
import type { Operand } from '../backend.ts';
import { around, lastStride, rowMajor, walkRows } from '../walk.ts';
import { fill } from './memory.ts';

export function gather(x: Operand, axis: number, index: Operand, out: Operand): void {
  const [data, at, target] = [rowMajor(x), rowMajor(index), out.storage.array];
  alongIndex(x.shape, index.shape, axis, (i, j) => {
    target[j] = data[i(at[j]!)]!;
  });
}

export function scatterAdd(x: Operand, axis: number, index: Operand, out: Operand): void {
  fill(0, out);
  const [data, at, target] = [rowMajor(x), rowMajor(index), out.storage.array];
  alongIndex(out.shape, index.shape, axis, (i, j) => {
    target[i(at[j]!)]! += data[j]!;
  });
}

/**
 * Visits the elements j of `index` in row-major order; `i(p)` is the row-major position in `full` with p in place of
 * the coordinate along `axis`.
 */
function alongIndex(
  full: Shape,
  index: Shape,
  axis: number,
  visit: (i: (p: number) => number, j: number) => void,
): void {
  const strides = contiguousStrides(full);
  const stride = strides[axis]!;
  const path = { strides: strides.map((s, i) => (i === axis ? 0 : s)), offset: 0 };
  const step = lastStride(path.strides);
  const length = index.at(-1)!;
  walkRows(index, [path], (start, at) => {
    for (let k = 0; k < length; k++) visit(p => at[0]! + k * step + p * stride, start + k);
  });
}

export function indexSelect(x: Operand, axis: number, index: Operand, out: Operand): void {
  const [data, at, target] = [rowMajor(x), rowMajor(index), out.storage.array];
  const { before, length, after } = around(x.shape, axis);
  for (let b = 0; b < before; b++)
    for (let i = 0; i < at.length; i++) {
      const from = (b * length + at[i]!) * after;
      target.set(data.subarray(from, from + after), (b * at.length + i) * after);
    }
}

export function indexAdd(x: Operand, axis: number, index: Operand, out: Operand): void {
  fill(0, out);
  const [data, at, target] = [rowMajor(x), rowMajor(index), out.storage.array];
  const { before, length, after } = around(out.shape, axis);
  for (let b = 0; b < before; b++)
    for (let i = 0; i < at.length; i++)
      for (let j = 0; j < after; j++)
        target[(b * length + at[i]!) * after + j]! += data[(b * at.length + i) * after + j]!;
}
