/** Datasets: numbered samples, and the ways to choose, split and change them. */

import { defaultGenerator, Generator, ShapeError, type Tensor, tensor } from '@otimes/core';
import { aFunction, anInstance, aTensor, checkArgument, inspect, type Kind, nameOf } from '@otimes/core/extend';

/**
 * `length` samples, by index. A sample is a tensor, a number, a boolean, or a tuple or record of these, unless the
 * loader is given its own `collate`. A sample that takes time is a promise; then only `for await` reads it.
 */
export interface Dataset<T> {
  readonly length: number;
  get(index: number): T;
  /** The samples at `indices` as one batch, where that is faster than one at a time: the tensors of a sample, stacked. */
  batch?(indices: Int32Array): T;
}

/** Something with samples. */
export const aDataset: Kind = {
  expected: 'a dataset, with a length and get(index)',
  is: v => typeof v === 'object' && v !== null && 'length' in v && 'get' in v && typeof v.get === 'function',
  hint: v => (aTensor.is(v) ? 'new TensorDataset(x, y) makes one of tensors' : ''),
};

const aTensorHere: Kind = {
  ...aTensor,
  hint: v => (Array.isArray(v) ? 'give tensors as arguments: new TensorDataset(x, y)' : ''),
};

const numbers: Kind = {
  expected: 'an array of numbers',
  is: v => Array.isArray(v) || (ArrayBuffer.isView(v) && 'length' in v),
};

abstract class Base<T> implements Dataset<T> {
  abstract readonly length: number;
  abstract get(index: number): T;

  /** The dataset of `change(sample)`. */
  map<U>(change: (sample: T, index: number) => U): MappedDataset<T, U> {
    return new MappedDataset(this, change);
  }

  toString(): string {
    return `${nameOf(this)}(${this.length} samples)`;
  }

  toJSON(): string {
    return this.toString();
  }

  [inspect](): string {
    return this.toString();
  }
}

/** The slices of tensors along their first axis, which they share: sample i is `[x[i], y[i], …]`. */
export class TensorDataset<T extends Tensor[]> extends Base<T> {
  static readonly builtIn: string = 'TensorDataset';
  readonly tensors: T;
  readonly length: number;

  constructor(...tensors: T) {
    super();
    tensors.forEach((x, i) => {
      checkArgument('TensorDataset', `tensor ${i}`, x, aTensorHere);
    });
    const length = tensors[0]?.shape[0];
    if (length === undefined || tensors.some(x => x.shape[0] !== length))
      throw new ShapeError(
        'TensorDataset: expected one or more tensors with a common first axis, ' +
          `got ${tensors.map(x => `[${x.shape.join(',')}]`).join(', ') || 'none'}`,
      );
    this.tensors = tensors;
    this.length = length;
  }

  get(index: number): T {
    checkIndex('TensorDataset', index, this.length);
    return this.tensors.map(x => x.slice(index)) as T;
  }

  batch(indices: Int32Array): T {
    checkArgument('TensorDataset', 'indices', indices, numbers);
    for (const index of indices) checkIndex('TensorDataset', index, this.length);
    const chosen = new Map<string, Tensor>();
    return this.tensors.map(x => {
      const there = chosen.get(x.device) ?? tensor(Int32Array.from(indices), { device: x.device });
      chosen.set(x.device, there);
      return x.indexSelect(0, there);
    }) as T;
  }

  override toString(): string {
    const sample = this.tensors.map(x => `${x.dtype}[${x.shape.slice(1).join(',')}]`);
    return `TensorDataset(${this.length} samples [${sample.join(', ')}])`;
  }
}

/** The samples of `dataset` at `indices`, in that order. */
export class Subset<T> extends Base<T> {
  static readonly builtIn: string = 'Subset';
  readonly dataset: Dataset<T>;
  readonly indices: Int32Array;
  readonly batch?: (indices: Int32Array) => T;

  constructor(dataset: Dataset<T>, indices: ArrayLike<number>) {
    super();
    checkArgument('Subset', 'dataset', dataset, aDataset);
    checkArgument('Subset', 'indices', indices, numbers);
    this.dataset = dataset;
    this.indices = Int32Array.from(indices, index => checkIndex('Subset', index, dataset.length));
    if (dataset.batch !== undefined)
      this.batch = chosen => dataset.batch!(chosen.map(i => this.indices[checkIndex('Subset', i, this.length)]!));
  }

  get length(): number {
    return this.indices.length;
  }

  get(index: number): T {
    return this.dataset.get(this.indices[checkIndex('Subset', index, this.length)]!);
  }
}

/** The samples of `dataset` after `change`, which runs each time that a sample is read. */
export class MappedDataset<S, T> extends Base<T> {
  static readonly builtIn: string = 'MappedDataset';
  readonly dataset: Dataset<S>;
  readonly #change: (sample: S, index: number) => T;

  constructor(dataset: Dataset<S>, change: (sample: S, index: number) => T) {
    super();
    checkArgument('MappedDataset', 'dataset', dataset, aDataset);
    checkArgument('MappedDataset', 'change', change, aFunction);
    this.dataset = dataset;
    this.#change = change;
  }

  get length(): number {
    return this.dataset.length;
  }

  get(index: number): T {
    return this.#change(this.dataset.get(index), index);
  }
}

/**
 * Disjoint random subsets of the given lengths, which together are the whole dataset.
 * `rng` defaults to the generator that `manualSeed` seeds.
 */
export function randomSplit<T, const L extends readonly number[]>(
  dataset: Dataset<T>,
  lengths: L,
  rng: Generator = defaultGenerator(),
): { -readonly [K in keyof L]: Subset<T> } {
  checkArgument('randomSplit', 'dataset', dataset, aDataset);
  checkArgument('randomSplit', 'lengths', lengths, numbers);
  checkArgument('randomSplit', 'rng', rng, anInstance(Generator, 'a Generator'));
  const total = lengths.reduce((sum, length) => sum + length, 0);
  if (total !== dataset.length || !Array.from(lengths).every(length => Number.isInteger(length) && length >= 0))
    throw new RangeError(
      `randomSplit: expected lengths that add up to the dataset's ${dataset.length}, got [${lengths.join(', ')}]`,
    );
  const order = rng.permutation(total);
  let start = 0;
  return lengths.map(length => {
    start += length;
    return new Subset(dataset, order.subarray(start - length, start));
  }) as { -readonly [K in keyof L]: Subset<T> };
}

function checkIndex(what: string, index: number, length: number): number {
  if (!Number.isInteger(index) || index < 0 || index >= length)
    throw new RangeError(`${what}: index ${index} is out of range for ${length} samples`);
  return index;
}
