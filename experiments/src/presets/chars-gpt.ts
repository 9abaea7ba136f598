/** A small transformer on text, character by character. */

import { fromAdamW, small, TRANSFORMER_SPACES } from './small.ts';

export const charsGpt = small({
  name: 'chars-gpt',
  title: 'Characters, GPT',
  about:
    'A GPT of 2 blocks, 4 heads and 64 features that reads 64 characters of English fiction at a time and expects the next one of each.',
  task: 'chars',
  taskOptions: {},
  short: { train: 320, validation: 60, test: 60 },
  target: 2.44,
  targetFrom: fromAdamW('chars-gpt', 'rounded up to .02'),
  epochs: 1,
  spaces: TRANSFORMER_SPACES,
  checksPerEpoch: 20,
  kronecker: { refreshEvery: 20, factorEvery: 10, refresh: 'sync' },
});
