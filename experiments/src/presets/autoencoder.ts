/** A deep autoencoder of digits. */

import { decades } from '../contenders/spaces.ts';
import { fromAdamW, LEAGUE_OF_PLAIN_LAYERS, small } from './small.ts';

export const autoencoderPreset = small({
  name: 'autoencoder',
  title: 'Digits, autoencoder',
  about:
    'An autoencoder 196-128-64-32-10-32-64-128-196 with tanh on 7,000 handwritten digits of 14×14 pixels; the squared error of a pixel.',
  task: 'autoencoder',
  taskOptions: {},
  short: { train: 1000, validation: 300, test: 300 },
  target: 0.028,
  targetFrom: fromAdamW('autoencoder', 'rounded up to .001'),
  epochs: 30,
  contenders: LEAGUE_OF_PLAIN_LAYERS,
  // The loss is a sum over pixels.
  spaces: { sgd: { lr: decades(1e-4, 1e-3) } },
  kronecker: { refreshEvery: 50, factorEvery: 10, refresh: 'sync' },
});
