/** Selection by indices on the `wasm` backend. */

import type { Shape } from '../../shape.ts';
import type { Operand } from '../backend.ts';
import * as reference from '../reference/select.ts';
import type { Context } from './context.ts';
import { fill, rowMajor, spanOf } from './memory.ts';
import { addressOf, inMemory } from './region.ts';

export function gather(c: Context, x: Operand, axis: number, index: Operand, out: Operand): void {
  if (!indexed(c, 'gather', x.shape, axis, x, index, out)) reference.gather(x, axis, index, out);
}

export function scatterAdd(c: Context, x: Operand, axis: number, index: Operand, out: Operand): void {
  if (!indexed(c, 'scatterAdd', out.shape, axis, x, index, out)) reference.scatterAdd(x, axis, index, out);
}

export function indexSelect(c: Context, x: Operand, axis: number, index: Operand, out: Operand): void {
  if (!indexed(c, 'indexSelect', x.shape, axis, x, index, out)) reference.indexSelect(x, axis, index, out);
}

export function indexAdd(c: Context, x: Operand, axis: number, index: Operand, out: Operand): void {
  if (!indexed(c, 'indexAdd', out.shape, axis, x, index, out)) reference.indexAdd(x, axis, index, out);
}

/** Kernels over a shape `full` [outer, length, inner] whose middle axis is indexed; those that add start from 0. */
function indexed(
  c: Context,
  kernel: 'gather' | 'scatterAdd' | 'indexSelect' | 'indexAdd',
  full: Shape,
  axis: number,
  x: Operand,
  index: Operand,
  out: Operand,
): boolean {
  const run = c.other[kernel][x.dtype];
  const elementwise = kernel === 'gather' || kernel === 'scatterAdd';
  // An index that is smaller than the tensor along another axis has no such form.
  const fits = !elementwise || index.shape.every((length, i) => i === axis || length === full[i]);
  if (run === undefined || !fits || !inMemory(out)) return false;
  const { outer, length, inner } = spanOf(full, [axis])!;
  const [source, positions] = [rowMajor(c, x), rowMajor(c, index)];
  if (kernel === 'scatterAdd' || kernel === 'indexAdd') fill(c, 0, out);
  const count = elementwise ? index.shape[axis]! : index.shape[0]!;
  run(outer, length, inner, count, addressOf(source), addressOf(positions), addressOf(out));
  return true;
}
