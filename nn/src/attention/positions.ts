/** Positions as sinusoids (Vaswani et al. 2017, section 3.5). */

import { describe, ShapeError, type Tensor, tensor } from '@otimes/core';
import { aBoolean, checkOptions } from '@otimes/core/extend';
import { insides } from '../calls.ts';
import { aProbability, checkPositive, PLACEMENT, type Placement, placed } from '../check.ts';
import { Dropout } from '../dropout.ts';
import { Module } from '../module.ts';

/**
 * x + p, where position t has p[2i] = sin(t · 10000^(−2i/dModel)) and p[2i + 1] the cosine of the same; then dropout. It has no
 * parameters and takes sequences of any length.
 */
export class PositionalEncoding extends Module {
  static readonly builtIn: string = 'PositionalEncoding';
  readonly dModel: number;
  readonly batchFirst: boolean;
  readonly dropout: Dropout;

  /** @param o dropout: default 0.1; batchFirst: whether x is [B, T, dModel], default false: [T, B, dModel]. Of the rest, `rng` drops */
  constructor(dModel: number, o: { dropout?: number; batchFirst?: boolean } & Placement = {}) {
    super();
    checkPositive('PositionalEncoding', { dModel });
    checkOptions('PositionalEncoding', o, { dropout: aProbability, batchFirst: aBoolean, ...PLACEMENT });
    this.dModel = dModel;
    this.batchFirst = o.batchFirst ?? false;
    this.dropout = new Dropout(o.dropout ?? 0.1, placed(o));
  }

  override forward(x: Tensor): Tensor {
    const { dModel, batchFirst } = this;
    if (x.rank !== 3 || x.shape[2] !== dModel)
      throw new ShapeError(
        `PositionalEncoding: expected an input [${batchFirst ? 'B, T' : 'T, B'}, ${dModel}], got ${describe(x)}`,
      );
    const length = x.shape[batchFirst ? 1 : 0]!;
    const values = Float64Array.from({ length: length * dModel }, (_, at) => {
      const [t, i] = [Math.floor(at / dModel), at % dModel];
      const angle = t * 10000 ** (-(i - (i % 2)) / dModel);
      return i % 2 === 0 ? Math.sin(angle) : Math.cos(angle);
    });
    const shape = batchFirst ? [length, dModel] : [length, 1, dModel];
    return insides(this, () => this.dropout.call(x.add(tensor(values, { shape, dtype: x.dtype, device: x.device }))));
  }
}
