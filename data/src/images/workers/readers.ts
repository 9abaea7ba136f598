/** Threads that read pictures into batches: what a loader wants of them, whatever the host has. */

import type { EpochKey } from '../../epochs.ts';
import type { PictureSource } from '../source.ts';
import type { ImageTransform } from '../transform.ts';

/** The floats of a batch [B, C, H, W], in memory that the next batch may have. */
export type Filled = { readonly shape: readonly number[]; readonly floats: Float32Array };

/** One batch that a thread reads. */
export interface Job {
  /** Waits, with this thread blocked. Throws what the reading threw. */
  now(): Filled;
  later(): Promise<Filled>;
  /** Gives its memory back; what is still to be read of it is left. */
  end(): void;
}

/** Threads that read the same source. None of them keeps the process alive, unless a promise of a batch is open. */
export interface Readers {
  /** Begins the batch of the pictures at `indices`. */
  begin(indices: Int32Array, key: EpochKey): Job;
  /** Ends all threads. Batches that are not read yet throw. */
  close(): void;
}

/** A host's threads. */
export interface Host {
  /** Why there are none here; null where there are. */
  why(): string | null;
  open(source: PictureSource, transforms: readonly ImageTransform[], threads: number): Readers;
}

/** What a thread is started with, beside its port. */
export type ReaderData = {
  readonly recipe: PictureSource['recipe'];
  readonly transforms: readonly ImageTransform[];
  /** See SIGNALS. */
  readonly signals: Int32Array;
};

/** Numbers that threads share. */
export const SIGNALS = {
  /** How many answers were sent, one more once the thread stops: what the loader waits for. */
  answers: 0,
  /** The index of the picture that is read, −1 for none. */
  reading: 1,
  /** 1 once the thread stops. */
  stopped: 2,
} as const;

/** A batch as a thread is told of it. */
export type Order = {
  readonly id: number;
  readonly indices: Int32Array;
  readonly key: EpochKey;
  /** [1], shared: not 0 once nobody wants the batch any more. */
  readonly dropped: Int32Array;
  /** Memory that threads share, which may be too small. */
  readonly memory: SharedArrayBuffer | null;
};

/** What came of it. `shape` is empty for a batch that was dropped, and where there is an error. */
export type Answer = {
  readonly id: number;
  readonly shape: readonly number[];
  /** New memory where that of the order was too small; else null. */
  readonly memory: SharedArrayBuffer | null;
  readonly error: Error | null;
  /** Of the error's class, which a message between threads loses. */
  readonly errorName: string;
};
