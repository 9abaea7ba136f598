/**
 * DataLoader: a dataset in batches, in order or shuffled, for `for…of` and `for await`.
 *
 * What comes next is a function of three things: the generator's state at the start of the epoch, the number of batches
 * handed out since, and the dataset. The first two are the loader's state dict, so that a resumed run sees the same
 * batches. Leaving a loop early ends the epoch; the next loop starts a new one.
 */

import { defaultGenerator, Generator, getBackend, type StateDict, Tensor, tensor } from '@otimes/core';
import {
  aBoolean,
  aDevice,
  aFunction,
  aNumber,
  anInstance,
  aStateDict,
  checkArgument,
  checkOptions,
  inspect,
  isPlainObject,
  type Kind,
  received,
} from '@otimes/core/extend';
import { type Collated, collate } from './collate.ts';
import { aDataset, type Dataset } from './dataset.ts';

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

const someOptions: Kind = {
  expected: 'options with a batchSize',
  is: isPlainObject,
  hint: v => (typeof v === 'number' ? `write { batchSize: ${v} }` : ''),
};
/** Ranges are checked with the message of each. */
const KINDS = {
  batchSize: aNumber,
  shuffle: aBoolean,
  dropLast: aBoolean,
  rng: anInstance(Generator, 'a Generator'),
  collate: aFunction,
  prefetch: aNumber,
  device: aDevice,
};

/** One pass over the dataset: its order, the generator's state before that was drawn, and the batches handed out. */
type Epoch = { readonly order: Int32Array; readonly rng: Int32Array | null; position: number };

/** B, the type of a batch, follows from S, the type of a sample: tensors where it has tensors, numbers or booleans. */
export class DataLoader<S, B = Collated<Awaited<S>>> implements Iterable<B>, AsyncIterable<B> {
  readonly dataset: Dataset<S>;
  readonly batchSize: number;
  readonly dropLast: boolean;
  readonly prefetch: number;
  readonly #rng: Generator | null;
  readonly #device: string | undefined;
  readonly #collate: ((samples: Awaited<S>[]) => unknown) | undefined;
  /** The epoch in progress, of the loop that began last. */
  #epoch: Epoch | null = null;
  /** Batches that the next epoch skips, because an earlier run handed them out. */
  #skip = 0;

  constructor(dataset: Dataset<S>, o: LoaderOptions<S, B>) {
    checkArgument('DataLoader', 'dataset', dataset, aDataset);
    checkArgument('DataLoader', 'options', o, someOptions);
    checkOptions<object>('DataLoader', o, KINDS);
    const { batchSize, prefetch = 2 } = o;
    if (!Number.isInteger(batchSize) || batchSize < 1)
      throw new RangeError(`DataLoader: expected a batchSize of 1 or more, got ${batchSize}`);
    if (!Number.isInteger(prefetch) || prefetch < 0)
      throw new RangeError(`DataLoader: expected a prefetch of 0 or more batches, got ${prefetch}`);
    if (!(dataset.length > 0 && Number.isInteger(dataset.length)))
      throw new RangeError(`DataLoader: the dataset has no samples (length ${dataset.length})`);
    this.dataset = dataset;
    this.batchSize = batchSize;
    this.dropLast = o.dropLast ?? false;
    this.prefetch = prefetch;
    this.#rng = o.shuffle === true ? (o.rng ?? defaultGenerator()).split() : null;
    this.#collate = o.collate;
    // A name that no device has is an error here, not in the first epoch.
    this.#device = o.device === undefined ? undefined : getBackend(o.device).device;
  }

  /** The number of batches of an epoch. */
  get length(): number {
    const batches = this.dataset.length / this.batchSize;
    return this.dropLast ? Math.floor(batches) : Math.ceil(batches);
  }

  /** Throws a TypeError at a sample that is a promise. */
  *[Symbol.iterator](): IterableIterator<B> {
    const epoch = this.#begin();
    try {
      while (epoch.position < this.length) {
        const batch = this.#batchNow(this.#indices(epoch, epoch.position));
        epoch.position++;
        yield batch;
      }
    } finally {
      this.#end(epoch);
    }
  }

  /** An error in a sample surfaces where its batch is due. */
  async *[Symbol.asyncIterator](): AsyncGenerator<B> {
    const epoch = this.#begin();
    const ahead: Promise<B>[] = [];
    const prepare = (batches: number): void => {
      while (ahead.length < batches && epoch.position + ahead.length < this.length) {
        const batch = this.#batchLater(this.#indices(epoch, epoch.position + ahead.length));
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
      this.#end(epoch);
    }
  }

  /** The position of the loader, to go on from there. In the body of a loop, the current batch counts as done. */
  stateDict(): StateDict {
    const rng = this.#epoch === null ? this.#rng?.getState() : this.#epoch.rng;
    return {
      position: int32(this.#epoch?.position ?? this.#skip),
      batchSize: int32(this.batchSize),
      samples: int32(this.dataset.length),
      ...(rng ? { rng: tensor(rng) } : {}),
    };
  }

  /** The next loop goes on after the batch at which `state` was taken. Dataset, batchSize and shuffle must be the same. */
  loadStateDict(state: StateDict): void {
    checkArgument('DataLoader.loadStateDict', 'state', state, aStateDict);
    const expected = Object.keys(this.stateDict()).sort().join(', ');
    const got = Object.keys(state).sort().join(', ');
    if (got !== expected)
      throw new RangeError(
        `DataLoader: expected a state with ${expected}, got ${got || 'nothing'}; is shuffle the same?`,
      );
    const numberIn = (name: string): number => valuesIn(state, name, 1)[0]!;
    for (const [name, own] of [
      ['batchSize', this.batchSize],
      ['samples', this.dataset.length],
    ] as const)
      if (numberIn(name) !== own)
        throw new RangeError(`DataLoader: the state is of a loader with ${name} ${numberIn(name)}, this has ${own}`);
    const position = numberIn('position');
    if (!Number.isInteger(position) || position < 0 || position > this.length)
      throw new RangeError(`DataLoader: the state is at batch ${position} of ${this.length}`);
    // The generator comes first, since it throws for a wrong state.
    if (this.#rng !== null) this.#rng.setState(valuesIn(state, 'rng', 4));
    this.#skip = position;
    this.#epoch = null;
  }

  toString(): string {
    const { dataset, batchSize } = this;
    const name = String(dataset).startsWith('[object') ? `${dataset.length} samples` : String(dataset);
    return `DataLoader(${name}, batchSize ${batchSize}, shuffle ${this.#rng !== null}: ${this.length} batches)`;
  }

  toJSON(): string {
    return this.toString();
  }

  [inspect](): string {
    return this.toString();
  }

  #begin(): Epoch {
    const { length } = this.dataset;
    const rng = this.#rng?.getState() ?? null;
    const order = this.#rng?.permutation(length) ?? Int32Array.from({ length }, (_, i) => i);
    this.#epoch = { order, rng, position: this.#skip };
    this.#skip = 0;
    return this.#epoch;
  }

  #end(epoch: Epoch): void {
    if (this.#epoch === epoch) this.#epoch = null;
  }

  #indices({ order }: Epoch, batch: number): Int32Array {
    return order.slice(batch * this.batchSize, (batch + 1) * this.batchSize);
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

/** The `count` numbers of an entry of a state. */
function valuesIn(state: StateDict, name: string, count: number): ArrayLike<number> {
  const value: unknown = state[name];
  if (!(value instanceof Tensor) || value.size !== count || value.storage.released)
    throw new RangeError(
      `DataLoader: expected ${name} in the state to be a tensor of ${count} numbers, got ${received(value)}` +
        (value instanceof Tensor && value.storage.released ? ', which has no values any more' : ''),
    );
  return value.dataSync();
}

function int32(value: number): Tensor {
  return tensor(value, { dtype: 'int32' });
}
