/** Dropout (Srivastava et al. 2014). */

import type { Generator, Tensor } from '@otimes/core';
import { dropout } from './functional.ts';
import { Module } from './module.ts';

/** In training, zeroes elements with probability p (default 0.5) and scales the rest by 1/(1−p); else the identity. */
export class Dropout extends Module {
  static override readonly name: string = 'Dropout';
  readonly p: number;
  readonly #rng: Generator | undefined;

  constructor(p = 0.5, o: { rng?: Generator } = {}) {
    super();
    if (!(p >= 0 && p < 1)) throw new RangeError(`Dropout: expected a probability 0 ≤ p < 1, got ${p}`);
    this.p = p;
    this.#rng = o.rng;
  }

  override keepsTensors(): boolean {
    return false;
  }

  override forward(x: Tensor): Tensor {
    return dropout(x, this.p, this.training, this.#rng);
  }
}
