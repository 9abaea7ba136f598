/** Self-attention (Vaswani et al. 2017). */

import { attention, describe, ShapeError, Tensor } from '@otimes/core';
import { aBoolean, aTensor, checkArgument, checkOptions } from '@otimes/core/extend';
import { AttentionDropout, isIdle } from './attention-dropout.ts';
import { insides } from './calls.ts';
import { aProbability, checkPositive, PLACEMENT, type Placement, placed } from './check.ts';
import type { Dropout } from './dropout.ts';
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
    this.dropout = new AttentionDropout(o.dropout ?? 0, placed(o));
  }

  override forward(x: Tensor, mask?: Tensor): Tensor {
    const dModel = this.q.weight.shape[1]!;
    if (x.rank !== 3 || x.shape[2] !== dModel)
      throw new ShapeError(`MultiHeadAttention: expected an input [B, T, ${dModel}], got ${describe(x)}`);
    const [batch, length] = x.shape as [number, number, number];
    return insides(this, () => {
      const allowed = mask === undefined ? null : this.#mask(mask, batch, length);
      const [q, k, v] = [this.q.call(x), this.k.call(x), this.v.call(x)];
      const whole = isIdle(this.dropout);
      return this.o.call(whole ? attention(q, k, v, this.heads, allowed) : this.#dropping([q, k, v], allowed));
    });
  }

  /** Attention whose weights go through `dropout`. */
  #dropping(inputs: readonly Tensor[], mask: Tensor | null): Tensor {
    const [batch, length, dModel] = inputs[0]!.shape as [number, number, number];
    // [B, T, dModel] → [B, heads, T, dHead]
    const split = (t: Tensor) => t.reshape([batch, length, this.heads, dModel / this.heads]).permute(0, 2, 1, 3);
    const [q, k, v] = inputs.map(split);
    const weights = attentionWeights(q!, k!, mask === null ? undefined : mask.rank === 3 ? mask.unsqueeze(1) : mask);
    const heads = this.dropout.call(weights).matmul(v!);
    return heads.permute(0, 2, 1, 3).reshape([batch, length, dModel]);
  }

  /** Throws unless it is [T, T] or [B, T, T]. */
  #mask(mask: Tensor, batch: number, length: number): Tensor {
    if (!(mask instanceof Tensor)) checkArgument('MultiHeadAttention', 'mask', mask, aTensor);
    const shape = mask.rank === 3 ? [batch, length, length] : [length, length];
    if (mask.shape.join() !== shape.join())
      throw new ShapeError(
        `MultiHeadAttention: expected a mask [${length}, ${length}] or [${batch}, ${length}, ${length}], ` +
          `got ${describe(mask)}`,
      );
    return mask;
  }
}
