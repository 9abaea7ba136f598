/**
 * Memory for tensors: blocks of a wasm memory that stay valid while they can be reached. Blocks of up to 4 KB are carved
 * from slabs of 64 KB which they keep alive together, so that the tracker sees one handle a slab.
 */

import { Handle, Tracker, type TrackerOptions, type TrackerStats } from './lifetime.ts';
import type { Memory } from './memory.ts';
import { classOf, OutOfMemory, Pool, type PoolStats, sizeOfClass } from './pool.ts';

const SLAB = 65536;
const SMALL = 4096;

/** What a program holds: a stretch of memory. Its content is whatever was there before. */
export class Block extends Handle<number> {
  /** The slab that it is part of. */
  readonly slab: Slab | null;

  constructor(pointer: number, bytes: number, slab: Slab | null) {
    super(pointer, bytes);
    this.slab = slab;
  }

  /** Its address. NOTE: read it after the last allocation of an operation, and hold the block until the kernel returned. */
  get pointer(): number {
    if (this.resource === null)
      throw new ReferenceError(`memory: a block of ${this.bytes} bytes was read after its release`);
    return this.resource;
  }
}

class Slab extends Handle<number> {
  /** Bytes of a piece. */
  readonly size: number;
  /** Bytes carved so far. */
  used = 0;
  /** Pieces that were released. */
  readonly free: number[] = [];
  /** Whether the heap lists it among those with room. */
  listed = true;

  constructor(pointer: number, size: number) {
    super(pointer, SLAB);
    this.size = size;
  }

  get hasRoom(): boolean {
    return this.free.length > 0 || this.used + this.size <= SLAB;
  }

  take(): number {
    const piece = this.free.pop();
    if (piece !== undefined) return piece;
    this.used += this.size;
    return this.resource! + this.used - this.size;
  }
}

export type HeapOptions = TrackerOptions & {
  /**
   * Bytes of live memory beyond which `allocate` answers null where no synchronous collection exists (browsers): there a
   * loop that never awaits would fill the memory. Defaults to 512 MB.
   */
  readonly softLimit?: number;
  /** Told once when the soft limit is met, defaults to console.warn. */
  readonly warn?: (message: string) => void;
};

export class Heap {
  readonly memory: Memory;
  readonly pool: Pool;
  readonly #tracker: Tracker<number>;
  /** Slabs with room, by class of their pieces; the last one is carved. */
  readonly #slabs: Slab[][] = Array.from({ length: classOf(SMALL) + 1 }, () => []);
  readonly #softLimit: number;
  #warn: ((message: string) => void) | null;

  constructor(memory: Memory, o: HeapOptions = {}) {
    this.memory = memory;
    this.pool = new Pool(memory);
    this.#tracker = new Tracker((pointer, bytes) => this.pool.free(pointer, bytes), o);
    this.#softLimit = o.softLimit ?? 512e6;
    this.#warn = o.warn ?? (message => console.warn(message));
  }

  get stats(): PoolStats & TrackerStats {
    return { ...this.pool.stats, ...this.#tracker.stats };
  }

  /**
   * A block of `bytes` bytes with any content, aligned to 64. Collects first where enough new blocks came together. Throws
   * OutOfMemory; null where the soft limit says that the caller should take an ordinary array, unless it `needs` this memory.
   */
  allocate(bytes: number, needs = false): Block | null {
    if (this.#tracker.due) this.collect();
    if (bytes <= SMALL) {
      const slab = this.#slabWithRoom(classOf(bytes), needs);
      return slab === null ? null : this.#carve(slab, bytes);
    }
    const pointer = this.#take(bytes, needs);
    if (pointer === 0) return null;
    const block = new Block(pointer, bytes, null);
    this.#tracker.add(block);
    return block;
  }

  /** Frees a block now: only for one that never left the library's hands. Reading its address afterwards throws. */
  release(block: Block): void {
    const { slab, resource } = block;
    if (slab === null) this.#tracker.release(block);
    else if (resource !== null) {
      block.resource = null;
      slab.free.push(resource);
      if (!slab.listed) this.#list(slab);
    }
  }

  /** Frees what can no longer be reached. Only between operations; see `Tracker.collect`. */
  collect(): void {
    // The lists must not keep slabs alive that nothing else reaches.
    for (const slabs of this.#slabs) {
      for (const slab of slabs) slab.listed = false;
      slabs.length = 0;
    }
    this.#tracker.collect(handle => {
      if (handle instanceof Slab && handle.hasRoom) this.#list(handle);
    });
  }

  #list(slab: Slab): void {
    slab.listed = true;
    this.#slabs[classOf(slab.size)]!.push(slab);
  }

  #carve(slab: Slab, bytes: number): Block {
    const block = new Block(slab.take(), bytes, slab);
    if (!slab.hasRoom) {
      slab.listed = false;
      this.#slabs[classOf(slab.size)]!.pop();
    }
    return block;
  }

  /** The last slab of the class's list. */
  #slabWithRoom(c: number, needs: boolean): Slab | null {
    const slabs = this.#slabs[c]!;
    if (slabs.length > 0) return slabs[slabs.length - 1]!;
    const pointer = this.#take(SLAB, needs);
    if (pointer === 0) return null;
    const slab = new Slab(pointer, sizeOfClass(c));
    this.#tracker.add(slab);
    slabs.push(slab);
    return slab;
  }

  /** Memory from the pool, or 0 beyond the soft limit for who can do without. */
  #take(bytes: number, needs: boolean): number {
    if (!needs && this.pool.live + bytes > this.#softLimit && !this.#tracker.synchronous) {
      this.#warn?.(
        `otimes: more than ${Math.round(this.#softLimit / 1e6)} MB of tensors, and this host frees them only while the ` +
          'program awaits something; further ones go to ordinary arrays, which is slower',
      );
      this.#warn = null;
      this.collect(); // so that what is dead comes back at the next await
      return 0;
    }
    try {
      return this.pool.alloc(bytes);
    } catch (error) {
      if (!(error instanceof OutOfMemory)) throw error;
    }
    this.collect();
    try {
      return this.pool.alloc(bytes);
    } catch (error) {
      if (!(error instanceof OutOfMemory)) throw error;
      const largest = this.live().sort((p, q) => q.bytes - p.bytes);
      const sizes = largest.slice(0, 5).map(block => block.bytes);
      const few = this.pool.live > 0 ? ` by blocks of at most ${SMALL} bytes` : '';
      const held = ` by ${sizes.length < 2 ? 'one block' : `${largest.length} blocks, the largest`} of ${sizes.join(', ')} bytes`;
      throw new OutOfMemory(bytes, error.message + (sizes.length > 0 ? held : few));
    }
  }

  /** The blocks of more than 4 KB that are reachable, or were at the last collection. */
  live(): Block[] {
    return this.#tracker.handles().filter(handle => handle instanceof Block);
  }
}
