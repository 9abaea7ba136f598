/** A table of vectors. */

import type { DType, Generator, Tensor } from '@otimes/core';
import { checkPositive } from './check.ts';
import { embedding } from './functional.ts';
import { normal } from './init.ts';
import { Module } from './module.ts';
import { Parameter } from './parameter.ts';

/** int32 indices [...] → their rows [..., dim]. Rows start standard normal. */
export class Embedding extends Module {
  static override readonly name: string = 'Embedding';
  /** [count, dim] */
  weight: Parameter;

  constructor(count: number, dim: number, o: { rng?: Generator; dtype?: DType } = {}) {
    super();
    checkPositive('Embedding', { count, dim });
    this.weight = new Parameter(normal([count, dim], 1, o));
  }

  override keepsTensors(): boolean {
    return false;
  }

  override forward(indices: Tensor): Tensor {
    return embedding(indices, this.weight);
  }
}
