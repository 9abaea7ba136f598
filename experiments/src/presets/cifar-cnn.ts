/** A small convolutional network on CIFAR-10. */

import { fromAdamW, LEAGUE_OF_PLAIN_LAYERS, small } from './small.ts';

export const cifarCnn = small({
  name: 'cifar-cnn',
  title: 'CIFAR-10, CNN',
  about: 'Two convolutions of 16 and 32 channels and a linear layer on 10,000 images of CIFAR-10 of 16×16 pixels.',
  task: 'cifar10',
  taskOptions: { network: 'cnn', channels: [16, 32], size: 16, train: 10_000, validation: 2000, test: 4000 },
  short: { train: 1000, validation: 300, test: 300 },
  target: 0.53,
  targetFrom: fromAdamW('cifar-cnn --data FOLDER', 'rounded down to half a per cent'),
  epochs: 10,
  contenders: LEAGUE_OF_PLAIN_LAYERS,
  kronecker: { refreshEvery: 20, factorEvery: 10, refresh: 'sync' },
});
