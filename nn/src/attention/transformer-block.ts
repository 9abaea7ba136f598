/** The block that transformers are stacks of. */

import { Tensor } from '@otimes/core';
import { aBoolean, aNumber, anEps, aString, checkOptions } from '@otimes/core/extend';
import { type ActivationName, activationClass } from '../activations/basic.ts';
import { insides } from '../calls.ts';
import { aProbability, checkPositive, PLACEMENT, type Placement, placed } from '../check.ts';
import { Dropout } from '../dropout.ts';
import { Linear } from '../linear.ts';
import { Module } from '../module.ts';
import { LayerNorm } from '../normalization/layer.ts';
import { MultiHeadAttention } from './attention.ts';
import { ATTEND, type AttendOptions } from './masks.ts';

export type TransformerBlockOptions = Placement & {
  /** Hidden features of the multilayer perceptron as a multiple of dModel; default 4. */
  mlpRatio?: number;
  /** Probability of dropping, in attention, after the activation and at the end of both branches; default 0. */
  dropout?: number;
  /** Normalise at the start of each branch (default), or after its sum with x, as Vaswani et al. 2017 did. */
  preNorm?: boolean;
  /** Default 'gelu'. */
  activation?: ActivationName;
  /** Added to the variances of both norms; default 1e-5. */
  layerNormEps?: number;
};

const OPTIONS = {
  mlpRatio: aNumber,
  dropout: aProbability,
  preNorm: aBoolean,
  activation: aString,
  layerNormEps: anEps,
  ...PLACEMENT,
};

/**
 * x [B, T, dModel] ← x + attention(norm1(x)), then x + linear2(activation(linear1(norm2(x)))). Names and order are those
 * of PyTorch's `TransformerEncoderLayer`, except `attention` (its `self_attn` keeps q, k and v in one matrix).
 */
export class TransformerBlock extends Module<[x: Tensor, mask?: Tensor | AttendOptions]> {
  static readonly builtIn: string = 'TransformerBlock';
  readonly attention: MultiHeadAttention;
  readonly linear1: Linear;
  readonly activation: Module;
  readonly linear2: Linear;
  readonly norm1: LayerNorm;
  readonly norm2: LayerNorm;
  readonly dropout: Dropout;
  readonly preNorm: boolean;

  constructor(dModel: number, heads: number, o: TransformerBlockOptions = {}) {
    super();
    checkOptions('TransformerBlock', o, OPTIONS);
    const hidden = dModel * (o.mlpRatio ?? 4);
    checkPositive('TransformerBlock', { dModel, 'dModel · mlpRatio': hidden });
    const Activation = activationClass('TransformerBlock', o.activation ?? 'gelu');
    this.preNorm = o.preNorm ?? true;
    const [at, dropout] = [placed(o), o.dropout ?? 0];
    this.attention = new MultiHeadAttention(dModel, heads, { dropout, ...at });
    this.linear1 = new Linear(dModel, hidden, at);
    this.activation = new Activation();
    this.linear2 = new Linear(hidden, dModel, at);
    const norm = () => new LayerNorm(dModel, { eps: o.layerNormEps ?? 1e-5, ...at });
    this.norm1 = norm();
    this.norm2 = norm();
    this.dropout = new Dropout(dropout, at);
  }

  /** @param mask or options such as `{ causal: true }`: see `MultiHeadAttention` */
  override forward(x: Tensor, mask?: Tensor | AttendOptions): Tensor {
    if (!(mask instanceof Tensor)) checkOptions('TransformerBlock', mask, ATTEND);
    return insides(this, () => this.#forward(x, mask));
  }

  #forward(x: Tensor, mask?: Tensor | AttendOptions): Tensor {
    const attend = (t: Tensor) => this.dropout.call(this.attention.call(t, mask));
    const feedForward = (t: Tensor) => {
      const hidden = this.dropout.call(this.activation.call(this.linear1.call(t)));
      return this.dropout.call(this.linear2.call(hidden));
    };
    if (this.preNorm) {
      const y = x.add(attend(this.norm1.call(x)));
      return y.add(feedForward(this.norm2.call(y)));
    }
    const y = this.norm1.call(x.add(attend(x)));
    return this.norm2.call(y.add(feedForward(y)));
  }
}
