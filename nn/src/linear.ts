/** The fully connected layer. */

import type { Tensor } from '@otimes/core';
import { aBoolean, checkOptions } from '@otimes/core/extend';
import { checkPositive, PLACEMENT, type Placement } from './check.ts';
import { linear } from './functional.ts';
import { kaimingUniform, uniform } from './init.ts';
import { anInitial, drawn, type Initial } from './initial.ts';
import { Module } from './module.ts';
import type { Parameter } from './parameter.ts';

/** y = x Wᵀ + b for x [..., dIn]. Weights and bias start uniform in ±1/√dIn, as in PyTorch. */
export class Linear extends Module {
  static readonly builtIn: string = 'Linear';
  static override readonly tensors: readonly string[] = ['weight', 'bias'];
  /** [dOut, dIn] */
  weight: Parameter;
  /** [dOut] */
  bias: Parameter | null;

  /**
   * @param o bias: default true; init: makes the weight, or { weight, bias }; rng: default the global one; dtype: default float32;
   * device: default 'cpu'
   */
  constructor(dIn: number, dOut: number, o: { bias?: boolean; init?: Initial } & Placement = {}) {
    super();
    checkPositive('Linear', { dIn, dOut });
    checkOptions('Linear', o, { bias: aBoolean, init: anInitial, ...PLACEMENT });
    const bound = 1 / Math.sqrt(dIn);
    this.weight = drawn('Linear', 'weight', [dOut, dIn], o, (s, at) =>
      kaimingUniform(s, { ...at, gain: 1 / Math.sqrt(3) }),
    );
    this.bias = o.bias === false ? null : drawn('Linear', 'bias', [dOut], o, (s, at) => uniform(s, -bound, bound, at));
  }

  override forward(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias);
  }
}
