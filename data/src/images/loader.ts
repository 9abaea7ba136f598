/**
 * ImageLoader: pictures of a source in batches of floats, transformed on the way, in this thread or in worker threads that read ahead.
 *
 * Order, position and state are those of DataLoader. What a random transform does with a picture follows from the loader's generator
 * at the start of the epoch and the index of the picture: threads, batches and interruptions change no bit.
 */

import { type Generator, getBackend, type StateDict, type Tensor, tensor } from '@otimes/core';
import { aBoolean, aDevice, aNumber, checkArgument, checkOptions, inspect, type Kind } from '@otimes/core/extend';
import { host } from '#readers';
import { aGenerator, type Epoch, Epochs, someOptions } from '../epochs.ts';
import { aSource, batchMemory } from './batch.ts';
import { ImagePlan, isRandom } from './plan.ts';
import type { PictureSource } from './source.ts';
import { type ImageTransform, imageTransforms } from './transform.ts';
import type { Filled, Job, Readers } from './workers/readers.ts';

/** Images float32 [B, C, H, W] and labels int32 [B]. */
export type ImageBatch = [images: Tensor, labels: Tensor];

export type ImageLoaderOptions = {
  /** Pictures a batch. */
  batchSize: number;
  /** A new order each epoch; defaults to false. */
  shuffle?: boolean;
  /** Leaves out a last batch that is not full; defaults to false. */
  dropLast?: boolean;
  /**
   * Where order and random transforms come from; defaults to the generator that `manualSeed` seeds. If anything is random, the loader
   * splits off a generator of its own when it is made, so that no other use of `rng` changes the batches.
   */
  rng?: Generator;
  /** What is done with each picture; defaults to nothing, which leaves values 0 … 1. See `transforms`. */
  transforms?: readonly ImageTransform[];
  /** The pictures that the loader gives, by their indices in the source, each once an epoch; defaults to all. */
  indices?: ArrayLike<number>;
  /** Threads that read ahead; defaults to 0: each batch is then read in this thread when it is due. */
  workers?: number;
  /** With workers: batches prepared ahead of the one in use; defaults to 2 a worker. */
  prefetch?: number;
  /** Where the batches arrive; defaults to 'cpu'. */
  device?: string;
};

const someIndices: Kind = {
  expected: 'an array of integers',
  is: v => Array.isArray(v) || (ArrayBuffer.isView(v) && 'length' in v),
};
const someTransforms: Kind = { expected: 'an array of transforms', is: Array.isArray };
/** Ranges are checked with the message of each. */
const KINDS = {
  batchSize: aNumber,
  shuffle: aBoolean,
  dropLast: aBoolean,
  rng: aGenerator,
  transforms: someTransforms,
  indices: someIndices,
  workers: aNumber,
  prefetch: aNumber,
  device: aDevice,
};

/** Ends the threads of loaders that nobody has any more. */
const forgotten = new FinalizationRegistry<Readers>(readers => readers.close());

export class ImageLoader implements Iterable<ImageBatch>, AsyncIterable<ImageBatch> {
  static readonly builtIn: string = 'ImageLoader';
  readonly source: PictureSource;
  readonly batchSize: number;
  readonly dropLast: boolean;
  readonly transforms: readonly ImageTransform[];
  readonly workers: number;
  readonly prefetch: number;
  readonly #shuffle: boolean;
  readonly #indices: Int32Array | null;
  readonly #epochs: Epochs;
  readonly #device: string;
  readonly #plan: ImagePlan;
  #readers: Readers | null = null;
  #closed = false;

  /** @throws Error for workers where there can be none: in browsers, and in bundles */
  constructor(source: PictureSource, o: ImageLoaderOptions) {
    checkArgument('ImageLoader', 'source', source, aSource);
    checkArgument('ImageLoader', 'options', o, someOptions);
    checkOptions('ImageLoader', o, KINDS);
    const { batchSize, shuffle = false, dropLast = false, rng, transforms = [], indices, workers = 0 } = o;
    const { prefetch = 2 * workers, device = 'cpu' } = o;
    for (const [name, count] of Object.entries({ workers, prefetch }))
      if (!Number.isInteger(count) || count < 0)
        throw new RangeError(`ImageLoader: expected ${name} to be an integer ≥ 0, got ${count}`);
    this.transforms = imageTransforms(transforms);
    this.#indices = indices === undefined ? null : checkedIndices(indices, source.length);
    const samples = this.#indices?.length ?? source.length;
    if (samples === 0) throw new RangeError('ImageLoader: there are no pictures');
    const why = workers === 0 ? null : source.recipe === undefined ? 'the source has no recipe' : host.why();
    if (why !== null) throw new Error(`ImageLoader: workers: ${workers} cannot be, ${why}; workers: 0 works`);
    this.#epochs = new Epochs(() => samples, {
      ...{ name: 'ImageLoader', batchSize, dropLast, shuffle, rng },
      // With a generator there is a key, whatever the transforms: they do not change the order.
      keyed: shuffle || isRandom(this.transforms),
    });
    this.source = source;
    this.batchSize = batchSize;
    this.dropLast = dropLast;
    this.workers = workers;
    this.prefetch = prefetch;
    this.#shuffle = shuffle;
    // A name that no device has is an error here, not in the first epoch.
    this.#device = getBackend(device).device;
    this.#plan = new ImagePlan(this.transforms);
  }

  /** The number of batches of an epoch. */
  get length(): number {
    return this.#epochs.length;
  }

  /**
   * With workers too: the loop then waits for them with its thread blocked. An error in a picture surfaces where its batch is due. Of a
   * thread that stopped without a word, for want of memory say, `for await` learns at once and `for…of` after two minutes.
   */
  *[Symbol.iterator](): IterableIterator<ImageBatch> {
    const epoch = this.#begin();
    const ahead: Job[] = [];
    try {
      while (epoch.position < this.length) {
        const indices = this.#batch(epoch, epoch.position);
        const job = this.#ahead(epoch, ahead);
        const batch = job === null ? this.#read(epoch, indices) : this.#arrived(indices, job.now(), job);
        epoch.position++;
        yield batch;
        this.#checkOpen();
      }
    } finally {
      this.#end(epoch, ahead);
    }
  }

  /** An error in a picture surfaces where its batch is due. */
  async *[Symbol.asyncIterator](): AsyncGenerator<ImageBatch> {
    const epoch = this.#begin();
    const ahead: Job[] = [];
    try {
      while (epoch.position < this.length) {
        const indices = this.#batch(epoch, epoch.position);
        const job = this.#ahead(epoch, ahead);
        const batch = job === null ? this.#read(epoch, indices) : this.#arrived(indices, await job.later(), job);
        epoch.position++;
        yield batch;
        this.#checkOpen();
      }
    } finally {
      this.#end(epoch, ahead);
    }
  }

  /** The position of the loader, to go on from there. In the body of a loop, the current batch counts as done. */
  stateDict(): StateDict {
    return this.#epochs.stateDict();
  }

  /**
   * The next loop goes on after the batch at which `state` was taken. The pictures, batchSize and shuffle must be the same, and the
   * transforms, if the pictures are to be; workers and prefetch need not.
   */
  loadStateDict(state: StateDict): void {
    this.#epochs.loadStateDict(state);
  }

  /**
   * Ends the threads; loops, those that are going on too, throw from now on. A program may end without: idle threads do not keep it
   * alive, and those of a loader that is garbage are ended.
   */
  close(): void {
    this.#closed = true;
    if (this.#readers !== null) forgotten.unregister(this);
    this.#readers?.close();
    this.#readers = null;
  }

  toString(): string {
    const { batchSize, workers } = this;
    const name = `${this.#indices?.length ?? this.source.length} pictures`;
    return `ImageLoader(${name}, batchSize ${batchSize}, shuffle ${this.#shuffle}, workers ${workers}: ${this.length} batches)`;
  }

  toJSON(): string {
    return this.toString();
  }

  [inspect](): string {
    return this.toString();
  }

  #begin(): Epoch {
    this.#checkOpen();
    return this.#epochs.begin();
  }

  #checkOpen(): void {
    if (this.#closed) throw new Error('ImageLoader: the loader is closed');
  }

  #end(epoch: Epoch, ahead: Job[]): void {
    for (const job of ahead) job.end();
    this.#epochs.end(epoch);
  }

  /** The indices of a batch's pictures in the source. */
  #batch(epoch: Epoch, batch: number): Int32Array {
    const at = this.#epochs.indices(epoch, batch);
    return this.#indices === null ? at : at.map(i => this.#indices![i]!);
  }

  /** The batch that is due as a job, after which others are begun; null without workers. */
  #ahead(epoch: Epoch, ahead: Job[]): Job | null {
    if (this.workers === 0) return null;
    if (this.#readers === null) {
      this.#readers = host.open(this.source, this.transforms, this.workers);
      forgotten.register(this, this.#readers, this);
    }
    while (ahead.length < 1 + this.prefetch && epoch.position + ahead.length < this.length)
      ahead.push(this.#readers.begin(this.#batch(epoch, epoch.position + ahead.length), epoch.key));
    return ahead.shift()!;
  }

  #read(epoch: Epoch, indices: Int32Array): ImageBatch {
    const memory = batchMemory();
    this.#plan.fill('ImageLoader', this.source, indices, epoch.key, memory.allocate);
    return this.#labelled(memory.tensor(), indices);
  }

  #arrived(indices: Int32Array, { shape, floats }: Filled, job: Job): ImageBatch {
    const images = tensor(floats, { shape });
    job.end();
    return this.#labelled(images, indices);
  }

  #labelled(images: Tensor, indices: Int32Array): ImageBatch {
    const labels = tensor(
      indices.map(i => this.source.labels[i]!),
      { device: this.#device },
    );
    return [images.to(this.#device), labels];
  }
}

function checkedIndices(indices: ArrayLike<number>, length: number): Int32Array {
  return Int32Array.from(indices, index => {
    if (!Number.isInteger(index) || index < 0 || index >= length)
      throw new RangeError(`ImageLoader: index ${index} is out of range for ${length} pictures`);
    return index;
  });
}
