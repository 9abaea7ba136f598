/** Orders of elements on the reference backend: by the engine's sort, with NaN as the largest. */

import { sizeOf } from '../../../shape.ts';
import type { Operand } from '../../backend.ts';
import { around, rowMajor } from '../../walk.ts';

/** Below 0 where a stands before b in ascending order. */
const compare = (a: number, b: number): number => {
  if (a < b) return -1;
  if (a > b) return 1;
  return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
};

/** The positions along an axis in order, for each row that it has; as many as `out` keeps. */
function ordered(x: Operand, axis: number, descending: boolean, out: Operand): void {
  const [data, target] = [rowMajor(x), out.storage.array];
  const { before, length, after } = around(x.shape, axis);
  const kept = out.shape[axis]!;
  if (sizeOf(out.shape) === 0) return;
  for (let b = 0; b < before; b++)
    for (let j = 0; j < after; j++) {
      const at = (i: number) => data[(b * length + i) * after + j]!;
      const places = Array.from({ length }, (_, i) => i);
      // The sort is stable.
      places.sort((p, q) => (descending ? compare(at(q), at(p)) : compare(at(p), at(q))));
      for (let i = 0; i < kept; i++) target[(b * kept + i) * after + j] = places[i]!;
    }
}

export function argsort(x: Operand, axis: number, descending: boolean, out: Operand): void {
  ordered(x, axis, descending, out);
}

export function topk(x: Operand, axis: number, largest: boolean, out: Operand): void {
  ordered(x, axis, largest, out);
}
