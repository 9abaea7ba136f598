/** Dropout (Srivastava et al. 2014). */

import type { Generator, Tensor } from '@otimes/core';
import { checkArgument, checkOptions } from '@otimes/core/extend';
import { aProbability, PLACEMENT, type Placement } from './check.ts';
import { dropout } from './functional.ts';
import { Module } from './module.ts';

/**
 * In training, zeroes elements with probability p (default 0.5) and scales the others by 1/(1−p); in evaluation the identity.
 * Of the options only `rng` has an effect: it draws what is dropped. The mask is made on the device of x.
 */
export class Dropout extends Module {
  static readonly builtIn: string = 'Dropout';
  readonly p: number;
  readonly #rng: Generator | undefined;

  constructor(p = 0.5, o: Placement = {}) {
    super();
    checkArgument('Dropout', 'p', p, aProbability);
    checkOptions('Dropout', o, PLACEMENT);
    this.p = p;
    this.#rng = o.rng;
  }

  override forward(x: Tensor): Tensor {
    return dropout(x, this.p, this.training, this.#rng);
  }
}
