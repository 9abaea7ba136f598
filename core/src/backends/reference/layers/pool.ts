/** Pooling on the reference backend. */

import { sizeOf } from '../../../shape.ts';
import type { Window } from '../../../window.ts';
import type { Operand } from '../../backend.ts';
import { rowMajor } from '../../walk.ts';

/** The part of a window inside its plane: rows and columns from … to − 1. */
type Inside = { readonly rows: readonly [number, number]; readonly columns: readonly [number, number] };

/** Calls `visit` for every window: row-major position of its result, and of the first pixel of its plane. */
function windows(
  x: readonly number[],
  y: readonly number[],
  { kernel, stride, padding }: Window,
  visit: (yAt: number, plane: number, inside: Inside) => void,
): void {
  const [h, w, ho, wo] = [x[2]!, x[3]!, y[2]!, y[3]!];
  const range = (i: number, axis: 0 | 1, length: number) => {
    const from = i * stride[axis] - padding[axis];
    return [Math.max(0, from), Math.min(length, from + kernel[axis])] as const;
  };
  for (let plane = 0; plane < x[0]! * x[1]!; plane++)
    for (let i = 0; i < ho; i++)
      for (let j = 0; j < wo; j++)
        visit((plane * ho + i) * wo + j, plane * h * w, { rows: range(i, 0, h), columns: range(j, 1, w) });
}

export function maxPoolIndex(x: Operand, out: Operand, window: Window): void {
  const [data, target, width] = [rowMajor(x), out.storage.array, x.shape[3]!];
  windows(x.shape, out.shape, window, (yAt, plane, { rows, columns }) => {
    let best = rows[0] * width + columns[0];
    for (let row = rows[0]; row < rows[1]; row++)
      for (let column = columns[0]; column < columns[1]; column++) {
        const value = data[plane + row * width + column]!;
        if (value > data[plane + best]! || Number.isNaN(value)) best = row * width + column;
      }
    target[out.offset + yAt] = best;
  });
}

export function maxPool(x: Operand, index: Operand, out: Operand, window: Window): void {
  maxPoolIndex(x, index, window);
  const [data, places, target] = [rowMajor(x), index.storage.array, out.storage.array];
  windows(x.shape, out.shape, window, (yAt, start) => {
    target[out.offset + yAt] = data[start + places[index.offset + yAt]!]!;
  });
}

export function maxPoolGrad(gy: Operand, index: Operand, out: Operand, window: Window): void {
  const [grads, places, target] = [rowMajor(gy), rowMajor(index), out.storage.array];
  target.fill(0, out.offset, out.offset + sizeOf(out.shape));
  windows(out.shape, gy.shape, window, (yAt, plane) => {
    target[out.offset + plane + places[yAt]!]! += grads[yAt]!;
  });
}

/** How many elements the mean of a window is taken of. */
function countOf({ rows, columns }: Inside, { kernel }: Window, countIncludePad: boolean): number {
  return countIncludePad ? kernel[0] * kernel[1] : (rows[1] - rows[0]) * (columns[1] - columns[0]);
}

export function avgPool(x: Operand, out: Operand, window: Window, countIncludePad: boolean): void {
  const [data, target, width] = [rowMajor(x), out.storage.array, x.shape[3]!];
  windows(x.shape, out.shape, window, (yAt, plane, inside) => {
    let sum = 0;
    for (let row = inside.rows[0]; row < inside.rows[1]; row++)
      for (let column = inside.columns[0]; column < inside.columns[1]; column++)
        sum += data[plane + row * width + column]!;
    target[out.offset + yAt] = sum / countOf(inside, window, countIncludePad);
  });
}

export function avgPoolGrad(gy: Operand, out: Operand, window: Window, countIncludePad: boolean): void {
  const [data, target, width] = [rowMajor(gy), out.storage.array, out.shape[3]!];
  target.fill(0, out.offset, out.offset + sizeOf(out.shape));
  windows(out.shape, gy.shape, window, (yAt, plane, inside) => {
    const share = data[yAt]! / countOf(inside, window, countIncludePad);
    for (let row = inside.rows[0]; row < inside.rows[1]; row++)
      for (let column = inside.columns[0]; column < inside.columns[1]; column++)
        target[out.offset + plane + row * width + column]! += share;
  });
}
