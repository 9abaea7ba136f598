/** A deep autoencoder of digits. */

import { fromAdamW, small } from './small.ts';

export const autoencoderPreset = small({
  name: 'autoencoder',
  title: 'Digits, autoencoder',
  about:
    'An autoencoder 196-128-64-32-10-32-64-128-196 with tanh on 7,000 handwritten digits of 14×14 pixels; the squared error of a pixel.',
  task: 'autoencoder',
  taskOptions: {},
  target: 0.02,
  targetFrom: fromAdamW('autoencoder', 'rounded to two digits'),
  epochs: 30,
  kronecker: { refreshEvery: 50, factorEvery: 10, refresh: 'sync' },
});
