/**
 * Recurrent layers: CPU milliseconds of whole training steps on one thread, and beside them PyTorch's on one thread, taken in turns.
 *
 *   npm run bench bench/recurrent.ts              all
 *   npm run bench bench/recurrent.ts lm1k cell    some
 *
 * `lm`: embedding, 2 LSTM layers of 200, T = 35, batch 20, cross-entropy, SGD with clipping, as in PyTorch's word_language_model. `cell`: a
 * loop over LSTMCell. `char`, `small`: embedding, one layer, linear, Adam. Needs python3 with torch; without it the column is left out.
 */

import { Generator, randint, randn, scope, setThreads, type Tensor, zeros } from '@otimes/core';
import { crossEntropy, Embedding, GRU, Linear, LSTM, LSTMCell, RNN } from '@otimes/nn';
import { Adam, clipGradNorm, SGD } from '@otimes/optim';
import { inTurns } from './turns.ts';

await setThreads(1);
const rng = new Generator(0);

function languageModel(words: number, { h = 200, layers = 2, T = 35, B = 20 } = {}): () => void {
  const [encoder, rnn, decoder] = [
    new Embedding(words, h, { rng }),
    new LSTM(h, h, { numLayers: layers, rng }),
    new Linear(h, words, { rng }),
  ];
  const parameters = [encoder, rnn, decoder].flatMap(one => one.parameters());
  const optimizer = new SGD(parameters, { lr: 1 });
  const [x, y] = [randint(0, words, [T, B], { rng }), randint(0, words, [T * B], { rng })];
  let state: readonly [Tensor, Tensor] = [zeros([layers, B, h]), zeros([layers, B, h])];
  return () => {
    state = scope(() => {
      const [output, [hN, cN]] = rnn.call(encoder.call(x), state);
      optimizer.zeroGrad();
      crossEntropy(decoder.call(output).reshape([-1, words]), y).backward();
      clipGradNorm(parameters, 0.25);
      optimizer.step();
      return [hN.detach().clone(), cN.detach().clone()] as const;
    });
  };
}

function cellLoop({ h = 128, T = 35, B = 32, n = 64 } = {}): () => void {
  const cell = new LSTMCell(n, h, { rng });
  const optimizer = new SGD(cell.parameters(), { lr: 0.1 });
  const x = randn([T, B, n], { rng });
  return () =>
    scope(() => {
      let state: readonly [Tensor, Tensor] = [zeros([B, h]), zeros([B, h])];
      for (let t = 0; t < T; t++) state = cell.call(x.narrow(0, t, 1).squeeze(0), state);
      optimizer.zeroGrad();
      state[0].square().mean().backward();
      optimizer.step();
    });
}

function characters(
  Layer: typeof RNN | typeof LSTM | typeof GRU,
  { h = 128, T = 50, B = 32, V = 64 } = {},
): () => void {
  const [encoder, rnn, decoder] = [
    new Embedding(V, h, { rng }),
    new Layer(h, h, { batchFirst: true, rng }),
    new Linear(h, V, { rng }),
  ];
  const optimizer = new Adam(
    [encoder, rnn, decoder].flatMap(one => one.parameters()),
    { lr: 0.001 },
  );
  const [x, y] = [randint(0, V, [B, T], { rng }), randint(0, V, [T * B], { rng })];
  return () =>
    scope(() => {
      const [output] = rnn.call(encoder.call(x));
      optimizer.zeroGrad();
      crossEntropy(decoder.call(output).reshape([-1, V]), y).backward();
      optimizer.step();
    });
}

const small = { h: 32, T: 20, B: 8, V: 32 };
const problems: Record<string, [() => () => void, calls: number]> = {
  lm10k: [() => languageModel(10000), 1],
  lm1k: [() => languageModel(1000), 3],
  cell: [() => cellLoop(), 10],
  'char-RNN': [() => characters(RNN), 10],
  'char-LSTM': [() => characters(LSTM), 5],
  'char-GRU': [() => characters(GRU), 5],
  'small-RNN': [() => characters(RNN, small), 100],
  'small-LSTM': [() => characters(LSTM, small), 100],
  smallcell: [() => cellLoop({ h: 32, T: 20, B: 4, n: 16 }), 50],
};

const wanted = process.argv.slice(2).filter(name => name in problems);
console.log('step          otimes ms   torch ms   torch / otimes');
for (const name of wanted.length > 0 ? wanted : Object.keys(problems)) {
  const [make, calls] = problems[name]!;
  console.log(name.padEnd(12) + (await inTurns('torch_recurrent.py', name, make(), calls)));
}
