/** A small multilayer perceptron on Fashion-MNIST. */

import { fromAdamW, LEAGUE_OF_PLAIN_LAYERS, small } from './small.ts';

export const fashionMlp = small({
  name: 'fashion-mlp',
  title: 'Fashion-MNIST, MLP',
  about: 'A multilayer perceptron 196-128-64-10 with ReLU on 20,000 images of Fashion-MNIST of 14×14 pixels.',
  task: 'fashion',
  taskOptions: { network: 'mlp', hidden: [128, 64], train: 20_000, validation: 5000 },
  short: { train: 1000, validation: 300, test: 300 },
  target: 0.87,
  targetFrom: fromAdamW('fashion-mlp', 'rounded down to half a per cent'),
  epochs: 15,
  contenders: LEAGUE_OF_PLAIN_LAYERS,
  kronecker: { refreshEvery: 50, factorEvery: 10, refresh: 'sync' },
});
