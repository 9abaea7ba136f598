/** Walks over strided operands, a plane of two axes at a time: what one call of a WebAssembly kernel covers. */

import type { Shape } from '../../shape.ts';
import { type Path, walkRows } from '../walk.ts';

/** Steps between rows and columns of each operand of a plane, in elements. */
export type Steps = { readonly row: readonly number[]; readonly col: readonly number[] };

/**
 * Merges axes along which every operand goes on evenly, and calls `plane(rows, cols, start, at, steps)` for each plane of the
 * last two axes that remain: mostly there is one. `start` is the row-major index of its first element, `at[k]` where
 * operand k stands there. With `anyOrder` the rows are the longest other axis and `start` is of no use: fewer planes, for
 * kernels that take strides for all operands.
 */
export function walkPlanes(
  shape: Shape,
  paths: readonly Path[],
  plane: (rows: number, cols: number, start: number, at: readonly number[], steps: Steps) => void,
  anyOrder = false,
): void {
  const lengths: number[] = [];
  const strides: number[][] = paths.map(() => []);
  for (let axis = 0; axis < shape.length; axis++) {
    const length = shape[axis]!;
    if (length === 0) return;
    if (length === 1) continue;
    const last = lengths.length - 1;
    if (last >= 0 && paths.every((p, k) => strides[k]![last] === p.strides[axis]! * length)) {
      lengths[last]! *= length;
      for (let k = 0; k < paths.length; k++) strides[k]![last] = paths[k]!.strides[axis]!;
      continue;
    }
    lengths.push(length);
    for (let k = 0; k < paths.length; k++) strides[k]!.push(paths[k]!.strides[axis]!);
  }
  const cols = lengths.pop() ?? 1;
  const col = strides.map(s => s.pop() ?? 0);
  const at = anyOrder ? lengths.lastIndexOf(Math.max(...lengths)) : lengths.length - 1;
  const rows = at < 0 ? 1 : lengths.splice(at, 1)[0]!;
  const row = strides.map(s => (at < 0 ? 0 : s.splice(at, 1)[0]!));
  // Each plane is a "row" of length 1 of the walk over the axes outside of it.
  const outer = paths.map((p, k) => ({ strides: [...strides[k]!, 0], offset: p.offset }));
  walkRows([...lengths, 1], outer, (entry, at) => plane(rows, cols, entry * rows * cols, at, { row, col }));
}
