// Language models as a whole: tables, recurrent or attention layers and a tied head at once, padded sequences and ignored labels.

import assert from 'node:assert/strict';
import { Generator, randint, type Tensor, tensor } from '@otimes/core';
import { type AnyModule, crossEntropy, Embedding, gpt, Linear, LSTM, lstmLanguageModel, Module } from '@otimes/nn';
import { EKFAC, KFAC, type KroneckerOptions, STEVE } from '@otimes/optim';
import { CurvatureEstimate } from '@otimes/optim/curvature';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { law } from './helpers/law.ts';

const V = 6;
const o = (seed: number) => ({ dtype: 'float64', rng: new Generator(seed) }) as const;
const language = (tieWeights: boolean) =>
  lstmLanguageModel({ vocabulary: V, dim: 4, hidden: 4, layers: 1, tieWeights, ...o(1) });

const OPTIMIZERS = {
  KFAC: (m: AnyModule, more: KroneckerOptions) => new KFAC(m, { lr: 0.3, ...more }),
  EKFAC: (m: AnyModule, more: KroneckerOptions) => new EKFAC(m, { lr: 0.3, ...more }),
  STEVE: (m: AnyModule, more: KroneckerOptions) => new STEVE(m, { lr: 0.05, ...more }),
};

/** The next number modulo V, in steps of 1 or 2. */
const numbers = (B: number, T: number, seed: number): Tensor => {
  const rng = new Generator(seed);
  const rows = Array.from({ length: B }, () => {
    const [first, by] = [rng.integer(0, V), rng.integer(1, 3)];
    return Array.from({ length: T }, (_, i) => (first + by * i) % V);
  });
  return tensor(rows, { dtype: 'int32' });
};

for (const [name, make] of Object.entries(OPTIMIZERS)) {
  law(t, `${name} trains an LSTM whose head is tied to the table, padded sequences too`, () => {
    const model = language(true);
    const optimizer = make(model, { refreshEvery: 5 });
    assert.ok(String(optimizer.describe()).includes('tied'));
    const losses = Array.from({ length: 60 }, (_, step) => {
      const text = numbers(8, 9, step);
      const [words, next] = [text.narrow(1, 0, 8), text.narrow(1, 1, 8)];
      const labels = tensor(
        (next.toArray() as number[][]).map((row, b) => row.map((c, i) => (i < 5 + (b % 4) ? c : -100))),
        { dtype: 'int32' },
      );
      optimizer.zeroGrad();
      const [logits] = model.call(words);
      const loss = crossEntropy(logits.flatten(0, 1), labels.flatten(), { ignoreIndex: -100 });
      loss.backward();
      void optimizer.step();
      return loss.item();
    });
    assert.ok(losses.at(-1)! < 0.6 * losses[0]!, `${losses[0]} → ${losses.at(-1)}`);
  });

  law(t, `${name} trains a GPT whose head is tied to the table`, () => {
    const model = gpt({ vocabSize: V, blockSize: 8, nLayer: 1, nHead: 2, nEmbd: 8, ...o(2) });
    const optimizer = make(model, { refreshEvery: 5 });
    assert.ok(String(optimizer.describe()).includes('tied'));
    const losses = Array.from({ length: 40 }, (_, step) => {
      const text = numbers(8, 9, step);
      optimizer.zeroGrad();
      const logits = model.call(text.narrow(1, 0, 8));
      const loss = crossEntropy(logits.flatten(0, 1), text.narrow(1, 1, 8).flatten());
      loss.backward();
      void optimizer.step();
      return loss.item();
    });
    assert.ok(losses.at(-1)! < 0.6 * losses[0]!, `${losses[0]} → ${losses.at(-1)}`);
  });
}

/** Three sequences of words, of these lengths, with `more` positions of padding behind the longest. */
const LENGTHS = [3, 5, 2];
function padded(more: number) {
  const [words, next] = [
    randint(0, V, [3, 5], { rng: new Generator(3) }),
    randint(0, V, [3, 5], { rng: new Generator(4) }),
  ];
  const filled = (x: Tensor, by: number) =>
    tensor(
      (x.toArray() as number[][]).map((row, b) =>
        Array.from({ length: 5 + more }, (_, i) => (i < LENGTHS[b]! ? row[i]! : by)),
      ),
      { dtype: 'int32' },
    );
  return { words: filled(words, 0), labels: filled(next, -100) };
}

for (const tied of [false, true])
  law(t, `an LSTM${tied ? ' with a tied head' : ''}: how much padding there is changes no factor`, () => {
    const found = [0, 3].map(more => {
      const model = language(tied);
      const curvature = new CurvatureEstimate(model);
      const { words, labels } = padded(more);
      crossEntropy(model.call(words)[0].flatten(0, 1), labels.flatten(), { ignoreIndex: -100 }).backward();
      curvature.add();
      return curvature;
    });
    const paths = [...(tied ? [] : ['encoder']), 'rnn.ih_l0.i', 'rnn.hh_l0.f', 'decoder'];
    for (const path of paths)
      for (const side of ['A', 'G'] as const) {
        const [few, many] = found.map(one => one.factors(path)[side]);
        mustBeClose(many!, few!, { rtol: 1e-9, atol: 1e-14 }, `${path} ${side}`);
      }
  });

/** A tagger that may be told the lengths. */
class Tagger extends Module<[words: Tensor, lengths: readonly number[] | null], Tensor> {
  readonly table = new Embedding(V, 4, o(5));
  readonly rnn = new LSTM(4, 3, { batchFirst: true, ...o(6) });
  readonly head = new Linear(3, V, o(7));
  override forward(words: Tensor, lengths: readonly number[] | null): Tensor {
    const x = this.table.call(words);
    const [h] = this.rnn.call(x, null, lengths);
    return this.head.call(h).flatten(0, 1);
  }
}

for (const fisher of ['empirical', 'sampled', 'ggn'] as const)
  law(
    t,
    `${fisher}: steps that lengths leave out and labels ignore are the same as those that labels alone ignore`,
    () => {
      const found = [LENGTHS, null].map(lengths => {
        const model = new Tagger();
        const curvature = new CurvatureEstimate(model, { fisher, loss: 'crossEntropy', rng: new Generator(1) });
        const { words, labels } = padded(1);
        crossEntropy(model.call(words, lengths), labels.flatten(), { ignoreIndex: -100 }).backward();
        curvature.add();
        return curvature;
      });
      for (const path of ['table', 'rnn.ih_l0.g', 'rnn.hh_l0.o', 'head'])
        for (const side of ['A', 'G'] as const) {
          const [told, ignored] = found.map(one => one.factors(path)[side]);
          mustBeClose(told!, ignored!, { rtol: 1e-9, atol: 1e-14 }, `${path} ${side}`);
        }
    },
  );

law(t, 'a model that returns logits and a state has the empirical Fisher alone, and says so', () => {
  const model = language(false);
  new CurvatureEstimate(model, { fisher: 'ggn', loss: 'crossEntropy' });
  assert.throws(
    () => model.call(padded(0).words),
    /TypeError: fisher 'ggn': the model must return one tensor that depends on its parameters/,
  );
});
