/**
 * Epochs of a loader: their order, the batch that they are at, and the state from which an interrupted run goes on.
 *
 * What comes next is a function of three things: the generator's state at the start of the epoch, the number of batches
 * handed out since, and the samples. The first two are the state dict, so that a resumed run sees the same batches.
 */

import { defaultGenerator, Generator, type StateDict, Tensor, tensor } from '@otimes/core';
import { aStateDict, checkArgument, isPlainObject, type Kind, received } from '@otimes/core/extend';

/** Options of a loader. */
export const someOptions: Kind = {
  expected: 'options with a batchSize',
  is: isPlainObject,
  hint: v => (typeof v === 'number' ? `write { batchSize: ${v} }` : ''),
};

/** What `rng` must be. */
export const aGenerator: Kind = {
  expected: 'a Generator',
  is: v => v instanceof Generator,
};

/** Two random words of 32 bits, from which the random choices of an epoch other than its order follow. */
export type EpochKey = readonly [number, number];

/** One pass over the samples: its order, the generator's state before that was drawn, and the batches handed out. */
export type Epoch = {
  readonly order: Int32Array;
  readonly key: EpochKey;
  readonly rng: Int32Array | null;
  position: number;
};

export type EpochOptions = {
  /** What messages begin with. */
  readonly name: string;
  readonly batchSize: number;
  readonly dropLast: boolean;
  /** A new order each epoch. */
  readonly shuffle: boolean;
  /** Whether an epoch draws a key, for other random choices, and splits off a generator for its order. Without, the key is [0, 0]. */
  readonly keyed: boolean;
  /** Of which a generator is split off if anything is random; undefined for the one that `manualSeed` seeds. */
  readonly rng: Generator | undefined;
};

export class Epochs {
  readonly #o: EpochOptions;
  readonly #samples: () => number;
  /** Null where nothing is random. */
  readonly #rng: Generator | null;
  /** The epoch in progress, of the loop that began last. */
  #epoch: Epoch | null = null;
  /** Batches that the next epoch skips, because an earlier run handed them out. */
  #skip = 0;

  /** Throws for what makes no batches. */
  constructor(samples: () => number, o: EpochOptions) {
    const { name, batchSize, shuffle, keyed } = o;
    if (!Number.isInteger(batchSize) || batchSize < 1)
      throw new RangeError(`${name}: expected a batchSize of 1 or more, got ${batchSize}`);
    this.#o = o;
    this.#samples = samples;
    this.#rng = shuffle || keyed ? (o.rng ?? defaultGenerator()).split() : null;
  }

  /** The number of batches of an epoch. */
  get length(): number {
    const batches = this.#samples() / this.#o.batchSize;
    return this.#o.dropLast ? Math.floor(batches) : Math.ceil(batches);
  }

  begin(): Epoch {
    const { keyed, shuffle } = this.#o;
    const rng = this.#rng;
    const length = this.#samples();
    const state = rng?.getState() ?? null;
    const key: EpochKey = rng !== null && keyed ? [rng.bits(), rng.bits()] : [0, 0];
    // How many numbers an order takes is up to the samples, and keys of later epochs are not.
    const draws = keyed ? rng?.split() : rng;
    const order = draws && shuffle ? draws.permutation(length) : Int32Array.from({ length }, (_, i) => i);
    this.#epoch = { order, key, rng: state, position: this.#skip };
    this.#skip = 0;
    return this.#epoch;
  }

  end(epoch: Epoch): void {
    if (this.#epoch === epoch) this.#epoch = null;
  }

  /** The samples of a batch. */
  indices({ order }: Epoch, batch: number): Int32Array {
    return order.slice(batch * this.#o.batchSize, (batch + 1) * this.#o.batchSize);
  }

  /** The position, to go on from there. In the body of a loop, the current batch counts as done. */
  stateDict(): StateDict {
    const rng = this.#epoch === null ? this.#rng?.getState() : this.#epoch.rng;
    return {
      position: int32(this.#epoch?.position ?? this.#skip),
      batchSize: int32(this.#o.batchSize),
      samples: int32(this.#samples()),
      ...(rng ? { rng: tensor(rng) } : {}),
    };
  }

  loadStateDict(state: StateDict): void {
    const { name, batchSize } = this.#o;
    checkArgument(`${name}.loadStateDict`, 'state', state, aStateDict);
    const expected = Object.keys(this.stateDict()).sort().join(', ');
    const got = Object.keys(state).sort().join(', ');
    if (got !== expected)
      throw new RangeError(`${name}: expected a state with ${expected}, got ${got || 'nothing'}; is shuffle the same?`);
    const numberIn = (key: string): number => valuesIn(name, state, key, 1)[0]!;
    for (const [key, own] of [
      ['batchSize', batchSize],
      ['samples', this.#samples()],
    ] as const)
      if (numberIn(key) !== own)
        throw new RangeError(`${name}: the state is of a loader with ${key} ${numberIn(key)}, this has ${own}`);
    const position = numberIn('position');
    if (!Number.isInteger(position) || position < 0 || position > this.length)
      throw new RangeError(`${name}: the state is at batch ${position} of ${this.length}`);
    // The generator comes first, since it throws for a wrong state.
    if (this.#rng !== null) this.#rng.setState(valuesIn(name, state, 'rng', 4));
    this.#skip = position;
    this.#epoch = null;
  }
}

/** The `count` numbers of an entry of a state. */
function valuesIn(what: string, state: StateDict, name: string, count: number): ArrayLike<number> {
  const value: unknown = state[name];
  if (!(value instanceof Tensor) || value.size !== count || value.storage.released)
    throw new RangeError(
      `${what}: expected ${name} in the state to be a tensor of ${count} numbers, got ${received(value)}` +
        (value instanceof Tensor && value.storage.released ? ', which has no values any more' : ''),
    );
  return value.dataSync();
}

function int32(value: number): Tensor {
  return tensor(value, { dtype: 'int32' });
}
