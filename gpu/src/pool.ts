/** Memory of the GPU: buffers by size class that live as long as they can be reached, by the rule of @otimes/kernels. */

import { OutOfMemoryError, type Region, type TypedArray } from '@otimes/core';
import { readError } from '@otimes/core/extend';
import { collector, Handle, Tracker } from '@otimes/kernels';
import type { Commands } from './commands.ts';
import type { Half } from './half.ts';
import type { Memory } from './launch.ts';
import type { PoolStats } from './stats.ts';

/**
 * One buffer for each tensor: WebGPU refuses a buffer that a dispatch both reads and writes, whatever the ranges, so several
 * tensors cannot share one. Sizes are rounded up to four classes for each power of two.
 */
function rounded(bytes: number): number {
  const least = Math.max(bytes, 256);
  const quarter = 2 ** (Math.floor(Math.log2(least)) - 2);
  return Math.ceil(least / quarter) * quarter;
}

/** Bytes of memory that is small, and of all buffers beyond which none is set aside. */
const SMALL = 2 ** 18;
const ASIDE = 2 ** 27;

export class Pool {
  readonly stats: PoolStats = { buffers: 0, bytes: 0, live: 0 };
  readonly #commands: Commands;
  readonly #limit: number;
  readonly #free = new Map<number, Memory[]>();
  readonly #tracker: Tracker<Memory>;
  /** Bytes that were created since a browser was told of some. */
  #untold = 0;

  /** @param limit bytes of all buffers together */
  constructor(commands: Commands, limit: number) {
    this.#commands = commands;
    this.#limit = limit;
    this.#tracker = new Tracker(memory => this.#take(memory), {
      // A collection costs milliseconds, and the activations of a large model are gigabytes. Browsers, which find out later what is
      // dead, are to begin earlier.
      budget: collector() === null ? 32e6 : Math.max(256e6, limit / 8),
      count: 2000,
    });
  }

  /**
   * Memory with any content. What was given back a moment ago may still be in use by kernels that come before: the device runs
   * them in order, so no fence is needed. Only writes from the host overtake them: they want memory that is `idle`.
   */
  allocate(bytes: number, idle = false): Handle<Memory> {
    if (this.#tracker.due) this.#tracker.collect();
    const size = rounded(bytes);
    const memory = this.#reuse(size, idle) ?? this.#create(size, idle);
    this.stats.live += size;
    const handle = new Handle(memory, bytes);
    this.#tracker.add(handle);
    return handle;
  }

  /**
   * The same memory for the same step of a program again and again, so that its bind groups are there and the same launches can be
   * joined: always the oldest that is free. Small memory that the open batch uses stays aside while there is room: taking it would put
   * launches in an order that they do not need.
   */
  #reuse(size: number, idle: boolean): Memory | undefined {
    const free = this.#free.get(size);
    if (free === undefined) return undefined;
    let at = free.findIndex(({ batch }) => batch < this.#commands.batch);
    if (at < 0 && !idle && (size > SMALL || this.stats.bytes > ASIDE)) at = free.length - 1;
    return at < 0 ? undefined : free.splice(at, 1)[0];
  }

  #create(size: number, idle: boolean): Memory {
    if (this.stats.bytes + size > this.#limit) {
      this.#tracker.collect();
      const found = this.#reuse(size, idle);
      if (found !== undefined) return found;
      this.#destroyIdle();
    }
    if (this.stats.bytes + size > this.#limit)
      throw new OutOfMemoryError(
        `allocate: ${size} bytes beside the ${this.stats.live} in use are more than the ${this.#limit} of this GPU's memoryLimit`,
      );
    const memory = this.#commands.create(size);
    this.#tell(size);
    this.stats.buffers++;
    this.stats.bytes += size;
    return memory;
  }

  /**
   * The garbage collector of a browser runs when there is much of what it counts, and it does not count a GPU's memory. So it gets to
   * see an array, which nobody keeps and whose pages are never touched, of a size that makes it look for what is dead.
   */
  #tell(size: number): void {
    this.#untold += size;
    if (this.#tracker.synchronous || this.#untold < 2 ** 25) return;
    this.#untold = 0;
    void new ArrayBuffer(2 ** 27);
  }

  /** Gives back to the device what nobody uses. */
  #destroyIdle(): void {
    this.#commands.submit();
    for (const memories of this.#free.values())
      for (const memory of memories) {
        this.stats.buffers--;
        this.stats.bytes -= memory.bytes;
        this.#commands.destroy(memory);
      }
    this.#free.clear();
  }

  release(handle: Handle<Memory>): void {
    this.#tracker.release(handle);
  }

  #take(memory: Memory): void {
    this.stats.live -= memory.bytes;
    const free = this.#free.get(memory.bytes);
    if (free === undefined) {
      this.#free.set(memory.bytes, [memory]);
      return;
    }
    let at = free.length;
    while (at > 0 && free[at - 1]!.id > memory.id) at--;
    free.splice(at, 0, memory);
  }
}

/** The memory behind a storage on the GPU: a word of 4 bytes for each element. */
export class GpuRegion implements Region {
  readonly size: number;
  half: Half | null = null;
  readonly #pool: Pool;
  readonly #handle: Handle<Memory>;
  readonly #device: string;

  constructor(pool: Pool, handle: Handle<Memory>, size: number, device: string) {
    this.#pool = pool;
    this.#handle = handle;
    this.size = size;
    this.#device = device;
  }

  get memory(): Memory {
    const { resource } = this.#handle;
    if (resource === null) throw new ReferenceError('memory: a tensor on the GPU was used after its release');
    return resource;
  }

  get array(): TypedArray {
    throw readError(this.#device);
  }

  release(): void {
    this.half?.region.release();
    this.half = null;
    this.#pool.release(this.#handle);
  }
}
