/** Taking a step back. */

import type { Tensor } from '@otimes/core';
import { held } from '@otimes/core/extend';

/** Copies of what is about to change. */
export class Journal {
  readonly #values = new Map<Tensor, Tensor>();
  readonly #undo: (() => void)[] = [];
  readonly #copies: Tensor[] = [];
  readonly #outlives: boolean;

  /** @param outlives whether it is restored after the scope in which it was made: then `release` gives the copies back */
  constructor({ outlives = false }: { readonly outlives?: boolean } = {}) {
    this.#outlives = outlives;
  }

  /** Remembers the elements of a tensor that will be written to. */
  save(x: Tensor): void {
    if (!this.#values.has(x)) this.#values.set(x, this.copy(x.detach().clone()));
  }

  /** Lets a copy, that something in `after` needs, live as long as the journal. */
  copy(x: Tensor): Tensor {
    if (this.#outlives) this.#copies.push(held(x));
    return x;
  }

  /** Runs after the elements are back. */
  after(undo: () => void): void {
    this.#undo.push(undo);
  }

  /** Puts everything back, bit for bit; once. What it has held goes back as well. */
  restore(): void {
    for (const [x, value] of this.#values) x.copy_(value);
    for (const undo of this.#undo) undo();
    this.#values.clear();
    this.#undo.length = 0;
    this.release();
  }

  /** Gives back what it has held. */
  release(): void {
    for (const x of this.#copies) x.storage.release();
    this.#copies.length = 0;
  }
}
