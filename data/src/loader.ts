/**
 * DataLoader: a dataset in batches, in order or shuffled, for `for…of` and `for await`.
 *
 * What comes next, and the state from which a run goes on, is in `epochs.ts`. Leaving a loop early ends the epoch; the next
 * loop starts a new one.
 */

import { type Generator, getBackend, type StateDict, Tensor } from '@otimes/core';
import {
  aBoolean,
  aDevice,
  aFunction,
  aNumber,
  checkArgument,
  checkOptions,
  inspect,
  isPlainObject,
} from '@otimes/core/extend';
import { type Collated, collate } from './collate.ts';
import { aDataset, type Dataset } from './dataset.ts';
import { aGenerator, Epochs, someOptions } from './epochs.ts';

export type LoaderOptions<S, B> = {
  /** Samples a batch. */
  batchSize: number;
  /** A new order each epoch; defaults to false. */
  shuffle?: boolean;
  /** Leaves out a last batch that is not full; defaults to false. */
  dropLast?: boolean;
  /**
   * Where the order comes from; defaults to the generator that `manualSeed` seeds. The loader splits off a generator of
   * its own when it is made, so that no other use of `rng` changes the batches.
   */
  rng?: Generator;
  /** Samples to a batch; defaults to the dataset's own `batch` or to `collate`, which stacks tensors. */
  collate?: (samples: Awaited<S>[]) => B | Promise<B>;
  /** With `for await`: batches prepared ahead of the one in use; defaults to 2. */
  prefetch?: number;
  /**
   * Where the tensors of a batch arrive, those in lists and records too; defaults to where they are. Each is copied once, when
   * its batch is complete: with `for await` up to `prefetch` batches before it is due.
   */
  device?: string;
};

/** Ranges are checked with the message of each. */
const KINDS = {
  batchSize: aNumber,
  shuffle: aBoolean,
  dropLast: aBoolean,
  rng: aGenerator,
  collate: aFunction,
  prefetch: aNumber,
  device: aDevice,
};

/** B, the type of a batch, follows from S, the type of a sample: tensors where it has tensors, numbers or booleans. */
export class DataLoader<S, B = Collated<Awaited<S>>> implements Iterable<B>, AsyncIterable<B> {
  readonly dataset: Dataset<S>;
  readonly batchSize: number;
  readonly dropLast: boolean;
  readonly prefetch: number;
  readonly #shuffle: boolean;
  readonly #epochs: Epochs;
  readonly #device: string | undefined;
  readonly #collate: ((samples: Awaited<S>[]) => unknown) | undefined;

  constructor(dataset: Dataset<S>, o: LoaderOptions<S, B>) {
    checkArgument('DataLoader', 'dataset', dataset, aDataset);
    checkArgument('DataLoader', 'options', o, someOptions);
    checkOptions<object>('DataLoader', o, KINDS);
    const { batchSize, prefetch = 2, shuffle = false, dropLast = false, rng } = o;
    if (!Number.isInteger(prefetch) || prefetch < 0)
      throw new RangeError(`DataLoader: expected a prefetch of 0 or more batches, got ${prefetch}`);
    if (!(dataset.length > 0 && Number.isInteger(dataset.length)))
      throw new RangeError(`DataLoader: the dataset has no samples (length ${dataset.length})`);
    this.dataset = dataset;
    this.batchSize = batchSize;
    this.dropLast = dropLast;
    this.prefetch = prefetch;
    this.#shuffle = shuffle;
    this.#epochs = new Epochs(() => dataset.length, {
      name: 'DataLoader',
      batchSize,
      dropLast,
      shuffle,
      keyed: false,
      rng,
    });
    this.#collate = o.collate;
    // A name that no device has is an error here, not in the first epoch.
    this.#device = o.device === undefined ? undefined : getBackend(o.device).device;
  }

  /** The number of batches of an epoch. */
  get length(): number {
    return this.#epochs.length;
  }

  /** Throws a TypeError at a sample that is a promise. */
  *[Symbol.iterator](): IterableIterator<B> {
    const epoch = this.#epochs.begin();
    try {
      while (epoch.position < this.length) {
        const batch = this.#batchNow(this.#epochs.indices(epoch, epoch.position));
        epoch.position++;
        yield batch;
      }
    } finally {
      this.#epochs.end(epoch);
    }
  }

  /** An error in a sample surfaces where its batch is due. */
  async *[Symbol.asyncIterator](): AsyncGenerator<B> {
    const epoch = this.#epochs.begin();
    const ahead: Promise<B>[] = [];
    const prepare = (batches: number): void => {
      while (ahead.length < batches && epoch.position + ahead.length < this.length) {
        const batch = this.#batchLater(this.#epochs.indices(epoch, epoch.position + ahead.length));
        // A batch that is never asked for may fail silently.
        batch.catch(() => {});
        ahead.push(batch);
      }
    };
    try {
      for (prepare(1 + this.prefetch); ahead.length > 0; prepare(1 + this.prefetch)) {
        const batch = await ahead[0]!;
        ahead.shift();
        epoch.position++;
        yield batch;
      }
    } finally {
      this.#epochs.end(epoch);
    }
  }

  /** The position of the loader, to go on from there. In the body of a loop, the current batch counts as done. */
  stateDict(): StateDict {
    return this.#epochs.stateDict();
  }

  /** The next loop goes on after the batch at which `state` was taken. Dataset, batchSize and shuffle must be the same. */
  loadStateDict(state: StateDict): void {
    this.#epochs.loadStateDict(state);
  }

  toString(): string {
    const { dataset, batchSize } = this;
    const name = String(dataset).startsWith('[object') ? `${dataset.length} samples` : String(dataset);
    return `DataLoader(${name}, batchSize ${batchSize}, shuffle ${this.#shuffle}: ${this.length} batches)`;
  }

  toJSON(): string {
    return this.toString();
  }

  [inspect](): string {
    return this.toString();
  }

  #batchNow(indices: Int32Array): B {
    const { dataset } = this;
    if (this.#collate === undefined && dataset.batch !== undefined)
      return this.#arrived(present(dataset.batch(indices)));
    const samples = Array.from(indices, index => present(dataset.get(index)) as Awaited<S>);
    return this.#arrived(present(this.#collate === undefined ? collate(samples) : this.#collate(samples)));
  }

  async #batchLater(indices: Int32Array): Promise<B> {
    const { dataset } = this;
    if (this.#collate === undefined && dataset.batch !== undefined) return this.#arrived(await dataset.batch(indices));
    // Each `get` runs in its own async function: if one throws, the rejections of the others are still handled.
    const samples = await Promise.all(Array.from(indices, async index => dataset.get(index)));
    return this.#arrived(await (this.#collate === undefined ? collate(samples) : this.#collate(samples)));
  }

  #arrived(batch: unknown): B {
    return (this.#device === undefined ? batch : onDevice(batch, this.#device)) as B;
  }
}

/** `value` with the tensors in it, in lists and records, on a device. */
function onDevice(value: unknown, device: string): unknown {
  if (value instanceof Tensor) return value.to(device);
  if (Array.isArray(value)) return value.map(one => onDevice(one, device));
  if (!isPlainObject(value)) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, onDevice(one, device)]));
}

/** Returns `value`; throws if it is a promise. */
function present(value: unknown): unknown {
  if (!(value instanceof Promise)) return value;
  value.catch(() => {});
  throw new TypeError('DataLoader: the dataset answers with promises, which for…of cannot wait for; use for await');
}
