/**
 * One WebAssembly.Memory and typed arrays over all of it. What lives in it is known by pointer and length; a view is made
 * when asked for and good until the memory grows.
 */

import { whyOneThread } from '#host';
import { PAGE, type WasmMemory, wasm } from './wasm.ts';

const GIB = 2 ** 30;
/** Growing detaches every view, so it happens in large steps; in bytes. */
const STEP = 64 * 2 ** 20;

export type MemoryOptions = {
  /**
   * Bytes to begin with, defaults to 1 GiB. Address space alone: the system lends pages when they are first written
   * (measured: 45 MB resident before and after, `process.memoryUsage().external` shows the full figure).
   */
  readonly initial?: number;
  /** Bytes at most, defaults to 4 GiB. */
  readonly maximum?: number;
  /**
   * A SharedArrayBuffer that worker threads can have too; defaults to true where there can be such threads. It must be so
   * from the start. Measured: kernels, views and loops take the same time, `set` of a typed array 1.4 times as long.
   */
  readonly shared?: boolean;
};

export class Memory {
  readonly wasm: WasmMemory;
  readonly shared: boolean;
  /** Bytes that it may grow to. */
  readonly maximum: number;
  /** The whole memory. NOTE: do not keep them across an allocation, which may grow the memory and replace them. */
  u8!: Uint8Array;
  i32!: Int32Array;
  f32!: Float32Array;
  f64!: Float64Array;

  private constructor(memory: WasmMemory, maximum: number, shared: boolean) {
    this.wasm = memory;
    this.maximum = maximum;
    this.shared = shared;
    this.#refresh();
  }

  /** A memory as large as the system grants: half as much, and again, where it refuses. Null where it gives none. */
  static create({
    initial = GIB,
    maximum = 4 * GIB,
    shared = whyOneThread() === null,
  }: MemoryOptions = {}): Memory | null {
    if (wasm === undefined) return null;
    const pages = (bytes: number) => Math.max(1, Math.ceil(bytes / PAGE));
    const most = Math.min(pages(maximum), 65536);
    // Less to begin with first; then a lower maximum, for systems that set aside the address space of all of it.
    for (let limit = most; limit >= Math.min(most, 256); limit = Math.floor(limit / 4))
      for (let first = Math.min(pages(initial), limit); ; first = Math.ceil(first / 4)) {
        try {
          const memory = new wasm.Memory({ initial: first, maximum: limit, shared });
          return new Memory(memory, limit * PAGE, shared);
        } catch (error) {
          if (!(error instanceof RangeError)) throw error;
          if (first <= 256) break;
        }
      }
    return null;
  }

  /** Bytes now. */
  get size(): number {
    return this.u8.length;
  }

  /** Makes `bytes` addressable, a little more than asked; false where the system or the maximum forbids. */
  grow(bytes: number): boolean {
    if (bytes <= this.size) return true;
    if (bytes > this.maximum) return false;
    const generous = Math.min(this.maximum, Math.max(bytes, this.size + Math.max(STEP, this.size / 4)));
    for (const target of [generous, bytes]) {
      try {
        this.wasm.grow(Math.ceil((target - this.size) / PAGE));
        this.#refresh();
        return true;
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
      }
    }
    return false;
  }

  #refresh(): void {
    const { buffer } = this.wasm;
    this.u8 = new Uint8Array(buffer);
    this.i32 = new Int32Array(buffer);
    this.f32 = new Float32Array(buffer);
    this.f64 = new Float64Array(buffer);
  }
}
