/** The recurrent language model (Zaremba et al. 2014; PyTorch's example word_language_model). */

import { type Tensor, zeros } from '@otimes/core';
import { aBoolean, checkArgument, checkOptions } from '@otimes/core/extend';
import { insides } from '../calls.ts';
import {
  aProbability,
  checkPositive,
  isOption,
  PLACEMENT,
  type Placement,
  placed,
  requiredOptions,
  withoutRng,
} from '../check.ts';
import { Dropout } from '../dropout.ts';
import { Embedding } from '../embedding/embedding.ts';
import { uniform } from '../init.ts';
import { Linear } from '../linear.ts';
import { Module } from '../module.ts';
import { Parameter } from '../parameter.ts';
import { LSTM, type LSTMState } from '../recurrent/layers.ts';

export type LSTMLanguageModelOptions = Placement & {
  /** Number of words. */
  vocabulary: number;
  /** Features of a word's vector. */
  dim: number;
  /** Units of each layer. */
  hidden: number;
  /** Layers of the LSTM. */
  layers: number;
  /** Probability of dropping, of words' vectors, between layers and of the last layer's states; default 0. */
  dropout?: number;
  /** Whether the decoder has the encoder's weight (Press & Wolf 2017), for which dim must be hidden; default false. */
  tieWeights?: boolean;
  /** Whether words and logits are [B, T, …] and not [T, B, …]; default true. */
  batchFirst?: boolean;
};

const OPTIONS = {
  ...{ vocabulary: isOption, dim: isOption, hidden: isOption, layers: isOption },
  dropout: aProbability,
  tieWeights: aBoolean,
  batchFirst: aBoolean,
  ...PLACEMENT,
};

/**
 * int32 words [B, T] and a state → [logits [B, T, vocabulary] of each next word, state]: `encoder`, an embedding, dropout, `rnn`, an LSTM, dropout, `decoder`, a linear
 * layer. The state is [h, c], each [layers, B, hidden], zeros where it is left out or null. Encoder and decoder start uniform in ±0.1, the decoder's bias at 0.
 */
export class LSTMLanguageModel extends Module<
  [words: Tensor, state?: LSTMState | null],
  [logits: Tensor, state: LSTMState]
> {
  static readonly builtIn: string = 'LSTMLanguageModel';
  readonly drop: Dropout;
  readonly encoder: Embedding;
  readonly rnn: LSTM;
  readonly decoder: Linear;

  constructor(o: LSTMLanguageModelOptions) {
    super();
    checkArgument('lstmLanguageModel', 'options', o, requiredOptions);
    checkOptions('lstmLanguageModel', o, OPTIONS);
    const { vocabulary, dim, hidden, layers, ...rest } = o;
    checkPositive('lstmLanguageModel', { vocabulary, dim, hidden, layers });
    const tied = rest.tieWeights ?? false;
    if (tied && dim !== hidden)
      throw new RangeError(`lstmLanguageModel: expected dim to be hidden with tieWeights, got ${dim} and ${hidden}`);
    const [at, dropout] = [placed(rest), rest.dropout ?? 0];
    const table = (columns: number) => new Parameter(uniform([vocabulary, columns], -0.1, 0.1, at));
    this.drop = new Dropout(dropout, at);
    this.encoder = new Embedding(vocabulary, dim, at);
    this.encoder.weight = table(dim);
    this.rnn = new LSTM(dim, hidden, { numLayers: layers, dropout, batchFirst: rest.batchFirst ?? true, ...at });
    this.decoder = new Linear(hidden, vocabulary, at);
    this.decoder.weight = tied ? this.encoder.weight : table(hidden);
    this.decoder.bias = new Parameter(zeros([vocabulary], withoutRng(at)));
  }

  override forward(words: Tensor, state?: LSTMState | null): [Tensor, LSTMState] {
    let last: LSTMState | undefined;
    const logits = insides(this, () => {
      const vectors = this.drop.call(this.encoder.call(words));
      const [output, end] = this.rnn.call(vectors, state ?? null);
      // The state outlives the graph.
      for (const x of end) x.keep();
      last = end;
      return this.decoder.call(this.drop.call(output));
    });
    return [logits, last!];
  }
}

/** `lstmLanguageModel({ vocabulary: 10000, dim: 200, hidden: 200, layers: 2 })`: see `LSTMLanguageModel`. */
export function lstmLanguageModel(o: LSTMLanguageModelOptions): LSTMLanguageModel {
  return new LSTMLanguageModel(o);
}
