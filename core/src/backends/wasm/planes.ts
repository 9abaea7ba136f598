/** Walks over strided operands, a plane of two axes at a time: what one call of a WebAssembly kernel covers. */

import type { Shape } from '../../shape.ts';
import { mergedAxes, type Path, walkRows } from '../walk.ts';

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
  if (shape.includes(0)) return;
  const { lengths, strides } = mergedAxes(shape, paths);
  const cols = lengths.pop() ?? 1;
  const col = strides.map(s => s.pop() ?? 0);
  const at = anyOrder ? lengths.lastIndexOf(Math.max(...lengths)) : lengths.length - 1;
  const rows = at < 0 ? 1 : lengths.splice(at, 1)[0]!;
  const row = strides.map(s => (at < 0 ? 0 : s.splice(at, 1)[0]!));
  // Each plane is a "row" of length 1 of the walk over the axes outside of it.
  const outer = paths.map((p, k) => ({ strides: [...strides[k]!, 0], offset: p.offset }));
  walkRows([...lengths, 1], outer, (entry, at) => plane(rows, cols, entry * rows * cols, at, { row, col }));
}
