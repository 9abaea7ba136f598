/** A small multilayer perceptron on digits. */

import { fromAdamW, LEAGUE_OF_PLAIN_LAYERS, small } from './small.ts';

export const digitsMlp = small({
  name: 'digits-mlp',
  title: 'Digits, MLP',
  about: 'A multilayer perceptron 196-128-64-10 with ReLU on 7,000 handwritten digits of 14×14 pixels.',
  task: 'digits',
  taskOptions: { network: 'mlp', hidden: [128, 64] },
  short: { train: 1000, validation: 300, test: 300 },
  target: 0.95,
  targetFrom: fromAdamW('digits-mlp', 'rounded down to half a per cent'),
  epochs: 30,
  contenders: LEAGUE_OF_PLAIN_LAYERS,
  kronecker: { refreshEvery: 50, factorEvery: 10, refresh: 'sync' },
});
