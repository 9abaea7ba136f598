/** Normalisation layers. */

import { type DType, ones, type Tensor, zeros } from '@otimes/core';
import { checkPositive } from './check.ts';
import { layerNorm } from './functional.ts';
import { Module } from './module.ts';
import { Parameter } from './parameter.ts';

/** Mean 0 and variance 1 over the last axes, then a learned scale and shift (Ba et al. 2016). */
export class LayerNorm extends Module {
  /** The shape of the normalised axes, ones at the start. */
  weight: Parameter;
  /** The shape of the normalised axes, zeros at the start. */
  bias: Parameter | null;
  readonly #eps: number;

  /** @param o eps: default 1e-5, added to the variance; bias: default true */
  constructor(shape: number | readonly number[], o: { eps?: number; bias?: boolean; dtype?: DType } = {}) {
    super();
    const axes = typeof shape === 'number' ? [shape] : [...shape];
    checkPositive('LayerNorm', Object.fromEntries(axes.map((length, i) => [`shape[${i}]`, length])));
    const dtype = o.dtype ?? 'float32';
    this.#eps = o.eps ?? 1e-5;
    this.weight = new Parameter(ones(axes, { dtype }));
    this.bias = o.bias === false ? null : new Parameter(zeros(axes, { dtype }));
  }

  override forward(x: Tensor): Tensor {
    return layerNorm(x, this.weight, this.bias, this.#eps);
  }
}
