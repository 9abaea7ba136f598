/** A narrow residual network on CIFAR-10. */

import { fromAdamW, small } from './small.ts';

export const cifarResnet = small({
  name: 'cifar-resnet',
  title: 'CIFAR-10, ResNet-8',
  about: 'The residual network of 8 layers with 8, 16 and 32 channels on 8,000 images of CIFAR-10 of 16×16 pixels.',
  task: 'cifar10',
  taskOptions: { network: 'resnet', depth: 8, width: 8, size: 16, train: 8000, validation: 2000, test: 4000 },
  short: { train: 1000, validation: 300, test: 300 },
  target: 0.465,
  targetFrom: fromAdamW('cifar-resnet --data FOLDER', 'rounded down to half a per cent'),
  epochs: 8,
  kronecker: { refreshEvery: 20, factorEvery: 10, refresh: 'sync' },
});
