/** What comes back from the GPU: values, checks that failed, and errors of the device. */

import { OutOfMemoryError } from '@otimes/core';
import { type BadValue, PendingChecks } from '@otimes/core/extend';
import { type Memory, READ, USAGE } from './launch.ts';

/** The error of a check, from the position and the bits of the first bad value, and in how many pieces it looked. */
type Check = { readonly error: (position: number, bits: number) => Error; readonly pieces: number };

/** What reads need of the queue. */
type Queue = {
  readonly device: GPUDevice;
  readonly stats: { reads: number };
  copy(from: Memory, offset: number, to: GPUBuffer, at: number, bytes: number): void;
  submit(): void;
};

/** Words of the status before what checks found: the first of them is ~n for the first check n that failed, 0 for none; one is `SKIPS`. */
export const HEAD = 4;
/** Checks whose finds are kept apart, pieces of each, and words of a piece: the position of the first bad value (−1: none), its bits. */
export const KEPT = 64;
export const PIECES = 256;
const FOUND = 2;
const NONE = 0xffffffff;
/** Submits without a read. */
const LOOK_AFTER = 64;
/** Staging buffers that are kept. */
const MOST_STAGING = 16;

const nextTurn = () => new Promise(resolve => setTimeout(resolve));

export class Reads {
  static readonly bytes = 4 * (HEAD + KEPT * PIECES * FOUND);
  readonly status: Memory;
  readonly #queue: Queue;
  readonly #staging: GPUBuffer[] = [];
  readonly #checks = new PendingChecks<Check>();
  #soon: Promise<void> | null = null;
  #unread = 0;
  #isLooking = false;
  /** The device is gone: all reads reject. */
  #lost: Error | null = null;
  /** What the device refused, a batch as a whole: the next read tells it. */
  #refused: Error | null = null;
  /** What it refused last and was told, and the last read that was called before. */
  #told: { readonly error: Error; readonly before: number } | null = null;

  constructor(queue: Queue, status: Memory) {
    this.#queue = queue;
    this.status = status;
    const { device } = queue;
    device.lost.then(({ message }) => {
      this.#lost ??= new Error(`gpu: the device was lost (${message}); call initGpu() again`);
    });
    device.onuncapturederror = event => {
      event.preventDefault(); // the next read tells it
      const { error } = event;
      this.refuse(
        error.constructor.name === 'GPUOutOfMemoryError'
          ? new OutOfMemoryError(`allocate: the GPU has no memory left (${error.message})`)
          : new Error(`gpu: ${error.message}`),
      );
    };
  }

  /** Why the device is gone, or null. */
  get lost(): Error | null {
    return this.#lost;
  }

  /** The device refuses a batch. What is told is the first reason, or better a `cause` of the others. */
  refuse(error: Error, isCause = false): void {
    if (isCause || this.#refused === null) this.#refused = error;
  }

  /** What a kernel that writes in place now is to heed: ~n of the last check n that was announced. */
  get seen(): number {
    return ~this.#checks.mark().last >>> 0;
  }

  /** Announces a check that looks in so many pieces, and gives its number. */
  check(error: BadValue, toValue: (bits: number) => number, pieces: number): number {
    return this.#checks.add({ error: (position, bits) => error(position, toValue(bits)), pieces });
  }

  /** Runs `undo` when a failure is told of what was called before. */
  onFailure(undo: () => void): void {
    // Where nothing is checked the device may still refuse the batch.
    if (this.#checks.mark().checks.size === 0) this.#checks.add({ error: () => new Error('gpu: no check'), pieces: 0 });
    this.#checks.onFailure(undo);
  }

  /**
   * Bytes of a memory. Rejects with the first check that failed before this call and was not told, or with the device's error. With
   * `peek` the failure stays for another read.
   */
  async read(memory: Memory, offset: number, bytes: number, peek: boolean): Promise<ArrayBuffer> {
    const order = ++this.#queue.stats.reads;
    this.#unread = 0;
    const mark = this.#checks.mark();
    const size = 4 * Math.ceil(bytes / 4);
    const data = await this.#fetch([
      [memory, offset, size],
      [this.status, 0, 4 * HEAD],
    ]);
    // A cause may be told a moment later.
    if (this.#refused !== null) await nextTurn();
    if (this.#refused !== null) {
      const error = this.#refused;
      if (peek) throw error;
      this.#refused = null;
      this.#told = { error, before: this.#queue.stats.reads };
      // Nothing of the batch was done: what the host has counted since the last read that passed is taken back.
      throw this.#checks.tell(
        mark,
        0,
        false,
        () => error,
        () => this.#clear(),
      );
    }
    if (this.#told !== null && order <= this.#told.before) throw this.#told.error;
    if (data === null) throw new Error('gpu: a read failed, and the device does not say why');
    const failed = new Uint32Array(data, size, 1)[0]!;
    if (failed === 0) {
      this.#checks.passed(mark);
      return data.slice(0, bytes);
    }
    const number = ~failed >>> 0;
    const check = mark.checks.get(number);
    const found = check === undefined ? null : await this.#found(number, check.pieces);
    throw this.#checks.tell(
      mark,
      number,
      peek,
      ({ error }) => error(found?.position ?? 0, found?.bits ?? 0),
      () => this.#clear(),
    );
  }

  /** A submit has been made. Where nothing is read for long, checks that passed are forgotten all the same. */
  submitted(): void {
    if (++this.#unread < LOOK_AFTER || this.#isLooking) return;
    this.#isLooking = true;
    const done = () => {
      this.#isLooking = false;
    };
    this.read(this.status, 0, 0, true).then(done, done);
  }

  /** The first bad value of a check. */
  async #found(number: number, pieces: number): Promise<{ position: number; bits: number }> {
    const at = 4 * (HEAD + (number % KEPT) * PIECES * FOUND);
    const data = await this.#fetch([[this.status, at, 4 * FOUND * pieces]]);
    if (data === null) return { position: NONE, bits: 0 };
    const words = new Uint32Array(data);
    let first = 0;
    for (let i = 1; i < pieces; i++) if (words[FOUND * i]! < words[FOUND * first]!) first = i;
    const [position = NONE, bits = 0] = words.subarray(FOUND * first);
    return { position, bits };
  }

  /** Bytes of several memories, as the launches before have left them; null where the device has refused the copies. */
  async #fetch(
    parts: readonly (readonly [memory: Memory, offset: number, bytes: number])[],
  ): Promise<ArrayBuffer | null> {
    if (this.#lost !== null) throw this.#lost;
    const size = parts.reduce((sum, [, , bytes]) => sum + bytes, 0);
    const staging = this.#stagingOf(size);
    let at = 0;
    for (const [memory, offset, bytes] of parts) {
      if (bytes > 0) this.#queue.copy(memory, offset, staging, at, bytes);
      at += bytes;
    }
    // Reads that are asked for together travel together.
    this.#soon ??= Promise.resolve().then(() => {
      this.#soon = null;
      this.#queue.submit();
    });
    await this.#soon;
    try {
      await staging.mapAsync(READ, 0, size);
    } catch {
      // Why is told a moment later.
      await nextTurn();
      if (this.#lost !== null) throw this.#lost;
      return null;
    }
    const data = staging.getMappedRange(0, size).slice(0);
    staging.unmap();
    this.#keep(staging);
    if (this.#lost !== null) throw this.#lost;
    return data;
  }

  /** What is called from now on is written again. */
  #clear(): void {
    this.#queue.submit();
    this.#queue.device.queue.writeBuffer(this.status.buffer, 0, new Uint32Array(HEAD));
  }

  #stagingOf(bytes: number): GPUBuffer {
    const found = this.#staging.findIndex(({ size }) => size >= bytes && size <= 4 * Math.max(bytes, 256));
    if (found >= 0) return this.#staging.splice(found, 1)[0]!;
    const size = 2 ** Math.ceil(Math.log2(Math.max(bytes, 256)));
    return this.#queue.device.createBuffer({ size, usage: USAGE.MAP_READ | USAGE.COPY_DST });
  }

  #keep(staging: GPUBuffer): void {
    this.#staging.push(staging);
    if (this.#staging.length > MOST_STAGING) this.#staging.shift()!.destroy();
  }
}
