/** A layer of two inputs. */

import { describe, owningIntermediates, ShapeError, sameShape, type Tensor } from '@otimes/core';
import { aBoolean, aTensor, checkArgument, checkOptions, orNull } from '@otimes/core/extend';
import { checkPositive, PLACEMENT, type Placement, placed } from './check.ts';
import { uniform } from './init.ts';
import { Module } from './module.ts';
import { Parameter } from './parameter.ts';

/** y_k = x1ᵀ W_k x2 + b_k for x1 [..., d1], x2 [..., d2], weight W [dOut, d1, d2] and bias [dOut] or null (default). */
export function bilinear(x1: Tensor, x2: Tensor, weight: Tensor, bias: Tensor | null = null): Tensor {
  for (const [name, x] of Object.entries({ x1, x2, weight })) checkArgument('bilinear', name, x, aTensor);
  checkArgument('bilinear', 'bias', bias, orNull(aTensor));
  if (weight.rank !== 3) throw new ShapeError(`bilinear: expected a weight [dOut, d1, d2], got ${describe(weight)}`);
  const [dOut, d1, d2] = weight.shape as [number, number, number];
  const lead = x1.shape.slice(0, -1);
  if (x1.rank === 0 || !sameShape(x1.shape, [...lead, d1]) || !sameShape(x2.shape, [...lead, d2]))
    throw new ShapeError(
      `bilinear: expected inputs [..., ${d1}] and [..., ${d2}], got ${describe(x1)} and ${describe(x2)}`,
    );
  if (bias !== null && !sameShape(bias.shape, [dOut]))
    throw new ShapeError(`bilinear: expected a bias [${dOut}], got ${describe(bias)}`);
  return owningIntermediates(() => {
    const rows = lead.reduce((product, n) => product * n, 1);
    const partial = x1.reshape([rows, d1]).matmul(weight.permute(1, 0, 2).reshape([d1, dOut * d2]));
    const y = partial
      .reshape([rows, dOut, d2])
      .mul(x2.reshape([rows, 1, d2]))
      .sum(2)
      .reshape([...lead, dOut]);
    return bias === null ? y : y.add(bias);
  });
}

/** `bilinear` with weight and bias that start uniform in ±1/√d1, as in PyTorch. */
export class Bilinear extends Module<[x1: Tensor, x2: Tensor]> {
  static readonly builtIn: string = 'Bilinear';
  static override readonly tensors: readonly string[] = ['weight', 'bias'];
  /** [dOut, d1, d2] */
  weight: Parameter;
  /** [dOut] */
  bias: Parameter | null;

  /** @param o bias: default true; rng: default the global one; dtype: default float32; device: default 'cpu' */
  constructor(d1: number, d2: number, dOut: number, o: { bias?: boolean } & Placement = {}) {
    super();
    checkPositive('Bilinear', { d1, d2, dOut });
    checkOptions('Bilinear', o, { bias: aBoolean, ...PLACEMENT });
    const bound = 1 / Math.sqrt(d1);
    this.weight = new Parameter(uniform([dOut, d1, d2], -bound, bound, placed(o)));
    this.bias = o.bias === false ? null : new Parameter(uniform([dOut], -bound, bound, placed(o)));
  }

  override forward(x1: Tensor, x2: Tensor): Tensor {
    return bilinear(x1, x2, this.weight, this.bias);
  }
}
