/** A small convolutional network on digits. */

import { fromAdamW, LEAGUE_OF_PLAIN_LAYERS, small } from './small.ts';

export const digitsCnn = small({
  name: 'digits-cnn',
  title: 'Digits, CNN',
  about: 'Two convolutions of 8 and 16 channels and a linear layer on 7,000 handwritten digits of 14×14 pixels.',
  task: 'digits',
  taskOptions: { network: 'cnn', channels: [8, 16] },
  short: { train: 1000, validation: 300, test: 300 },
  target: 0.96,
  targetFrom: fromAdamW('digits-cnn', 'rounded down to half a per cent'),
  epochs: 20,
  contenders: LEAGUE_OF_PLAIN_LAYERS,
  kronecker: { refreshEvery: 20, factorEvery: 10, refresh: 'sync' },
});
