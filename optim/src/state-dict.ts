/** State dicts of optimizers: numbers in tensors, and a reader that reports all that is wrong with one at once. */

import { describe, type StateDict, sameShape, Tensor, tensor, unscoped, zeros } from '@otimes/core';
import { aStateDict, checkArgument, readsLater, received } from '@otimes/core/extend';

/** A float64 scalar, the form in which numbers stand in a state dict. */
export function scalar(value: number): Tensor {
  return tensor(value, { dtype: 'float64' });
}

/** What a number of a state must be. */
type NumberKind = { readonly expected: string; readonly is: (value: number) => boolean };

/** For `checkNumbers`. */
export const anAmount: NumberKind = { expected: 'one finite number ≥ 0', is: value => value >= 0 };

/**
 * Throws for numbers of a `GradientOptimizer`'s state, under `0.NAME` and so on, that are not of their kinds. That they are finite is
 * for `prepareState`.
 */
export function checkNumbers(name: string, state: StateDict, kinds: Readonly<Record<string, NumberKind>>): void {
  const reader = new StateReader(name, state);
  for (const key of Object.keys(state)) {
    const own = key.slice(key.indexOf('.') + 1);
    if (!Object.hasOwn(kinds, own)) continue;
    const { expected, is } = kinds[own]!;
    const value = reader.number(key);
    if (!is(value)) reader.problem(`does not fit: ${key} expects ${expected}, got ${value}`);
  }
  reader.section('');
  reader.finish();
}

/** Reads a state dict entry by entry and collects what is wrong with it, so that all of it is reported at once. */
export class StateReader {
  readonly #name: string;
  readonly #state: StateDict;
  readonly #read = new Set<string>();
  readonly #problems: string[] = [];

  constructor(name: string, state: StateDict) {
    checkArgument(`${name}.loadStateDict`, 'state', state, aStateDict);
    const far = Object.values(state).find(value => value instanceof Tensor && readsLater(value));
    if (far !== undefined)
      throw new TypeError(
        `${name}.loadStateDict: expected tensors whose values can be checked at once, got some on '${far.device}': ` +
          'load await readStateDict(state)',
      );
    this.#name = name;
    this.#state = state;
  }

  has(key: string): boolean {
    return Object.hasOwn(this.#state, key);
  }

  /** The finite number under `key`; 0, and a problem noted, where there is none. */
  number(key: string): number {
    return this.#number(key, 'one finite number', Number.isFinite);
  }

  /** A counter: an integer ≥ 0. */
  count(key: string): number {
    return this.#number(key, 'one integer ≥ 0', value => Number.isInteger(value) && value >= 0);
  }

  /** A learning rate: a finite number ≥ 0. */
  rate(key: string): number {
    return this.#number(key, 'one finite number ≥ 0', value => value >= 0 && value < Infinity);
  }

  #number(key: string, expected: string, is: (value: number) => boolean): number {
    const value = this.#take(key);
    if (value === null) return 0;
    const number = value.size === 1 ? value.item() : Number.NaN;
    if (is(number)) return number;
    const got = value.size === 1 ? number : describe(value);
    this.#problems.push(`does not fit: ${key} expects ${expected}, got ${got}`);
    return 0;
  }

  /**
   * A copy of the tensor under `key`, which must be like `like`, on the device of that. Its elements must be finite and
   * ≥ `least`, which is -Infinity by default; with null they may be anything.
   */
  tensor(
    key: string,
    like: { shape: readonly number[]; dtype: Tensor['dtype']; device?: string },
    least: number | null = -Infinity,
  ): Tensor {
    const value = this.#take(key);
    const fits = value !== null && value.dtype === like.dtype && sameShape(value.shape, like.shape);
    if (value !== null && !fits)
      this.#problems.push(`does not fit: ${key} expects ${describe(like)}, got ${describe(value)}`);
    if (fits && least !== null) {
      const data = value.dataSync();
      if (!data.every(Number.isFinite)) this.#problems.push(`does not fit: ${key} has elements that are not finite`);
      else if (!data.every(one => one >= least))
        this.#problems.push(`does not fit: ${key} has elements below ${least}`);
    }
    return fits
      ? unscoped(() =>
          value
            .detach()
            .clone()
            .to(like.device ?? value.device),
        )
      : zeros([]);
  }

  /** The entries whose keys start with `prefix`, without it. */
  section(prefix: string): StateDict {
    const section: StateDict = {};
    for (const [key, value] of Object.entries(this.#state))
      if (key.startsWith(prefix)) {
        section[key.slice(prefix.length)] = value;
        this.#read.add(key);
      }
    return section;
  }

  get hasProblems(): boolean {
    return this.#problems.length > 0;
  }

  problem(text: string): void {
    this.#problems.push(text);
  }

  /** Throws one error for all problems, entries that nobody asked for among them. */
  finish(): void {
    for (const [key, value] of Object.entries(this.#state))
      if (!this.#read.has(key)) this.#problems.push(`unexpected: ${key} ${received(value)}`);
    const some = this.#problems.length === 1 ? '1 entry is' : `${this.#problems.length} entries are`;
    if (this.#problems.length > 0)
      throw new Error(
        `${this.#name}.loadStateDict: nothing was loaded, since ${some} wrong\n  ${this.#problems.join('\n  ')}`,
      );
  }

  #take(key: string): Tensor | null {
    this.#read.add(key);
    if (!this.has(key)) {
      this.#problems.push(`missing: ${key}`);
      return null;
    }
    const value: unknown = this.#state[key];
    if (value instanceof Tensor && !value.storage.released) return value;
    this.#problems.push(
      value instanceof Tensor
        ? `released: ${key} ${describe(value)} has no values any more`
        : `does not fit: ${key} expects a tensor, got ${received(value)}`,
    );
    return null;
  }
}
