/** A language model of the GPT kind (Radford et al. 2019), with the shape and the first weights of nanoGPT. */

import { describe, type Generator, noGrad, ShapeError, scope, type Tensor, tensor, zeros } from '@otimes/core';
import {
  aBoolean,
  aCount,
  aTensor,
  checkArgument,
  checkOptions,
  type Kind,
  type OptionKinds,
  oneOf,
} from '@otimes/core/extend';
import { GELU } from '../activations/basic.ts';
import { MultiHeadAttention } from '../attention/attention.ts';
import { KVCache } from '../attention/cache.ts';
import { ATTEND, type AttendOptions, causalMask } from '../attention/masks.ts';
import { insides } from '../calls.ts';
import { aProbability, PLACEMENT, type Placement, placed, requiredOptions, withoutRng } from '../check.ts';
import { Dropout } from '../dropout.ts';
import { Embedding } from '../embedding/embedding.ts';
import { normal } from '../init.ts';
import { Linear } from '../linear.ts';
import { Module } from '../module.ts';
import { LayerNorm } from '../normalization/layer.ts';
import { Parameter } from '../parameter.ts';
import { draw } from './sample.ts';

export type GptOptions = Placement & {
  /** Number of tokens. */
  vocabSize: number;
  /** Most positions of a sequence. */
  blockSize: number;
  /** Blocks; default 12. */
  nLayer?: number;
  /** Heads of a block; default 12. */
  nHead?: number;
  /** Features; default 768. */
  nEmbd?: number;
  /** Of embeddings, attention weights and the ends of branches; default 0. */
  dropout?: number;
  /** Of linear layers and norms, but not of the head; default true. */
  bias?: boolean;
  /** Whether the head has the weight of the embedding of tokens; default true. */
  tieWeights?: boolean;
  /** How GELU is computed: exactly ('none', the default, as nanoGPT) or 'tanh', as in the weights of GPT-2. */
  gelu?: 'none' | 'tanh';
};

export type GenerateOptions = {
  /** Divides the logits; default 1. With 0 the likeliest token is taken, the first of several. */
  temperature?: number;
  /** Draws among this many likeliest tokens alone; default all. */
  topK?: number;
  /** Default: the generator that `manualSeed` seeds. */
  rng?: Generator;
};

const OPTIONS: OptionKinds<GptOptions> = {
  vocabSize: aCount,
  blockSize: aCount,
  nLayer: aCount,
  nHead: aCount,
  nEmbd: aCount,
  dropout: aProbability,
  bias: aBoolean,
  tieWeights: aBoolean,
  gelu: oneOf('none', 'tanh'),
  ...PLACEMENT,
};

/** A block of `GPT`: x + attention(norm1(x)), then x + linear2(GELU(linear1(norm2(x)))). Its state is that of a `TransformerBlock`. */
export class GPTBlock extends Module<[x: Tensor, o?: AttendOptions | undefined]> {
  static readonly builtIn: string = 'GPTBlock';
  readonly norm1: LayerNorm;
  readonly attention: MultiHeadAttention;
  readonly norm2: LayerNorm;
  readonly linear1: Linear;
  readonly activation: GELU;
  readonly linear2: Linear;
  readonly dropout: Dropout;

  /** @param o of the model: nEmbd, nHead, nLayer, dropout, bias, gelu */
  constructor(o: GptOptions) {
    super();
    checkArgument('GPTBlock', 'options', o, requiredOptions);
    checkOptions('GPTBlock', o, OPTIONS);
    const { nEmbd = 768, nHead = 12, nLayer = 12, dropout = 0, bias = true, gelu = 'none' } = o;
    const at = placed(o);
    const drawn = (layer: Linear, std: number): Linear => {
      layer.weight = new Parameter(normal(layer.weight.shape, std, at));
      if (layer.bias !== null) layer.bias = new Parameter(zeros(layer.bias.shape, withoutRng(at)));
      return layer;
    };
    // Each block adds two branches to x, whose variance would grow with the number of blocks.
    const last = 0.02 / Math.sqrt(2 * nLayer);
    this.norm1 = new LayerNorm(nEmbd, { bias, ...at });
    this.attention = new MultiHeadAttention(nEmbd, nHead, { dropout, bias, ...at });
    for (const name of ['q', 'k', 'v'] as const) drawn(this.attention[name], 0.02);
    drawn(this.attention.o, last);
    this.norm2 = new LayerNorm(nEmbd, { bias, ...at });
    this.linear1 = drawn(new Linear(nEmbd, 4 * nEmbd, { bias, ...at }), 0.02);
    this.activation = new GELU({ approximate: gelu });
    this.linear2 = drawn(new Linear(4 * nEmbd, nEmbd, { bias, ...at }), last);
    this.dropout = new Dropout(dropout, at);
  }

  /** @param o see `AttendOptions` */
  override forward(x: Tensor, o?: AttendOptions): Tensor {
    checkOptions('GPTBlock', o, ATTEND);
    return insides(this, () => {
      const y = x.add(this.dropout.call(this.attention.call(this.norm1.call(x), o)));
      const hidden = this.activation.call(this.linear1.call(this.norm2.call(y)));
      return y.add(this.dropout.call(this.linear2.call(hidden)));
    });
  }
}

const aCacheEach: Kind = {
  expected: 'an array of KVCache, one for each block',
  is: v => Array.isArray(v) && v.every(one => one instanceof KVCache),
};
const aTemperature: Kind = {
  expected: 'a number ≥ 0',
  is: v => typeof v === 'number' && v >= 0 && v < Infinity,
  error: RangeError,
};
const GENERATE: OptionKinds<GenerateOptions> = { temperature: aTemperature, topK: aCount, rng: PLACEMENT.rng };

/**
 * Tokens int32 [B, T] → logits [B, T, vocabSize] of the token after each: learned positions, causal blocks with the norm first, a last norm
 * and a linear head. Weights start normal with standard deviation 0.02, those at the ends of branches with 0.02 / √(2 nLayer), biases at 0.
 */
export class GPT extends Module<[tokens: Tensor, o?: { caches?: readonly KVCache[] } | undefined]> {
  static readonly builtIn: string = 'GPT';
  static override readonly tensors: readonly string[] = ['position'];
  readonly tokens: Embedding;
  /** [blockSize, nEmbd] */
  position: Parameter;
  readonly dropout: Dropout;
  readonly blocks: readonly GPTBlock[];
  readonly norm: LayerNorm;
  /** Without a bias. Its weight is that of `tokens`, unless `tieWeights` is false. */
  readonly head: Linear;

  constructor(o: GptOptions) {
    super();
    checkArgument('gpt', 'options', o, requiredOptions);
    checkOptions('gpt', o, OPTIONS);
    const { vocabSize, blockSize, nEmbd = 768, nHead = 12, nLayer = 12, dropout = 0, bias = true } = o;
    for (const [name, value] of Object.entries({ vocabSize, blockSize })) checkArgument('gpt', name, value, aCount);
    if (nEmbd % nHead !== 0) throw new RangeError(`gpt: expected nHead to divide nEmbd, got ${nHead} for ${nEmbd}`);
    const at = placed(o);
    this.tokens = new Embedding(vocabSize, nEmbd, at);
    this.tokens.weight = new Parameter(normal([vocabSize, nEmbd], 0.02, at));
    this.position = new Parameter(normal([blockSize, nEmbd], 0.02, at));
    this.dropout = new Dropout(dropout, at);
    this.blocks = Array.from({ length: nLayer }, () => new GPTBlock(o));
    this.norm = new LayerNorm(nEmbd, { bias, ...at });
    this.head = new Linear(nEmbd, vocabSize, { bias: false, ...at });
    this.head.weight =
      o.tieWeights === false ? new Parameter(normal([vocabSize, nEmbd], 0.02, at)) : this.tokens.weight;
  }

  /**
   * @param o caches: one for each block, to which the tokens are appended; logits are those of these tokens alone
   * @throws ShapeError for more positions than blockSize, those in the caches included
   */
  override forward(tokens: Tensor, o?: { caches?: readonly KVCache[] | undefined }): Tensor {
    checkOptions('gpt', o, { caches: aCacheEach });
    const [caches, count] = [o?.caches, this.blocks.length];
    if (caches !== undefined && caches.length !== count)
      throw new RangeError(`gpt: expected a cache for each of ${count} blocks, got ${caches.length}`);
    const offset = caches?.[0]?.length ?? 0;
    const most = this.position.shape[0]!;
    if (tokens.rank !== 2 || offset + tokens.shape[1]! > most)
      throw new ShapeError(
        `gpt: expected tokens [B, T] of at most ${most} positions${offset > 0 ? ` with ${offset} in the cache` : ''}, ` +
          `got ${describe(tokens)}`,
      );
    return insides(this, () => {
      const queries = tokens.shape[1]!;
      const extent = { queries, keys: offset + queries, offset, device: tokens.device };
      const attnMask = causalMask(extent) ?? undefined;
      const embedded = this.tokens.call(tokens).add(this.position.narrow(0, offset, queries));
      const y = this.blocks.reduce(
        (x, block, i) => block.call(x, { attnMask, cache: caches?.[i] }),
        this.dropout.call(embedded),
      );
      return this.head.call(this.norm.call(y));
    });
  }

  /**
   * `n` more tokens for each row of `tokens` int32 [B, T], drawn one by one from what the model expects; [B, T + n], on its device. With a
   * cache, until blockSize positions are full; then each token is drawn from the last blockSize ones, as in nanoGPT. The mode stays what
   * it is: call `eval()` before if there is dropout.
   *
   * @throws RangeError for logits that are not finite
   */
  async generate(tokens: Tensor, n: number, o: GenerateOptions = {}): Promise<Tensor> {
    checkArgument('generate', 'tokens', tokens, aTensor);
    checkArgument('generate', 'n', n, aCount);
    checkOptions('generate', o, GENERATE);
    if (tokens.rank !== 2 || tokens.size === 0 || tokens.dtype !== 'int32')
      throw new ShapeError(
        `generate: expected tokens int32 [B, T] with at least one in each row, got ${describe(tokens)}`,
      );
    const { device } = tokens;
    const [batch, length] = tokens.shape as [number, number];
    const most = this.position.shape[0]!;
    const given = Array.from(await tokens.data());
    const rows = Array.from({ length: batch }, (_, b) => given.slice(b * length, (b + 1) * length));
    const caches = this.blocks.map(() => new KVCache());
    for (let i = 0; i < n; i++) {
      const now = length + i;
      const cached = now <= most;
      const from = cached ? caches[0]!.length : now - most;
      const logits = noGrad(() =>
        scope(() => {
          const input = tensor(Int32Array.from(rows.flatMap(row => row.slice(from))), {
            shape: [batch, now - from],
            device,
          });
          return this.call(input, cached ? { caches } : {})
            .narrow(1, now - from - 1, 1)
            .contiguous();
        }),
      );
      const values = await logits.data();
      const size = values.length / batch;
      rows.forEach((row, b) => {
        row.push(draw(values.subarray(b * size, (b + 1) * size), o));
      });
    }
    return tensor(Int32Array.from(rows.flat()), { shape: [batch, length + n], device });
  }
}

/** `gpt({ vocabSize: 65, blockSize: 256, nLayer: 6, nHead: 6, nEmbd: 384 })`: see `GPT`. */
export function gpt(o: GptOptions): GPT {
  return new GPT(o);
}
