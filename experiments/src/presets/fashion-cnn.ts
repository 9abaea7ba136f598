/** A small convolutional network on Fashion-MNIST. */

import { fromAdamW, LEAGUE_OF_PLAIN_LAYERS, small } from './small.ts';

export const fashionCnn = small({
  name: 'fashion-cnn',
  title: 'Fashion-MNIST, CNN',
  about: 'Two convolutions of 16 and 32 channels and a linear layer on 10,000 images of Fashion-MNIST of 14×14 pixels.',
  task: 'fashion',
  taskOptions: { network: 'cnn', channels: [16, 32], train: 10_000, validation: 2000 },
  short: { train: 1000, validation: 300, test: 300 },
  target: 0.86,
  targetFrom: fromAdamW('fashion-cnn', 'rounded down to half a per cent'),
  epochs: 10,
  contenders: LEAGUE_OF_PLAIN_LAYERS,
  kronecker: { refreshEvery: 20, factorEvery: 10, refresh: 'sync' },
});
