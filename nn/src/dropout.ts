/** Dropout (Srivastava et al. 2014). */

import type { Generator, Tensor } from '@otimes/core';
import { checkArgument, checkOptions } from '@otimes/core/extend';
import { aShare, PLACEMENT, type Placement } from './check.ts';
import { dropout } from './functional.ts';
import { Module } from './module.ts';

/**
 * In training, zeroes elements with probability p (default 0.5) and scales the rest by 1/(1−p); else the identity. Of the options
 * `rng` alone matters: it draws.
 */
export class Dropout extends Module {
  static readonly builtIn: string = 'Dropout';
  readonly p: number;
  readonly #rng: Generator | undefined;

  constructor(p = 0.5, o: Placement = {}) {
    super();
    checkArgument('Dropout', 'p', p, aShare);
    checkOptions('Dropout', o, PLACEMENT);
    this.p = p;
    this.#rng = o.rng;
  }

  override forward(x: Tensor): Tensor {
    return dropout(x, this.p, this.training, this.#rng);
  }
}
