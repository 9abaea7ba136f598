/** The fully connected layer. */

import type { Tensor } from '@otimes/core';
import { aBoolean, checkOptions } from '@otimes/core/extend';
import { checkPositive, PLACEMENT, type Placement, placed } from './check.ts';
import { linear } from './functional.ts';
import { kaimingUniform, uniform } from './init.ts';
import { Module } from './module.ts';
import { Parameter } from './parameter.ts';

/** y = x Wᵀ + b for x [..., dIn]. Weights and bias start uniform in ±1/√dIn, as in PyTorch. */
export class Linear extends Module {
  static readonly builtIn: string = 'Linear';
  static override readonly tensors: readonly string[] = ['weight', 'bias'];
  /** [dOut, dIn] */
  weight: Parameter;
  /** [dOut] */
  bias: Parameter | null;

  /** @param o bias: default true; rng: default the global one; dtype: default float32; device: default 'cpu' */
  constructor(dIn: number, dOut: number, o: { bias?: boolean } & Placement = {}) {
    super();
    checkPositive('Linear', { dIn, dOut });
    checkOptions('Linear', o, { bias: aBoolean, ...PLACEMENT });
    const [bound, at] = [1 / Math.sqrt(dIn), placed(o)];
    this.weight = new Parameter(kaimingUniform([dOut, dIn], { ...at, gain: 1 / Math.sqrt(3) }));
    this.bias = o.bias === false ? null : new Parameter(uniform([dOut], -bound, bound, at));
  }

  override forward(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias);
  }
}
