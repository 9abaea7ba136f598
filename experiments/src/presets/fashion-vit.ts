/** A small vision transformer on Fashion-MNIST. */

import { fromAdamW, small, TRANSFORMER_SPACES } from './small.ts';

export const fashionVit = small({
  name: 'fashion-vit',
  title: 'Fashion-MNIST, ViT',
  about:
    'A vision transformer of 2 blocks, 4 heads and 32 features over 16 patches of 7×7 pixels, whose head sees the mean of all tokens, on 6,000 images of Fashion-MNIST.',
  task: 'fashion',
  taskOptions: { network: 'vit', size: 28, patch: 7, features: 32, layers: 2, heads: 4, train: 6000, validation: 2000 },
  short: { train: 1000, validation: 300, test: 300 },
  target: 0.805,
  targetFrom: fromAdamW('fashion-vit', 'rounded down to half a per cent'),
  epochs: 10,
  spaces: TRANSFORMER_SPACES,
  // All tokens reach the loss alike, which is what 'reduce' assumes.
  kronecker: { refreshEvery: 20, factorEvery: 10, refresh: 'sync', sharing: 'reduce' },
});
