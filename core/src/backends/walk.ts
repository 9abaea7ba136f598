/** Walks over strided operands, a row of the last axis at a time. */

import { allocateArray, type TypedArray } from '../dtype.ts';
import { broadcastStrides, isContiguous, type Layout, type Shape, sizeOf } from '../shape.ts';
import type { Operand } from './backend.ts';

/** An operand's way through its storage: strides along the axes of the walk, and where it starts. */
export type Path = { readonly strides: readonly number[]; readonly offset: number };

/**
 * Calls `row(start, at)` for every row of `shape` in row-major order: `start` is the row-major index of its first
 * element and `at[k]` is where operand k stands. Within the row operand k advances by its last stride. A shape of rank
 * 0 is one row of length 1.
 */
export function walkRows(
  shape: Shape,
  paths: readonly Path[],
  row: (start: number, at: readonly number[]) => void,
): void {
  const outer = shape.length - 1;
  const length = outer < 0 ? 1 : shape[outer]!;
  let rows = 1;
  for (let i = 0; i < outer; i++) rows *= shape[i]!;
  if (rows === 0 || length === 0) return;
  const at = paths.map(p => p.offset);
  const index = new Array<number>(Math.max(outer, 0)).fill(0);
  for (let r = 0; r < rows; r++) {
    row(r * length, at);
    for (let axis = outer - 1; axis >= 0; axis--) {
      index[axis]!++;
      for (let k = 0; k < paths.length; k++) at[k]! += paths[k]!.strides[axis]!;
      if (index[axis]! < shape[axis]!) break;
      for (let k = 0; k < paths.length; k++) at[k]! -= paths[k]!.strides[axis]! * shape[axis]!;
      index[axis] = 0;
    }
  }
}

/**
 * The step of a single run through `x` that meets its elements as a result of `size` elements needs them: 1 where they
 * lie without gaps, 0 for one element; null where it takes more than one run.
 */
export function runStep(x: Layout, size: number): 0 | 1 | null {
  const own = sizeOf(x.shape);
  if (own === 1) return 0;
  return own === size && isContiguous(x) ? 1 : null;
}

/** The operand's step within a row. */
export function lastStride(strides: readonly number[]): number {
  return strides.length === 0 ? 0 : strides[strides.length - 1]!;
}

/** The elements in row-major order: a window of the storage where they already are, else a copy. */
export function rowMajor(x: Operand): TypedArray {
  const data = x.storage.array;
  const size = sizeOf(x.shape);
  if (isContiguous(x)) return data.subarray(x.offset, x.offset + size);
  const out = allocateArray(x.dtype, size);
  const step = lastStride(x.strides);
  const length = x.shape.at(-1) ?? 1;
  walkRows(x.shape, [x], (start, [from]) => {
    for (let i = 0, p = from!; i < length; i++, p += step) out[start + i] = data[p]!;
  });
  return out;
}

/** Where `x` walks when it is read with the shape `to`. */
export function pathTo(x: Layout, to: Shape): Path {
  return { strides: broadcastStrides('broadcast', x, to), offset: x.offset };
}

/** Axes and strides of a walk with axes merged along which every operand goes on evenly, and without those of length 1. */
export function mergedAxes(shape: Shape, paths: readonly Path[]): { lengths: number[]; strides: number[][] } {
  const lengths: number[] = [];
  const strides: number[][] = paths.map(() => []);
  for (let axis = 0; axis < shape.length; axis++) {
    const length = shape[axis]!;
    if (length === 1) continue;
    const last = lengths.length - 1;
    if (last >= 0 && paths.every((p, k) => strides[k]![last] === p.strides[axis]! * length)) lengths[last]! *= length;
    else lengths.push(length);
    // Merged axes are stepped along by the innermost of them.
    for (let k = 0; k < paths.length; k++) strides[k]![lengths.length - 1] = paths[k]!.strides[axis]!;
  }
  return { lengths, strides };
}

/** Elements before, along and after an axis: row-major index = (before · length + i) · after + j. */
export function around(shape: Shape, axis: number): { before: number; length: number; after: number } {
  return { before: sizeOf(shape.slice(0, axis)), length: shape[axis]!, after: sizeOf(shape.slice(axis + 1)) };
}
