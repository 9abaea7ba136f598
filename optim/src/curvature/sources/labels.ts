/** The generators of the labels that the sampled Fisher draws. */

import { Generator } from '@otimes/core';
import type { Communicator } from '../communicator.ts';

/**
 * What a program gave, in a process that trains alone. Of several processes each draws from a stream of its own, which follows from
 * the state that they have in common; that one goes on by one number a step, and is what they save.
 */
export class Labels {
  /** The same in all processes. */
  readonly common: Generator;
  /** Draws the labels of this process. */
  readonly own: Generator;
  readonly #rank: number;

  constructor(common: Generator, { rank, size }: Communicator) {
    this.common = common;
    this.own = size === 1 ? common : new Generator(0);
    this.#rank = rank;
    this.#branch();
  }

  /** After a step. */
  next(): void {
    if (this.own === this.common) return;
    this.common.bits();
    this.#branch();
  }

  /** Takes over a state of `common`. */
  setState(state: ArrayLike<number>): void {
    this.common.setState(state);
    this.#branch();
  }

  #branch(): void {
    if (this.own === this.common) return;
    const trunk = new Generator(0);
    trunk.setState(this.common.getState());
    for (let rank = 0; rank < this.#rank; rank++) trunk.split();
    this.own.setState(trunk.split().getState());
  }
}
