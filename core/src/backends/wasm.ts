/**
 * The `wasm` backend: tensors live in WebAssembly memory, and SIMD kernels compute on them where they lie. What has no
 * kernel here runs the reference backend's loops over the same memory.
 *
 * NOTE: an operation allocates first and reads addresses after, because an allocation may collect what is unreachable.
 * Kernels never allocate.
 */

import { createKernels, type Kernels, OutOfMemory } from '@otimes/kernels';
import { bytesPerElement, type DType, dtypeOfArray, isFloat, type TypedArray } from '../dtype.ts';
import { OutOfMemoryError } from '../errors.ts';
import { broadcastStrides, contiguousStrides, type Layout } from '../shape.ts';
import { type Region, Storage } from '../storage.ts';
import type { Operand } from './backend.ts';
import { ReferenceBackend } from './reference.ts';
import { WasmRegion } from './region.ts';
import { walkRows } from './walk.ts';

/** A backend with a memory of its own, or null where the host has no WebAssembly SIMD. */
export function createWasmBackend(device = 'cpu'): WasmBackend | null {
  const kernels = createKernels();
  return kernels === null ? null : new WasmBackend(device, kernels);
}

export class WasmBackend extends ReferenceBackend {
  readonly kernels: Kernels;

  constructor(device: string, kernels: Kernels) {
    super(device);
    this.kernels = kernels;
  }

  override allocate(dtype: DType, size: number): TypedArray | Region {
    const { heap } = this.kernels;
    const bytes = size * bytesPerElement(dtype);
    const block = orOutOfMemory(dtype, size, () => heap.allocate(bytes));
    // Null: the heap is full as far as it can know, and has said so; an ordinary array is slower and right.
    return block === null ? super.allocate(dtype, size) : new WasmRegion(heap, block, dtype, size);
  }

  override store(data: TypedArray): TypedArray | Region {
    const memory = this.allocate(dtypeOfArray(data), data.length);
    if ('array' in memory) memory.array.set(data);
    else memory.set(data);
    return memory;
  }

  override matmul(a: Operand, b: Operand, out: Operand): void {
    if (!isFloat(out.dtype) || !(out.storage.memory instanceof WasmRegion)) {
      super.matmul(a, b, out);
      return;
    }
    const [left, right] = [this.#resident(a), this.#resident(b)];
    const { exports, scratch } = this.kernels;
    const product = out.dtype === 'float32' ? exports.sgemm : exports.dgemm;
    const bytes = bytesPerElement(out.dtype);
    const rank = out.shape.length;
    const [m, n, k] = [out.shape[rank - 2]!, out.shape[rank - 1]!, a.shape.at(-1)!];
    const [aRow, aColumn] = left.strides.slice(-2) as [number, number];
    const [bRow, bColumn] = right.strides.slice(-2) as [number, number];
    const [pa, pb, pc] = [addressOf(left), addressOf(right), addressOf(out)];
    // NOTE: spread arguments would cost 0.25 µs a call.
    const run = (count: number, aAt: number, aBatch: number, bAt: number, bBatch: number, entry: number) => {
      const [p, q, c] = [pa + aAt * bytes, pb + bAt * bytes, pc + entry * m * n * bytes];
      product(m, n, k, p, aRow, aColumn, q, bRow, bColumn, c, n, 0, 0, 0, count, aBatch, bBatch, m * n, scratch);
    };
    if (rank === 2) {
      run(1, 0, 0, 0, 0, 0);
      return;
    }
    // The entries of a row of the batch lie at equal distances in every operand: one call a row.
    const batch = out.shape.slice(0, -2);
    const [pathA, pathB] = [batchPath(left, batch), batchPath(right, batch)];
    const [aStep, bStep] = [pathA.strides.at(-1)!, pathB.strides.at(-1)!];
    walkRows(batch, [pathA, pathB], (entry, at) => run(batch.at(-1)!, at[0]!, aStep, at[1]!, bStep, entry));
  }

  /** `x` itself if it is in this memory, else a copy that is. */
  #resident(x: Operand): Operand {
    if (x.storage.memory instanceof WasmRegion) return x;
    const storage = new Storage(this, x.dtype, this.store(this.read(x)));
    return { storage, dtype: x.dtype, shape: x.shape, strides: contiguousStrides(x.shape), offset: 0 };
  }
}

function orOutOfMemory<T>(dtype: DType, size: number, allocate: () => T): T {
  try {
    return allocate();
  } catch (error) {
    if (!(error instanceof OutOfMemory)) throw error;
    throw new OutOfMemoryError(`allocate: no memory for ${size} elements of ${dtype}: ${error.message}`);
  }
}

/** Byte address of the first element of an operand in WebAssembly memory. */
function addressOf(x: Operand): number {
  const { memory } = x.storage;
  if (!(memory instanceof WasmRegion)) throw new Error('address: an operand is not in WebAssembly memory');
  return memory.pointer + x.offset * bytesPerElement(x.dtype);
}

/** The way through the batch axes of an operand of matmul, in elements from its first one. */
function batchPath(x: Layout, batch: readonly number[]): { strides: readonly number[]; offset: number } {
  const full = [...batch, ...x.shape.slice(-2)];
  return { strides: broadcastStrides('matmul', x, full).slice(0, -2), offset: 0 };
}
