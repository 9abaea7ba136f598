/** Normalisation within an example: mean 0 and variance 1 over some of its axes, then a learned scale and shift. */

import { ones, type Tensor, zeros } from '@otimes/core';
import { aBoolean, anEps, checkArgument, checkOptions, type Kind } from '@otimes/core/extend';
import { checkPositive, PLACEMENT, type Placement, withoutRng } from '../check.ts';
import { groupNorm, layerNorm } from '../functional.ts';
import { Module } from '../module.ts';
import { Parameter } from '../parameter.ts';

const aSizeOrSizes: Kind = {
  expected: 'a size or an array of sizes',
  is: v => typeof v === 'number' || Array.isArray(v),
};
const OPTIONS = { eps: anEps, ...PLACEMENT };

/** Over the last axes (Ba et al. 2016). */
export class LayerNorm extends Module {
  static readonly builtIn: string = 'LayerNorm';
  static override readonly tensors: readonly string[] = ['weight', 'bias'];
  /** The shape of the normalised axes, initially ones. */
  weight: Parameter;
  /** The shape of the normalised axes, initially zeros. */
  bias: Parameter | null;
  readonly eps: number;

  /** @param o eps: default 1e-5, added to the variance; bias: default true */
  constructor(shape: number | readonly number[], o: { eps?: number; bias?: boolean } & Placement = {}) {
    super();
    checkArgument('LayerNorm', 'shape', shape, aSizeOrSizes);
    checkOptions('LayerNorm', o, { bias: aBoolean, ...OPTIONS });
    const axes = typeof shape === 'number' ? [shape] : [...shape];
    checkPositive('LayerNorm', Object.fromEntries(axes.map((length, i) => [`shape[${i}]`, length])));
    const at = withoutRng(o);
    this.eps = o.eps ?? 1e-5;
    this.weight = new Parameter(ones(axes, at));
    this.bias = o.bias === false ? null : new Parameter(zeros(axes, at));
  }

  override forward(x: Tensor): Tensor {
    return layerNorm(x, this.weight, this.bias, this.eps);
  }
}

/** Over the positions and the channels of each group of x [N, C, …] (Wu & He 2018). */
export class GroupNorm extends Module {
  static readonly builtIn: string = 'GroupNorm';
  static override readonly tensors: readonly string[] = ['weight', 'bias'];
  /** [channels], initially ones */
  weight: Parameter;
  /** [channels], initially zeros */
  bias: Parameter;
  readonly groups: number;
  readonly eps: number;

  /** @param o eps: default 1e-5, added to the variance */
  constructor(groups: number, channels: number, o: { eps?: number } & Placement = {}) {
    super();
    checkOptions('GroupNorm', o, OPTIONS);
    checkPositive('GroupNorm', { groups, channels });
    if (channels % groups !== 0)
      throw new RangeError(`GroupNorm: expected groups to divide the channels, got ${groups} for ${channels}`);
    const at = withoutRng(o);
    this.groups = groups;
    this.eps = o.eps ?? 1e-5;
    this.weight = new Parameter(ones([channels], at));
    this.bias = new Parameter(zeros([channels], at));
  }

  override forward(x: Tensor): Tensor {
    return groupNorm(x, this.groups, this.weight, this.bias, this.eps);
  }
}
