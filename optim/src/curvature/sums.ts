/** What one backward pass, or several, has brought of a layer: sums, and samples that are kept. */

import type { Tensor } from '@otimes/core';
import { held } from '@otimes/core/extend';
import { type Basis, type Kept, type Squares, squaresOf, squaresWithin } from './squares.ts';

/** The examples of one call of the model in one pass. */
export type Examples = {
  /** The layer's first axis. */
  readonly batch: number;
  readonly samples: Kept[];
  /** 'reduce': sums over the positions, how many there were, and how many examples count. */
  open: { readonly a: Tensor; readonly gs: readonly Tensor[]; positions: number; readonly examples: number } | null;
};

/** Sums over one backward pass, or several. */
export class Sums {
  batch = 0;
  /** Whether a gradient came to any use. */
  isReached = false;
  rows = 0;
  /** How many of these are padding, where only values of the device tell. */
  padding: Tensor | null = null;
  A: Tensor | null = null;
  G: Tensor | null = null;
  expandedG: Tensor | null = null;
  /** Whether G of 'reduce' vanished in all of them. On a device that is read with await `remains` says the opposite. */
  vanished = true;
  remains: Tensor | null = null;
  /** By call of the model. */
  readonly calls = new Map<number, Examples>();
  /** Kept samples of the calls that are closed, and none that is empty. */
  samples: (readonly Kept[])[] = [];
  /** Σ_b (UGᵀ D_b UA)² of samples that are not kept any more. */
  squares: Squares | null = null;
  last: Examples | null = null;
  /** Of `further` uses: rows, A and G. */
  further: Sums | null = null;

  /** Gives all of it back. */
  release(): void {
    const calls = [...this.calls.values()];
    const samples = [...this.samples, ...calls.map(one => one.samples)].flat();
    const open = calls.flatMap(one => one.open ?? []);
    for (const { a, gs } of [...samples, ...open]) for (const x of [a, ...gs]) x.storage.release();
    this.further?.release();
    for (const x of [this.A, this.G, this.expandedG, this.padding, this.remains, this.squares?.sum])
      x?.storage.release();
  }

  /** Puts the samples' squares in a basis in the place of the samples. */
  reduce(basis: Basis): void {
    if (this.samples.length === 0) return;
    for (const uses of this.samples)
      this.squares = { basis, sum: plus(this.squares && squaresWithin(this.squares, basis), squaresOf(uses, basis)) };
    for (const { a, gs } of this.samples.flat()) for (const x of [a, ...gs]) x.storage.release();
    this.samples = [];
  }
}

export const either = (before: Tensor | null, now: Tensor): Tensor =>
  held(before === null ? now : before.logicalOr(now));

export const plus = (sum: Tensor | null, term: Tensor): Tensor => (sum === null ? held(term) : sum.addScaled_(term, 1));
