/** Normalisation by the root of the mean square. */

import { describe, ones, owningIntermediates, ShapeError, sameShape, type Tensor } from '@otimes/core';
import { aBoolean, anEps, aTensor, checkArgument, checkOptions, type Kind, orNull } from '@otimes/core/extend';
import { checkPositive, PLACEMENT, type Placement, withoutRng } from '../check.ts';
import { Module } from '../module.ts';
import { Parameter } from '../parameter.ts';

const aSizeOrSizes: Kind = {
  expected: 'a size or an array of sizes',
  is: v => typeof v === 'number' || Array.isArray(v),
};

/**
 * x / √(mean of x² + eps) · weight over the last axes (Zhang & Sennrich 2019).
 *
 * @param shape of those axes
 * @param weight of that shape, or null (default) for none
 * @param eps default: the precision of the dtype, 1.2e-7 or 2.2e-16, as in PyTorch
 */
export function rmsNorm(
  x: Tensor,
  shape: readonly number[],
  weight: Tensor | null = null,
  eps: number | null = null,
): Tensor {
  checkArgument('rmsNorm', 'x', x, aTensor);
  checkArgument('rmsNorm', 'shape', shape, { expected: 'an array of sizes', is: Array.isArray });
  checkArgument('rmsNorm', 'weight', weight, orNull(aTensor));
  checkArgument('rmsNorm', 'eps', eps, orNull(anEps));
  if (shape.length === 0 || !sameShape(x.shape.slice(-shape.length), shape) || !x.dtype.startsWith('float'))
    throw new ShapeError(`rmsNorm: expected a floating input [..., ${shape.join(', ')}], got ${describe(x)}`);
  if (weight !== null && !sameShape(weight.shape, shape))
    throw new ShapeError(`rmsNorm: expected a weight [${shape.join(', ')}], got ${describe(weight)}`);
  const precision = x.dtype === 'float64' ? Number.EPSILON : 2 ** -23;
  return owningIntermediates(() => {
    const axes = shape.map((_, i) => x.rank - shape.length + i);
    const mean = x.square().mean(axes, { keepdim: true });
    const y = x.div(mean.add(eps ?? precision).sqrt());
    return weight === null ? y : y.mul(weight);
  });
}

/** `rmsNorm` with a weight that is trained. */
export class RMSNorm extends Module {
  static readonly builtIn: string = 'RMSNorm';
  static override readonly tensors: readonly string[] = ['weight'];
  /** The shape of the normalised axes, initially ones; null without elementwiseAffine. */
  weight: Parameter | null;
  readonly shape: readonly number[];
  readonly eps: number | null;

  /** @param o eps: default the precision of the dtype; elementwiseAffine: whether there is a weight, default true */
  constructor(
    shape: number | readonly number[],
    o: { eps?: number | null; elementwiseAffine?: boolean } & Placement = {},
  ) {
    super();
    checkArgument('RMSNorm', 'shape', shape, aSizeOrSizes);
    checkOptions('RMSNorm', o, { eps: orNull(anEps), elementwiseAffine: aBoolean, ...PLACEMENT });
    this.shape = typeof shape === 'number' ? [shape] : [...shape];
    checkPositive('RMSNorm', Object.fromEntries(this.shape.map((length, i) => [`shape[${i}]`, length])));
    this.eps = o.eps ?? null;
    this.weight = o.elementwiseAffine === false ? null : new Parameter(ones(this.shape, withoutRng(o)));
  }

  override forward(x: Tensor): Tensor {
    return rmsNorm(x, this.shape, this.weight, this.eps);
  }
}
