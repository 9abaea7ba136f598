/** The decoder of the transformer (Vaswani et al. 2017, section 3.1), with PyTorch's options. */

import type { Tensor } from '@otimes/core';
import { aBoolean, aTensor, checkOptions, type OptionKinds } from '@otimes/core/extend';
import { insides } from '../calls.ts';
import type { Dropout } from '../dropout.ts';
import type { Linear } from '../linear.ts';
import { Module } from '../module.ts';
import type { LayerNorm } from '../normalization/layer.ts';
import type { MultiHeadAttention } from './attention.ts';
import {
  layerParts,
  residual,
  stackOf,
  type TransformerLayerOptions,
  throughStack,
  withBatchFirst,
} from './transformer-encoder.ts';

/** `true` in masks means MAY attend, the opposite of PyTorch's layers; see `AttendOptions`. */
export type DecoderCall = {
  /** As `attnMask` of `MultiHeadAttention`, of the target to itself: [T, T], [B, T, T] or [B, heads, T, T]. */
  tgtMask?: Tensor | undefined;
  /** Of the target to the memory: [T, S], [B, T, S] or [B, heads, T, S]. */
  memoryMask?: Tensor | undefined;
  /** bool [B, T], true where there is a token. */
  tgtKeyPaddingMask?: Tensor | undefined;
  /** bool [B, S], true where there is a token. */
  memoryKeyPaddingMask?: Tensor | undefined;
  /** Whether a position of the target attends to none after it; default false. */
  tgtCausal?: boolean | undefined;
};

export const DECODE: OptionKinds<DecoderCall> = {
  tgtMask: aTensor,
  memoryMask: aTensor,
  tgtKeyPaddingMask: aTensor,
  memoryKeyPaddingMask: aTensor,
  tgtCausal: aBoolean,
};

/**
 * A layer of the decoder: self-attention of the target, attention of it to `memory`, the encoder's output, then two linear layers,
 * each with a residual and a norm. As `torch.nn.TransformerDecoderLayer`, with its options, defaults and initial weights, but for
 * masks: `true` means MAY attend. Its states load through `fromPyTorch`.
 */
export class TransformerDecoderLayer extends Module<[tgt: Tensor, memory: Tensor, o?: DecoderCall | undefined]> {
  static readonly builtIn: string = 'TransformerDecoderLayer';
  /** PyTorch's `self_attn`. */
  readonly attention: MultiHeadAttention;
  /** PyTorch's `multihead_attn`. */
  readonly crossAttention: MultiHeadAttention;
  readonly linear1: Linear;
  readonly activation: Module;
  readonly dropout: Dropout;
  readonly linear2: Linear;
  readonly norm1: LayerNorm;
  readonly norm2: LayerNorm;
  readonly norm3: LayerNorm;
  readonly dropout1: Dropout;
  readonly dropout2: Dropout;
  readonly dropout3: Dropout;
  readonly batchFirst: boolean;
  readonly normFirst: boolean;

  constructor(dModel: number, nhead: number, o: TransformerLayerOptions = {}) {
    super();
    const make = layerParts('TransformerDecoderLayer', dModel, nhead, o);
    this.attention = make.attention();
    this.crossAttention = make.attention();
    this.linear1 = make.linear1();
    this.activation = make.activation;
    this.dropout = make.dropout();
    this.linear2 = make.linear2();
    this.norm1 = make.norm();
    this.norm2 = make.norm();
    this.norm3 = make.norm();
    this.dropout1 = make.dropout();
    this.dropout2 = make.dropout();
    this.dropout3 = make.dropout();
    this.batchFirst = make.batchFirst;
    this.normFirst = make.normFirst;
  }

  override forward(tgt: Tensor, memory: Tensor, o?: DecoderCall): Tensor {
    checkOptions('TransformerDecoderLayer', o, DECODE);
    const given = o ?? {};
    const { normFirst, attention, crossAttention, linear1, linear2, activation, dropout } = this;
    const own = { attnMask: given.tgtMask, keyPaddingMask: given.tgtKeyPaddingMask, causal: given.tgtCausal };
    const across = { attnMask: given.memoryMask, keyPaddingMask: given.memoryKeyPaddingMask };
    const attend = (x: Tensor) => this.dropout1.call(attention.call(x, own));
    const feed = (x: Tensor) => this.dropout3.call(linear2.call(dropout.call(activation.call(linear1.call(x)))));
    return insides(this, () =>
      withBatchFirst(this.batchFirst, [tgt, memory], (x, seen) => {
        const cross = (y: Tensor) => this.dropout2.call(crossAttention.call(y, seen!, seen!, across));
        const y = residual(x!, this.norm1, normFirst, attend);
        return residual(residual(y, this.norm2, normFirst, cross), this.norm3, normFirst, feed);
      }),
    );
  }
}

type DecoderLayer = Module<[tgt: Tensor, memory: Tensor, o?: DecoderCall | undefined]>;

/**
 * A stack of decoder layers, with a norm at its end if there is one: `new TransformerDecoder(() => new TransformerDecoderLayer(64, 4), 6)`.
 * The layers are `layers.0`, `layers.1`, … in state dicts, as in PyTorch.
 */
export class TransformerDecoder extends Module<[tgt: Tensor, memory: Tensor, o?: DecoderCall | undefined]> {
  static readonly builtIn: string = 'TransformerDecoder';
  readonly layers: readonly DecoderLayer[];
  readonly norm: Module | null;

  /** @param norm of the output; default none */
  constructor(makeLayer: () => DecoderLayer, numLayers: number, norm: Module | null = null) {
    super();
    this.layers = stackOf('TransformerDecoder', makeLayer, numLayers, norm);
    this.norm = norm;
  }

  override forward(tgt: Tensor, memory: Tensor, o?: DecoderCall): Tensor {
    checkOptions('TransformerDecoder', o, DECODE);
    return throughStack(this, tgt, (x, layer) => layer.call(x, memory, o));
  }
}
