/** The fully connected layer. */

import type { DType, Generator, Tensor } from '@otimes/core';
import { checkPositive } from './check.ts';
import { linear } from './functional.ts';
import { kaimingUniform, uniform } from './init.ts';
import { Module } from './module.ts';
import { Parameter } from './parameter.ts';

/** y = x Wᵀ + b for x [..., dIn]. Weights and bias start uniform in ±1/√dIn, as in PyTorch. */
export class Linear extends Module {
  static override readonly name: string = 'Linear';
  /** [dOut, dIn] */
  weight: Parameter;
  /** [dOut] */
  bias: Parameter | null;

  /** @param o bias: default true; rng: default the global one; dtype: default float32 */
  constructor(dIn: number, dOut: number, o: { bias?: boolean; rng?: Generator; dtype?: DType } = {}) {
    super();
    checkPositive('Linear', { dIn, dOut });
    const bound = 1 / Math.sqrt(dIn);
    this.weight = new Parameter(kaimingUniform([dOut, dIn], { ...o, gain: 1 / Math.sqrt(3) }));
    this.bias = o.bias === false ? null : new Parameter(uniform([dOut], -bound, bound, o));
  }

  override keepsTensors(): boolean {
    return false;
  }

  override forward(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias);
  }
}
