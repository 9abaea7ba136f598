/** The transformer (Vaswani et al. 2017): an encoder, and a decoder that attends to what comes out of it. */

import type { Tensor } from '@otimes/core';
import { aBoolean, aCount, aTensor, checkOptions, type OptionKinds } from '@otimes/core/extend';
import { insides } from '../calls.ts';
import { checkPositive, placed } from '../check.ts';
import { xavierUniform } from '../init.ts';
import { Linear } from '../linear.ts';
import { Module } from '../module.ts';
import { LayerNorm } from '../normalization/layer.ts';
import { Parameter } from '../parameter.ts';
import { DECODE, type DecoderCall, TransformerDecoder, TransformerDecoderLayer } from './transformer-decoder.ts';
import {
  LAYER_OPTIONS,
  TransformerEncoder,
  TransformerEncoderLayer,
  type TransformerLayerOptions,
} from './transformer-encoder.ts';

export type TransformerOptions = TransformerLayerOptions & {
  /** Features; default 512. */
  dModel?: number;
  /** Heads; default 8. */
  nhead?: number;
  /** Default 6. */
  numEncoderLayers?: number;
  /** Default 6. */
  numDecoderLayers?: number;
};

/** `true` in masks means MAY attend. */
export type TransformerCall = DecoderCall & {
  /** Of the source to itself: [S, S], [B, S, S] or [B, heads, S, S]. */
  srcMask?: Tensor | undefined;
  /** bool [B, S], true where there is a token. */
  srcKeyPaddingMask?: Tensor | undefined;
  /** Whether a position of the source attends to none after it; default false. */
  srcCausal?: boolean | undefined;
};

const OPTIONS: OptionKinds<TransformerOptions> = {
  dModel: aCount,
  nhead: aCount,
  numEncoderLayers: aCount,
  numDecoderLayers: aCount,
  ...LAYER_OPTIONS,
};
const CALL: OptionKinds<TransformerCall> = {
  srcMask: aTensor,
  srcKeyPaddingMask: aTensor,
  srcCausal: aBoolean,
  ...DECODE,
};

/**
 * Source [S, B, dModel] and target [T, B, dModel] → [T, B, dModel], or with `batchFirst` the batch before. As `torch.nn.Transformer`: with
 * its defaults, a norm after each stack, all weight matrices uniform in ±√(6 / (rows + columns)) at the start. It embeds no tokens and adds no
 * positions; `PositionalEncoding` does.
 */
export class Transformer extends Module<[src: Tensor, tgt: Tensor, o?: TransformerCall | undefined]> {
  static readonly builtIn: string = 'Transformer';
  readonly encoder: TransformerEncoder;
  readonly decoder: TransformerDecoder;

  constructor(o: TransformerOptions = {}) {
    super();
    checkOptions('Transformer', o, OPTIONS);
    const { dModel = 512, nhead = 8, numEncoderLayers = 6, numDecoderLayers = 6, ...rest } = o;
    checkPositive('Transformer', { dModel, nhead, numEncoderLayers, numDecoderLayers });
    const at = placed(o);
    const norm = () => new LayerNorm(dModel, { eps: o.layerNormEps ?? 1e-5, bias: o.bias ?? true, ...at });
    this.encoder = new TransformerEncoder(
      () => new TransformerEncoderLayer(dModel, nhead, rest),
      numEncoderLayers,
      norm(),
    );
    this.decoder = new TransformerDecoder(
      () => new TransformerDecoderLayer(dModel, nhead, rest),
      numDecoderLayers,
      norm(),
    );
    // q, k and v of an attention are one matrix to PyTorch, and start as such already.
    for (const [path, layer] of this.namedModules())
      if (layer instanceof Linear && !/ttention\.[qkv]$/.test(path))
        layer.weight = new Parameter(xavierUniform(layer.weight.shape, at));
  }

  override forward(src: Tensor, tgt: Tensor, o?: TransformerCall): Tensor {
    checkOptions('Transformer', o, CALL);
    const { srcMask: mask, srcKeyPaddingMask, srcCausal: causal, ...decoding } = o ?? {};
    return insides(this, () =>
      this.decoder.call(tgt, this.encoder.call(src, { mask, srcKeyPaddingMask, causal }), decoding),
    );
  }
}
