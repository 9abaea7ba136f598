/** A table of vectors. */

import type { Tensor } from '@otimes/core';
import { checkOptions } from '@otimes/core/extend';
import { checkPositive, PLACEMENT, type Placement } from './check.ts';
import { embedding } from './functional.ts';
import { normal } from './init.ts';
import { Module } from './module.ts';
import { Parameter } from './parameter.ts';

/** int32 indices [...] → their rows [..., dim]. Rows are standard normal initially. */
export class Embedding extends Module {
  static readonly builtIn: string = 'Embedding';
  static override readonly tensors: readonly string[] = ['weight'];
  /** [count, dim] */
  weight: Parameter;

  constructor(count: number, dim: number, o: Placement = {}) {
    super();
    checkPositive('Embedding', { count, dim });
    checkOptions('Embedding', o, PLACEMENT);
    this.weight = new Parameter(normal([count, dim], 1, o));
  }

  override forward(indices: Tensor): Tensor {
    return embedding(indices, this.weight);
  }
}
