/** Networks of usual sizes, the same in torch_peer.py, from the same weights. */

import { arange, type Generator, type StateDict, type Tensor, tensor } from '@otimes/core';
import {
  type AnyModule,
  Buffer,
  Conv2d,
  Dropout,
  Embedding,
  Flatten,
  init,
  LayerNorm,
  Linear,
  MaxPool2d,
  Module,
  Parameter,
  ReLU,
  Sequential,
  TransformerBlock,
} from '@otimes/nn';
import { noise } from './data.mjs';

/** The network of PyTorch's MNIST example: two 3×3 convolutions without padding, 9216 features, 128, 10. */
export function mnistCnn(rng: Generator): Module {
  return new Sequential(
    new Conv2d(1, 32, 3, { rng }),
    new ReLU(),
    new Conv2d(32, 64, 3, { rng }),
    new ReLU(),
    new MaxPool2d(2),
    new Dropout(0.25, { rng }),
    new Flatten(),
    new Linear(9216, 128, { rng }),
    new ReLU(),
    new Dropout(0.5, { rng }),
    new Linear(128, 10, { rng }),
  );
}

export type CharSize = { vocabulary: number; length: number; d: number; heads: number; depth: number };

/** int32 characters [B, length] → logits [B, length, vocabulary], each from those before it and itself. */
export class CharTransformer extends Module {
  readonly tokens: Embedding;
  /** [length, d] */
  readonly position: Parameter;
  readonly blocks: TransformerBlock[];
  readonly norm: LayerNorm;
  readonly head: Linear;
  readonly mask: Buffer;

  constructor({ vocabulary, length, d, heads, depth }: CharSize, rng: Generator) {
    super();
    this.tokens = new Embedding(vocabulary, d, { rng });
    this.position = new Parameter(init.normal([length, d], 0.02, { rng }));
    this.blocks = Array.from({ length: depth }, () => new TransformerBlock(d, heads, { rng }));
    this.norm = new LayerNorm(d);
    this.head = new Linear(d, vocabulary, { rng });
    const t = arange(length);
    this.mask = new Buffer(t.unsqueeze(1).ge(t));
  }

  override forward(characters: Tensor): Tensor {
    const x = this.tokens.call(characters).add(this.position);
    const y = this.blocks.reduce((y, block) => block.call(y, this.mask), x);
    return this.head.call(this.norm.call(y));
  }
}

/**
 * Parameters of rank 2 and more become noise in ±1/√(inputs of an output), biases 0. The seed is the place of the name among all
 * such names in order, as in torch_peer.py.
 */
export function setWeights(model: AnyModule): void {
  const entries = [...model.namedParameters()];
  const weights = entries.filter(([, p]) => p.rank >= 2).sort(([a], [b]) => (a < b ? -1 : 1));
  const state: StateDict = {};
  for (const [i, [name, { size, shape }]] of weights.entries())
    state[name] = tensor(noise(size, 200 + i, 2 / Math.sqrt(size / shape[0]!)), { shape });
  for (const [name, { size, shape }] of entries)
    if (name.endsWith('bias')) state[name] = tensor(new Float32Array(size), { shape });
  model.loadStateDict(state, { strict: false });
}
