/**
 * Which bytes of a memory are free. Sizes are rounded up to classes, four for each power of two (at most 25 % more than
 * asked), and a freed block serves the next request of its class: allocation and release are two array operations.
 * When the free blocks are many and of the wrong classes, neighbours are merged and cut anew.
 */

import type { Memory } from './memory.ts';

/** Alignment and smallest size in bytes: a cache line. */
const LINE = 64;
/** Free bytes that must have come together before neighbours are merged. */
const MERGE_FROM = 32 * 2 ** 20;

export type PoolStats = {
  /** Bytes given out, rounded up to their classes. */
  readonly live: number;
  /** The most that `live` has been. */
  readonly peak: number;
  /** Bytes that were ever touched: what the pool holds of the system's memory. */
  readonly reserved: number;
};

export class OutOfMemory extends Error {
  override name = 'OutOfMemory';
  /** Bytes that were asked for. */
  readonly bytes: number;

  constructor(bytes: number, message: string) {
    super(message);
    this.bytes = bytes;
  }
}

/** The class of a size in bytes. Up to 256 bytes classes are 64 bytes apart, so that every block is aligned. */
export function classOf(bytes: number): number {
  if (bytes <= 4 * LINE) return bytes <= LINE ? 0 : Math.ceil(bytes / LINE) - 1;
  const exponent = 31 - Math.clz32(bytes - 1);
  return 4 * (exponent - 7) + (((bytes - 1) >>> (exponent - 2)) & 3);
}

const CLASSES = classOf(2 ** 32) + 1;
const SIZES = Float64Array.from({ length: CLASSES }, (_, c) =>
  c < 4 ? (c + 1) * LINE : (5 + (c & 3)) * 2 ** ((c >> 2) + 5),
);

/** Bytes of a block of class `c`. */
export function sizeOfClass(c: number): number {
  return SIZES[c]!;
}

/** Free memory from `at` to `end`. */
type Range = { at: number; end: number };

export class Pool {
  readonly memory: Memory;
  /** Addresses of free blocks of each class: the first #count[c] of #free[c]. `pop` would give the array's memory back. */
  readonly #free: number[][] = Array.from({ length: CLASSES }, () => []);
  readonly #count = new Int32Array(CLASSES);
  /** Merged free memory, by the largest class that fits; to be cut. */
  readonly #ranges: Range[][] = Array.from({ length: CLASSES }, () => []);
  #rangeCount = 0;
  /** Where memory begins that was never given out. */
  #top: number;
  /** Bytes in `#free`. */
  #freeBytes = 0;
  #live = 0;
  #peak = 0;

  /** `start` is the first address to give out; page 0 stays unused, so that no block is at address 0. */
  constructor(memory: Memory, start = 65536) {
    this.memory = memory;
    this.#top = start;
  }

  get stats(): PoolStats {
    return { live: this.#live, peak: this.#peak, reserved: this.#top };
  }

  get live(): number {
    return this.#live;
  }

  /** The address of `bytes` bytes with any content, aligned to 64. Throws OutOfMemory. */
  alloc(bytes: number): number {
    if (!(bytes <= this.memory.maximum)) throw this.#exhausted(bytes);
    const c = classOf(bytes);
    const size = sizeOfClass(c);
    const count = this.#count[c]!;
    let pointer: number;
    if (count > 0) {
      this.#count[c] = count - 1;
      pointer = this.#free[c]![count - 1]!;
      this.#freeBytes -= size;
    } else pointer = this.#cut(c, size, bytes);
    this.#live += size;
    if (this.#live > this.#peak) this.#peak = this.#live;
    return pointer;
  }

  /** Gives back what `alloc(bytes)` returned. */
  free(pointer: number, bytes: number): void {
    const c = classOf(bytes);
    const size = sizeOfClass(c);
    this.#free[c]![this.#count[c]!++] = pointer;
    this.#freeBytes += size;
    this.#live -= size;
  }

  /** A block that no free one serves: from merged memory, else from new memory, unless merging first is worth it. */
  #cut(c: number, size: number, bytes: number): number {
    let pointer = this.#cutRange(c, size);
    if (pointer === 0 && this.#freeBytes >= Math.max(MERGE_FROM, size, this.#live / 2)) {
      this.#merge();
      pointer = this.#cutRange(c, size);
    }
    if (pointer === 0 && this.#top + size <= this.memory.size) pointer = this.#extend(size);
    if (pointer === 0 && this.#freeBytes >= size) {
      this.#merge();
      pointer = this.#cutRange(c, size);
    }
    if (pointer === 0 && this.memory.grow(this.#top + size)) pointer = this.#extend(size);
    if (pointer === 0) throw this.#exhausted(bytes);
    return pointer;
  }

  #extend(size: number): number {
    this.#top += size;
    return this.#top - size;
  }

  #exhausted(bytes: number): OutOfMemory {
    const mb = (x: number) => `${Math.ceil(x / 1e6)} MB`;
    const held = `${mb(this.#live)} of ${mb(this.memory.maximum)} are held`;
    return new OutOfMemory(bytes, `allocate: no room for ${bytes} bytes; ${held}`);
  }

  #cutRange(c: number, size: number): number {
    if (this.#rangeCount === 0) return 0;
    for (let d = c; d < CLASSES; d++) {
      const range = this.#ranges[d]!.pop();
      if (range === undefined) continue;
      this.#rangeCount--;
      const pointer = range.at;
      range.at += size;
      this.#addRange(range);
      return pointer;
    }
    return 0;
  }

  #addRange(range: Range): void {
    const length = range.end - range.at;
    if (length === 0) return;
    const c = classOf(length);
    this.#ranges[sizeOfClass(c) > length ? c - 1 : c]!.push(range);
    this.#rangeCount++;
  }

  /** Turns all free blocks into ranges, neighbours joined; one that ends at the top lowers the top. */
  #merge(): void {
    const pieces = this.#ranges.splice(0).flat();
    for (let c = 0; c < CLASSES; c++) {
      const size = sizeOfClass(c);
      for (const at of this.#free[c]!.slice(0, this.#count[c])) pieces.push({ at, end: at + size });
      this.#count[c] = 0;
      this.#ranges.push([]);
    }
    this.#freeBytes = 0;
    this.#rangeCount = 0;
    pieces.sort((p, q) => p.at - q.at);
    let joined: Range | undefined;
    for (const piece of pieces) {
      if (joined !== undefined && joined.end === piece.at) joined.end = piece.end;
      else {
        if (joined !== undefined) this.#addRange(joined);
        joined = piece;
      }
    }
    if (joined === undefined) return;
    if (joined.end === this.#top) this.#top = joined.at;
    else this.#addRange(joined);
  }
}
