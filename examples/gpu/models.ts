/**
 * Models by a description that other programs can read as well (bench/gpu/torch_peer.py does), and batches for them. The networks
 * are those of @otimes/nn; the language model is written here.
 */

import { arange, type Generator, linear, randint, randn, type Tensor } from '@otimes/core';
import {
  Buffer,
  Conv2d,
  crossEntropy,
  Flatten,
  functional,
  init,
  LayerNorm,
  Linear,
  MaxPool2d,
  Module,
  mlp,
  Parameter,
  ReLU,
  resnet18,
  resnet34,
  resnet50,
  Sequential,
  TransformerBlock,
  vit,
} from '@otimes/nn';

export type Spec =
  | { readonly kind: 'mlp'; readonly sizes: readonly number[]; readonly batch: number }
  /** Two 3×3 convolutions, each with a ReLU and max pooling by 2, and a linear layer. */
  | {
      readonly kind: 'cnn';
      readonly image: Image;
      readonly channels: readonly [number, number];
      readonly batch: number;
    }
  | {
      readonly kind: 'resnet';
      readonly depth: 18 | 34 | 50;
      readonly stem: 'cifar' | 'imagenet';
      readonly width: number;
      readonly image: Image;
      readonly batch: number;
      /** Whether blocks are computed again in backward; default false. */
      readonly checkpoint?: boolean;
    }
  | ({
      readonly kind: 'vit';
      readonly image: Image;
      readonly patch: number;
      readonly batch: number;
      readonly checkpoint?: boolean;
    } & Stack)
  /** Predicts each token from those before it; the output layer is the table of embeddings. */
  | ({ readonly kind: 'gpt'; readonly vocabulary: number; readonly length: number; readonly batch: number } & Stack);

/** Channels, rows, columns, classes. */
export type Image = { readonly channels: number; readonly side: number; readonly classes: number };
type Stack = { readonly dim: number; readonly depth: number; readonly heads: number };

export type GptOptions = Stack & { readonly vocabulary: number; readonly length: number; readonly rng: Generator };

/** int32 tokens [B, length] → logits [B, length, vocabulary]. GPT-2's layout: pre-norm blocks, tied embeddings. */
export class Gpt extends Module {
  readonly tokens: Parameter;
  readonly positions: Parameter;
  readonly blocks: TransformerBlock[];
  readonly norm: LayerNorm;
  readonly mask: Buffer;

  constructor({ vocabulary, length, dim, depth, heads, rng }: GptOptions) {
    super();
    this.tokens = new Parameter(init.normal([vocabulary, dim], 0.02, { rng }));
    this.positions = new Parameter(init.normal([length, dim], 0.02, { rng }));
    this.blocks = Array.from({ length: depth }, () => new TransformerBlock(dim, heads, { rng }));
    this.norm = new LayerNorm(dim);
    const t = arange(length);
    this.mask = new Buffer(t.unsqueeze(1).ge(t));
  }

  override forward(tokens: Tensor): Tensor {
    const x = functional.embedding(tokens, this.tokens).add(this.positions);
    const y = this.blocks.reduce((y, block) => block.call(y, this.mask), x);
    return linear(this.norm.call(y), this.tokens);
  }
}

export function build(spec: Spec, rng: Generator): Module {
  switch (spec.kind) {
    case 'mlp':
      return mlp(spec.sizes, { rng });
    case 'cnn': {
      const [{ channels, side, classes }, [c1, c2]] = [spec.image, spec.channels];
      return new Sequential(
        new Conv2d(channels, c1, 3, { padding: 1, rng }),
        new ReLU(),
        new MaxPool2d(2),
        new Conv2d(c1, c2, 3, { padding: 1, rng }),
        new ReLU(),
        new MaxPool2d(2),
        new Flatten(),
        new Linear(c2 * (side / 4) ** 2, classes, { rng }),
      );
    }
    case 'resnet': {
      const { depth, stem, width, image, checkpoint = false } = spec;
      const make = { 18: resnet18, 34: resnet34, 50: resnet50 }[depth];
      return make({ classes: image.classes, channels: image.channels, stem, width, checkpoint, rng });
    }
    case 'vit': {
      const { image, patch, dim, depth, heads, checkpoint = false } = spec;
      const { classes, channels, side } = image;
      return vit({ imageSize: side, patch, dim, depth, heads, classes, channels, checkpoint, rng });
    }
    case 'gpt':
      return new Gpt({ ...spec, rng });
  }
}

/** Inputs and labels of one batch, on the CPU: noise, which a model can learn by heart. */
export function batchOf(spec: Spec, rng: Generator): [x: Tensor, labels: Tensor] {
  const { batch } = spec;
  switch (spec.kind) {
    case 'mlp':
      return [randn([batch, spec.sizes[0]!], { rng }), randint(0, spec.sizes.at(-1)!, [batch], { rng })];
    case 'gpt': {
      const tokens = () => randint(0, spec.vocabulary, [batch, spec.length], { rng });
      return [tokens(), tokens()];
    }
    default: {
      const { channels, side, classes } = spec.image;
      return [randn([batch, channels, side, side], { rng }), randint(0, classes, [batch], { rng })];
    }
  }
}

export function lossOf(model: Module, x: Tensor, labels: Tensor): Tensor {
  const logits = model.call(x);
  return logits.rank === 3 ? crossEntropy(logits.flatten(0, 1), labels.flatten()) : crossEntropy(logits, labels);
}
