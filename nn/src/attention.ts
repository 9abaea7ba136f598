/** Self-attention (Vaswani et al. 2017). */

import { describe, ShapeError, Tensor } from '@otimes/core';
import { aBoolean, aTensor, checkArgument, checkOptions } from '@otimes/core/extend';
import { insides } from './calls.ts';
import { aProbability, checkPositive, PLACEMENT, type Placement, placed } from './check.ts';
import { Dropout } from './dropout.ts';
import { attentionWeights } from './functional.ts';
import { Linear } from './linear.ts';
import { Module } from './module.ts';

export type AttentionOptions = Placement & {
  /** Of the four linear layers; default true. */
  bias?: boolean;
  /** Probability of dropping an attention weight in training; default 0. */
  dropout?: number;
};

/**
 * Each position of x [B, T, dModel] attends to all positions: softmax(q kᵀ / √dHead) v in each head, then the linear map
 * `o`; [B, T, dModel] again. Head h has the features h·dHead … (h+1)·dHead−1 of q, k and v, as in PyTorch.
 *
 * The optional `mask` is bool, [T, T] or [B, T, T]: true where position t (the row) may attend to position s (the column).
 * `const t = arange(T); t.unsqueeze(1).ge(t)` is the causal one. A position that may attend to nothing gets NaN.
 */
export class MultiHeadAttention extends Module<[x: Tensor, mask?: Tensor]> {
  static readonly builtIn: string = 'MultiHeadAttention';
  readonly q: Linear;
  readonly k: Linear;
  readonly v: Linear;
  readonly o: Linear;
  readonly dropout: Dropout;
  readonly heads: number;

  constructor(dModel: number, heads: number, o: AttentionOptions = {}) {
    super();
    checkOptions('MultiHeadAttention', o, { bias: aBoolean, dropout: aProbability, ...PLACEMENT });
    checkPositive('MultiHeadAttention', { dModel, heads });
    if (dModel % heads !== 0)
      throw new RangeError(`MultiHeadAttention: expected heads to divide dModel, got ${heads} for ${dModel}`);
    this.heads = heads;
    const linear = () => new Linear(dModel, dModel, { bias: o.bias ?? true, ...placed(o) });
    this.q = linear();
    this.k = linear();
    this.v = linear();
    this.o = linear();
    this.dropout = new Dropout(o.dropout ?? 0, placed(o));
  }

  override forward(x: Tensor, mask?: Tensor): Tensor {
    const dModel = this.q.weight.shape[1]!;
    if (x.rank !== 3 || x.shape[2] !== dModel)
      throw new ShapeError(`MultiHeadAttention: expected an input [B, T, ${dModel}], got ${describe(x)}`);
    const [batch, length] = x.shape as [number, number, number];
    return insides(this, () => {
      // [B, T, dModel] → [B, heads, T, dHead]
      const split = (t: Tensor) => t.reshape([batch, length, this.heads, dModel / this.heads]).permute(0, 2, 1, 3);
      const [q, k, v] = [this.q, this.k, this.v].map(layer => split(layer.call(x)));
      const weights = attentionWeights(q!, k!, mask && this.#mask(mask, batch, length));
      const heads = this.dropout.call(weights).matmul(v!);
      return this.o.call(heads.permute(0, 2, 1, 3).reshape([batch, length, dModel]));
    });
  }

  /** [T, T], or [B, 1, T, T] as it broadcasts over the heads. */
  #mask(mask: Tensor, batch: number, length: number): Tensor {
    if (!(mask instanceof Tensor)) checkArgument('MultiHeadAttention', 'mask', mask, aTensor);
    const shape = mask.rank === 3 ? [batch, length, length] : [length, length];
    if (mask.shape.join() !== shape.join())
      throw new ShapeError(
        `MultiHeadAttention: expected a mask [${length}, ${length}] or [${batch}, ${length}, ${length}], ` +
          `got ${describe(mask)}`,
      );
    return mask.rank === 3 ? mask.unsqueeze(1) : mask;
  }
}
