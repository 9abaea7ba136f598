/** State dicts of optimizers: numbers in tensors, and a reader that reports all that is wrong with one at once. */

import { describe, type StateDict, sameShape, type Tensor, tensor, unscoped, zeros } from '@otimes/core';

/** A float64 scalar, the form in which numbers stand in a state dict. */
export function scalar(value: number): Tensor {
  return tensor(value, { dtype: 'float64' });
}

/** Reads a state dict entry by entry and collects what is wrong with it, so that all of it is reported at once. */
export class StateReader {
  readonly #name: string;
  readonly #state: StateDict;
  readonly #read = new Set<string>();
  readonly #problems: string[] = [];

  constructor(name: string, state: StateDict) {
    this.#name = name;
    this.#state = state;
  }

  has(key: string): boolean {
    return Object.hasOwn(this.#state, key);
  }

  /** The number under `key`; 0, and a problem noted, where there is none. */
  number(key: string): number {
    const value = this.#take(key);
    if (value === null) return 0;
    if (value.size === 1) return value.item();
    this.#problems.push(`does not fit: ${key} expects one number, got ${describe(value)}`);
    return 0;
  }

  /** A copy of the tensor under `key`, which must be like `like`. */
  tensor(key: string, like: { shape: readonly number[]; dtype: Tensor['dtype']; device?: string }): Tensor {
    const value = this.#take(key);
    const fits = value !== null && value.dtype === like.dtype && sameShape(value.shape, like.shape);
    if (value !== null && !fits)
      this.#problems.push(`does not fit: ${key} expects ${describe(like)}, got ${describe(value)}`);
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

  problem(text: string): void {
    this.#problems.push(text);
  }

  /** Throws one error for all problems, entries that nobody asked for among them. */
  finish(): void {
    for (const [key, value] of Object.entries(this.#state))
      if (!this.#read.has(key)) this.#problems.push(`unexpected: ${key} ${describe(value)}`);
    if (this.#problems.length > 0)
      throw new Error(
        `${this.#name}.loadStateDict: nothing was loaded, since ${this.#problems.length} entries are wrong\n  ` +
          this.#problems.join('\n  '),
      );
  }

  #take(key: string): Tensor | null {
    this.#read.add(key);
    const value = this.has(key) ? this.#state[key] : undefined;
    if (value === undefined) this.#problems.push(`missing: ${key}`);
    return value ?? null;
  }
}
