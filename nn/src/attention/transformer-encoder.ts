/** The encoder of the transformer (Vaswani et al. 2017, section 3.1), with PyTorch's options. */

import type { Tensor } from '@otimes/core';
import {
  aBoolean,
  aCount,
  anEps,
  aString,
  aTensor,
  checkArgument,
  checkOptions,
  type Kind,
  type OptionKinds,
  received,
} from '@otimes/core/extend';
import { type ActivationName, activationClass } from '../activations/basic.ts';
import { insides } from '../calls.ts';
import { aProbability, checkPositive, PLACEMENT, type Placement, placed } from '../check.ts';
import { Dropout } from '../dropout.ts';
import { Linear } from '../linear.ts';
import { Module } from '../module.ts';
import { LayerNorm } from '../normalization/layer.ts';
import { MultiHeadAttention } from './attention.ts';

export type TransformerLayerOptions = Placement & {
  /** Features between `linear1` and `linear2`; default 2048. */
  dimFeedforward?: number;
  /** Probability of dropping attention weights, after the activation, and at the end of each branch; default 0.1. */
  dropout?: number;
  /** Default 'relu'. */
  activation?: ActivationName;
  /** Added to variances in the norms; default 1e-5. */
  layerNormEps?: number;
  /** Whether inputs are [B, T, dModel]; default false as in PyTorch: [T, B, dModel]. Masks of keys are [B, S] in both. */
  batchFirst?: boolean;
  /** Normalise at the start of each branch, or after its sum with x (false, the default). */
  normFirst?: boolean;
  /** Of linear layers and norms; default true. */
  bias?: boolean;
};

export const LAYER_OPTIONS: OptionKinds<TransformerLayerOptions> = {
  dimFeedforward: aCount,
  dropout: aProbability,
  activation: aString,
  layerNormEps: anEps,
  batchFirst: aBoolean,
  normFirst: aBoolean,
  bias: aBoolean,
  ...PLACEMENT,
};

/** `true` in masks means MAY attend, the opposite of PyTorch's layers; see `AttendOptions`. */
export type EncoderLayerCall = {
  /** As `attnMask` of `MultiHeadAttention`: [T, T], [B, T, T] or [B, heads, T, T]. */
  srcMask?: Tensor | undefined;
  /** bool [B, T], true where there is a token. */
  srcKeyPaddingMask?: Tensor | undefined;
  /** Whether a position attends to none after it; default false. */
  causal?: boolean | undefined;
};

const CALL: OptionKinds<EncoderLayerCall> = { srcMask: aTensor, srcKeyPaddingMask: aTensor, causal: aBoolean };

/** What the layers of encoder and decoder are made of. */
export function layerParts(op: string, dModel: number, nhead: number, o: TransformerLayerOptions) {
  checkOptions(op, o, LAYER_OPTIONS);
  const { dimFeedforward = 2048, dropout = 0.1, bias = true, layerNormEps = 1e-5 } = o;
  checkPositive(op, { dModel, nhead, dimFeedforward });
  const at = placed(o);
  const Activation = activationClass(op, o.activation ?? 'relu');
  return {
    attention: () => new MultiHeadAttention(dModel, nhead, { dropout, bias, ...at }),
    norm: () => new LayerNorm(dModel, { eps: layerNormEps, bias, ...at }),
    dropout: () => new Dropout(dropout, at),
    activation: new Activation(),
    linear1: () => new Linear(dModel, dimFeedforward, { bias, ...at }),
    linear2: () => new Linear(dimFeedforward, dModel, { bias, ...at }),
    batchFirst: o.batchFirst ?? false,
    normFirst: o.normFirst ?? false,
  };
}

/** x + branch(norm(x)), or norm(x + branch(x)). */
export function residual(x: Tensor, norm: Module, normFirst: boolean, branch: (x: Tensor) => Tensor): Tensor {
  return normFirst ? x.add(branch(norm.call(x))) : norm.call(x.add(branch(x)));
}

/** Runs `run` on inputs whose batch comes first, whatever the layer's order is. */
export function withBatchFirst(
  batchFirst: boolean,
  inputs: readonly Tensor[],
  run: (...x: Tensor[]) => Tensor,
): Tensor {
  if (batchFirst) return run(...inputs);
  // What has not three axes is refused by the attention, with its own words.
  const swapped = (x: Tensor) => (x.rank === 3 ? x.transpose(0, 1) : x);
  return swapped(run(...inputs.map(swapped)));
}

/**
 * A layer of the encoder: self-attention, then two linear layers, each with a residual and a norm. As
 * `torch.nn.TransformerEncoderLayer`, with its options, defaults and initial weights, but for masks: `true` means MAY attend.
 * Its states load through `fromPyTorch`, under the names of `TransformerBlock`.
 */
export class TransformerEncoderLayer extends Module<[src: Tensor, o?: EncoderLayerCall | undefined]> {
  static readonly builtIn: string = 'TransformerEncoderLayer';
  /** PyTorch's `self_attn`. */
  readonly attention: MultiHeadAttention;
  readonly linear1: Linear;
  readonly activation: Module;
  readonly dropout: Dropout;
  readonly linear2: Linear;
  readonly norm1: LayerNorm;
  readonly norm2: LayerNorm;
  readonly dropout1: Dropout;
  readonly dropout2: Dropout;
  readonly batchFirst: boolean;
  readonly normFirst: boolean;

  constructor(dModel: number, nhead: number, o: TransformerLayerOptions = {}) {
    super();
    const make = layerParts('TransformerEncoderLayer', dModel, nhead, o);
    this.attention = make.attention();
    this.linear1 = make.linear1();
    this.activation = make.activation;
    this.dropout = make.dropout();
    this.linear2 = make.linear2();
    this.norm1 = make.norm();
    this.norm2 = make.norm();
    this.dropout1 = make.dropout();
    this.dropout2 = make.dropout();
    this.batchFirst = make.batchFirst;
    this.normFirst = make.normFirst;
  }

  override forward(src: Tensor, o?: EncoderLayerCall): Tensor {
    checkOptions('TransformerEncoderLayer', o, CALL);
    const { srcMask: attnMask, srcKeyPaddingMask: keyPaddingMask, causal } = o ?? {};
    const { normFirst, attention, linear1, linear2, activation, dropout } = this;
    const attend = (x: Tensor) => this.dropout1.call(attention.call(x, { attnMask, keyPaddingMask, causal }));
    const feed = (x: Tensor) => this.dropout2.call(linear2.call(dropout.call(activation.call(linear1.call(x)))));
    return insides(this, () =>
      withBatchFirst(this.batchFirst, [src], x =>
        residual(residual(x!, this.norm1, normFirst, attend), this.norm2, normFirst, feed),
      ),
    );
  }
}

const aMaker: Kind = {
  expected: 'a function that makes a layer, such as () => new TransformerEncoderLayer(512, 8)',
  is: v => typeof v === 'function' && !('builtIn' in v),
};
const aNorm: Kind = { expected: 'a module', is: v => v instanceof Module };

/** The layers of a stack, made one by one; each begins with weights of its own, where PyTorch copies those of one layer. */
export function stackOf<Layer>(op: string, makeLayer: () => Layer, numLayers: number, norm: unknown): readonly Layer[] {
  checkArgument(op, 'makeLayer', makeLayer, aMaker);
  checkPositive(op, { numLayers });
  if (norm !== null) checkArgument(op, 'norm', norm, aNorm);
  return Array.from({ length: numLayers }, () => {
    const layer: unknown = makeLayer();
    if (!(layer instanceof Module))
      throw new TypeError(`${op}: expected makeLayer to return a layer, got ${received(layer)}`);
    return layer as Layer;
  });
}

/** What the layers of a stack make of x, one after the other, and the norm at its end. */
export function throughStack<Layer>(
  stack: { readonly layers: readonly Layer[]; readonly norm: Module | null },
  x: Tensor,
  through: (x: Tensor, layer: Layer) => Tensor,
): Tensor {
  return insides(stack, () => {
    const y = stack.layers.reduce(through, x);
    return stack.norm === null ? y : stack.norm.call(y);
  });
}

/** `true` in masks means MAY attend. */
export type EncoderCall = Omit<EncoderLayerCall, 'srcMask'> & {
  /** The `srcMask` of each layer. */
  mask?: Tensor | undefined;
};

/**
 * A stack of encoder layers, with a norm at its end if there is one: `new TransformerEncoder(() => new TransformerEncoderLayer(64, 4), 6)`.
 * The layers are `layers.0`, `layers.1`, … in state dicts, as in PyTorch.
 */
export class TransformerEncoder extends Module<[src: Tensor, o?: EncoderCall | undefined]> {
  static readonly builtIn: string = 'TransformerEncoder';
  readonly layers: readonly Module<[src: Tensor, o?: EncoderLayerCall | undefined]>[];
  readonly norm: Module | null;

  /** @param norm of the output; default none */
  constructor(
    makeLayer: () => Module<[src: Tensor, o?: EncoderLayerCall | undefined]>,
    numLayers: number,
    norm: Module | null = null,
  ) {
    super();
    this.layers = stackOf('TransformerEncoder', makeLayer, numLayers, norm);
    this.norm = norm;
  }

  override forward(src: Tensor, o?: EncoderCall): Tensor {
    checkOptions('TransformerEncoder', o, STACK);
    const { mask: srcMask, ...rest } = o ?? {};
    return throughStack(this, src, (x, layer) => layer.call(x, { srcMask, ...rest }));
  }
}

const STACK: OptionKinds<EncoderCall> = { mask: aTensor, srcKeyPaddingMask: aTensor, causal: aBoolean };
