/** The fully connected layer. */

import type { Shape, Tensor } from '@otimes/core';
import { aBoolean, checkOptions } from '@otimes/core/extend';
import { checkPositive, PLACEMENT, type Placement } from './check.ts';
import { linear } from './functional.ts';
import { type InitOptions, uniform } from './init.ts';
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
    const within = (bound: number) => (s: Shape, at: InitOptions) => uniform(s, -bound, bound, at);
    // `kaimingUniform` with the gain 1/√3 to the last bit, without its code.
    this.weight = drawn('Linear', 'weight', [dOut, dIn], o, within((1 / Math.sqrt(3)) * Math.sqrt(3 / dIn)));
    this.bias = o.bias === false ? null : drawn('Linear', 'bias', [dOut], o, within(1 / Math.sqrt(dIn)));
  }

  override forward(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias);
  }
}
