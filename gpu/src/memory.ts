/** Copies, fills and conversions. An element is a word of 4 bytes; a bool is a float32 word, 0 or 1, as gpu.js has floats alone. */

import type { Operand, TypedArray } from '@otimes/core';
import { int32Error, sizeOf } from '@otimes/core/extend';
import { checkKernel } from './check.ts';
import { type Context, kernelOf, memoryOf, regionOf } from './context.ts';
import { copyWords, rowMajor } from './copy.ts';
import type { GpuRegion } from './pool.ts';
import { constants, FLAT, flatGroups, INDEX, tensor } from './wgsl.ts';

export function store(c: Context, data: TypedArray): GpuRegion {
  const words = data instanceof Uint8Array ? Float32Array.from(data) : data;
  const region = regionOf(c, data.length, true);
  if (words.length > 0) c.commands.write(region.memory, words);
  return region;
}

export async function fetchElements(c: Context, x: Operand, peek: boolean): Promise<TypedArray> {
  const source = rowMajor(c, x);
  const bytes = await c.commands.read(memoryOf(source), 4 * source.offset, 4 * sizeOf(x.shape), peek);
  if (x.dtype === 'int32') return new Int32Array(bytes);
  return x.dtype === 'bool' ? Uint8Array.from(new Float32Array(bytes)) : new Float32Array(bytes);
}

const FILL = `${constants('n:u32, bits:u32, y0:u32')}
${tensor(1, 'Y', 'read_write', 'u32')}
@compute @workgroup_size(64) fn main(${FLAT}) { ${INDEX} if (i < p.n) { Y[p.y0 + i] = p.bits; } }`;

const bits = new Int32Array(1);
const asFloat = new Float32Array(bits.buffer);

export function fill(c: Context, value: number, out: Operand): void {
  const size = sizeOf(out.shape);
  if (size === 0) return;
  if (out.dtype === 'int32') bits[0] = value;
  else asFloat[0] = value;
  const kernel = kernelOf(c, 'fill', () => ({ code: FILL, types: 'uiu' }));
  c.commands.dispatch(kernel, [memoryOf(out)], [size, bits[0]!, out.offset], flatGroups(size));
}

export function copy(c: Context, x: Operand, out: Operand): void {
  checkRange(c, x, out);
  copyWords(c, x, out);
}

/** What int32 cannot hold is told by the next read. */
export function checkRange(c: Context, x: Operand, out: Operand): void {
  if (x.dtype !== 'float32' || out.dtype !== 'int32') return;
  checkKernel(c, 'no int32', x, (_, value) => int32Error(value));
}
