/** Memory on the `wasm` backend, and operands as its kernels take them. */

import type { Block } from '@otimes/kernels';
import { bytesPerElement, type DType, dtypeOfArray, type TypedArray } from '../../dtype.ts';
import { broadcastStrides, isContiguous, type Layout, type Shape, sizeOf } from '../../shape.ts';
import type { Region } from '../../storage.ts';
import type { Operand } from '../backend.ts';
import * as reference from '../reference/memory.ts';
import { rowMajor as elementsOf, type Path } from '../walk.ts';
import { type Context, empty, endKernels } from './context.ts';
import { walkPlanes } from './planes.ts';
import { addressOf, allocationError, inMemory, WasmRegion } from './region.ts';

export function allocate(c: Context, dtype: DType, size: number): TypedArray | Region {
  endKernels(c);
  const { heap } = c.kernels;
  let block: Block | null;
  try {
    block = heap.allocate(size * bytesPerElement(dtype));
  } catch (error) {
    throw allocationError(dtype, size, error);
  }
  // Null: the heap is full as far as it can know, and has said so; an ordinary array is slower and right.
  return block === null ? reference.allocate(dtype, size) : new WasmRegion(heap, block, dtype, size);
}

export function store(c: Context, data: TypedArray): TypedArray | Region {
  const memory = allocate(c, dtypeOfArray(data), data.length);
  ('array' in memory ? memory.array : memory).set(data);
  return memory;
}

export function read(x: Operand): TypedArray {
  if (!inMemory(x) || !isContiguous(x)) return reference.read(x);
  return x.storage.array.slice(x.offset, x.offset + sizeOf(x.shape));
}

export function fill(c: Context, value: number, out: Operand): void {
  if (!inMemory(out)) return reference.fill(value, out);
  c.other.fill[out.dtype]!(sizeOf(out.shape), value, addressOf(out));
}

export function assign(c: Context, y: Operand, x: Operand): void {
  if (!inMemory(y) || x.storage === y.storage) return reference.assign(y, x);
  const source = resident(c, x);
  const copy = c.copy[x.dtype][y.dtype];
  const [px, py] = [addressOf(source), addressOf(y)];
  const [bx, by] = [bytesPerElement(x.dtype), bytesPerElement(y.dtype)];
  const from = { strides: broadcastStrides('assign', source, y.shape), offset: 0 };
  let failed = 0;
  walkPlanes(
    y.shape,
    [from, { strides: y.strides, offset: 0 }],
    (rows, cols, _, at, { row, col }) => {
      failed |= copy(rows, cols, px + at[0]! * bx, row[0]!, col[0]!, py + at[1]! * by, row[1]!, col[1]!);
    },
    true,
  );
  // An element that int32 cannot hold: the plain loop finds it and says which.
  if (failed) reference.assign(y, x);
}

/** `x` itself if it is in this memory, else a copy that is. */
export function resident(c: Context, x: Operand): Operand {
  return inMemory(x) ? x : copied(c, x);
}

/** `x` in row-major order in this memory: itself if it lies so, else a copy. */
export function rowMajor(c: Context, x: Operand): Operand {
  return inMemory(x) && isContiguous(x) ? x : copied(c, x);
}

function copied(c: Context, x: Operand): Operand {
  const copy = empty(c, x);
  if (inMemory(x)) assign(c, copy, x);
  else copy.storage.array.set(elementsOf(x));
  return copy;
}

/** Runs a kernel that writes to `targets` on copies in this memory, and writes them back. */
export function through(c: Context, targets: readonly Operand[], run: (copies: Operand[]) => void): void {
  const copies = targets.map(y => resident(c, y));
  run(copies);
  copies.forEach((copy, i) => {
    if (copy !== targets[i]) reference.assign(targets[i]!, copy);
  });
}

/** Where `x` walks when it is read with the shape of `out`, from its first element on. */
export function pathTo(x: Layout, out: Layout): Path {
  return { strides: broadcastStrides('broadcast', x, out.shape), offset: 0 };
}

/** A shape around the axes that are reduced or indexed: before, along and after. Null if they do not lie side by side. */
export function spanOf(shape: Shape, axes: readonly number[]): { outer: number; length: number; inner: number } | null {
  const [first, last] = [axes[0] ?? shape.length, axes.at(-1) ?? shape.length - 1];
  if (last - first + 1 !== axes.length) return null;
  const [before, along, after] = [shape.slice(0, first), shape.slice(first, last + 1), shape.slice(last + 1)];
  return { outer: sizeOf(before), length: sizeOf(along), inner: sizeOf(after) };
}
