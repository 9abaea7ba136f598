/** A region of WebAssembly memory behind a storage. */

import { type Block, type Heap, type Memory, OutOfMemory } from '@otimes/kernels';
import { bytesPerElement, type DType, type TypedArray } from '../../dtype.ts';
import { OutOfMemoryError } from '../../errors.ts';
import type { Region } from '../../storage.ts';
import type { Operand } from '../backend.ts';

/**
 * Keeps the block alive as long as a view of it can be reached: an ndarray that outlives its tensor holds nothing but
 * the view.
 */
const blockOf = new WeakMap<TypedArray, Block>();

export class WasmRegion implements Region {
  readonly dtype: DType;
  readonly size: number;
  readonly #block: Block;
  readonly #heap: Heap;
  #view: TypedArray | null = null;

  constructor(heap: Heap, block: Block, dtype: DType, size: number) {
    this.#heap = heap;
    this.#block = block;
    this.dtype = dtype;
    this.size = size;
  }

  /** Byte address of the first element. Read it after the last allocation of an operation. */
  get pointer(): number {
    return this.#block.pointer;
  }

  get array(): TypedArray {
    const { memory } = this.#heap;
    // A memory that grew has a new buffer, and the old views have lost theirs.
    if (this.#view === null || this.#view.buffer !== memory.u8.buffer) {
      this.#view = viewOf(memory, this.dtype, this.pointer, this.size);
      blockOf.set(this.#view, this.#block);
    }
    return this.#view;
  }

  release(): void {
    this.#view = null;
    this.#heap.release(this.#block);
  }
}

/** What an allocation of `size` elements throws in the place of the heap's error. */
export function allocationError(dtype: DType, size: number, error: unknown): unknown {
  if (!(error instanceof OutOfMemory)) return error;
  return new OutOfMemoryError(`allocate: no memory for ${size} elements of ${dtype}: ${error.message}`);
}

/** Whether an operand is in WebAssembly memory; ndarrays that were taken in, and what a full heap left over, are not. */
export function inMemory(x: Operand): boolean {
  return x.storage.memory instanceof WasmRegion;
}

/** Byte address of the first element of an operand in WebAssembly memory. */
export function addressOf(x: Operand): number {
  const { memory } = x.storage;
  if (!(memory instanceof WasmRegion)) throw new Error('address: an operand is not in WebAssembly memory');
  return memory.pointer + x.offset * bytesPerElement(x.dtype);
}

function viewOf(memory: Memory, dtype: DType, pointer: number, size: number): TypedArray {
  switch (dtype) {
    case 'float32':
      return memory.f32.subarray(pointer >>> 2, (pointer >>> 2) + size);
    case 'float64':
      return memory.f64.subarray(pointer >>> 3, (pointer >>> 3) + size);
    case 'int32':
      return memory.i32.subarray(pointer >>> 2, (pointer >>> 2) + size);
    case 'bool':
      return memory.u8.subarray(pointer, pointer + size);
  }
}
