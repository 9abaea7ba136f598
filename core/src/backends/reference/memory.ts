/** Memory of the reference backend: plain arrays. */

import type { Region } from '../../device.ts';
import { type DType, isFloat, type TypedArray } from '../../dtype.ts';
import { sizeOf } from '../../shape.ts';
import type { Operand } from '../backend.ts';
import { rowMajor } from '../walk.ts';
import { update } from './inplace.ts';
import { assignLoop, convertLoop } from './rows.ts';
import { Slabs } from './slab.ts';

const slabs = new Slabs();

export function allocate(dtype: DType, size: number): TypedArray | Region {
  return slabs.allocate(dtype, size);
}

export function store(data: TypedArray): TypedArray | Region {
  return data;
}

export function read(x: Operand): TypedArray {
  return rowMajor(x).slice();
}

export function copy(x: Operand, out: Operand): void {
  assign(out, x);
}

export function fill(value: number, out: Operand): void {
  out.storage.array.fill(value, out.offset, out.offset + sizeOf(out.shape));
}

export function assign(y: Operand, x: Operand): void {
  update(y, x, y.dtype === x.dtype || isFloat(y.dtype) ? assignLoop : convertLoop(y.dtype));
}
