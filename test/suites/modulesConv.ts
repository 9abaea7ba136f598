/** Entries of the list in `modules.ts` for convolutions, what normalises or pools their results, and padding. */

import { randn } from '@otimes/core';
import * as nn from '@otimes/nn';
import {
  AdaptiveAvgPool1d,
  AdaptiveAvgPool2d,
  AdaptiveMaxPool1d,
  AdaptiveMaxPool2d,
  AvgPool1d,
  AvgPool3d,
  BatchNorm1d,
  BatchNorm2d,
  BatchNorm3d,
  Conv1d,
  Conv2d,
  Conv3d,
  ConvTranspose1d,
  ConvTranspose2d,
  InstanceNorm1d,
  InstanceNorm2d,
  InstanceNorm3d,
  MaxPool1d,
  MaxPool3d,
} from '@otimes/nn';
import type { At, ModuleCase } from './modules.ts';

const some =
  (...shape: number[]) =>
  (at: At) => [randn(shape, at)];
const sequences = some(2, 2, 7);
const images = some(2, 2, 5, 4);
const volumes = some(2, 2, 4, 3, 4);

export const convModuleCases: Record<string, ModuleCase> = {
  Conv1d: { make: at => new Conv1d(2, 4, 3, { ...at, stride: 2, padding: 1, groups: 2 }), inputs: sequences },
  "Conv1d, 'same'": { make: at => new Conv1d(2, 3, 4, { ...at, padding: 'same', dilation: 2 }), inputs: sequences },
  "Conv2d, 'same'": { make: at => new Conv2d(2, 3, [2, 3], { ...at, padding: 'same' }), inputs: images },
  Conv3d: { make: at => new Conv3d(2, 4, [2, 3, 2], { ...at, stride: 2, padding: 1, groups: 2 }), inputs: volumes },
  ConvTranspose1d: {
    make: at => new ConvTranspose1d(2, 3, 3, { ...at, stride: 2, padding: 1, outputPadding: 1 }),
    inputs: sequences,
  },
  ConvTranspose2d: {
    make: at => new ConvTranspose2d(2, 4, 3, { ...at, stride: [2, 1], outputPadding: [1, 0], groups: 2, bias: false }),
    inputs: images,
  },
  BatchNorm1d: { make: at => new BatchNorm1d(2, at), inputs: sequences },
  'BatchNorm1d of vectors': { make: at => new BatchNorm1d(3, { ...at, momentum: null }), inputs: some(5, 3) },
  'BatchNorm2d without averages': {
    make: at => new BatchNorm2d(2, { ...at, affine: false, trackRunningStats: false }),
    inputs: images,
  },
  BatchNorm3d: { make: at => new BatchNorm3d(2, at), inputs: volumes },
  InstanceNorm1d: { make: at => new InstanceNorm1d(2, { ...at, affine: true }), inputs: sequences },
  InstanceNorm2d: { make: at => new InstanceNorm2d(2, { ...at, trackRunningStats: true }), inputs: images },
  InstanceNorm3d: { make: at => new InstanceNorm3d(2, at), inputs: volumes },
  MaxPool1d: { make: () => new MaxPool1d(3, { stride: 2, padding: 1 }), inputs: sequences },
  MaxPool3d: { make: () => new MaxPool3d([2, 3, 2], { stride: 2, padding: [0, 1, 0] }), inputs: volumes },
  AvgPool1d: { make: () => new AvgPool1d(3, { padding: 1, countIncludePad: false }), inputs: sequences },
  AvgPool3d: { make: () => new AvgPool3d(2), inputs: volumes },
  AdaptiveAvgPool1d: { make: () => new AdaptiveAvgPool1d(3), inputs: sequences },
  AdaptiveAvgPool2d: { make: () => new AdaptiveAvgPool2d([2, null]), inputs: images },
  AdaptiveMaxPool1d: { make: () => new AdaptiveMaxPool1d(3), inputs: sequences },
  AdaptiveMaxPool2d: { make: () => new AdaptiveMaxPool2d([3, 3]), inputs: images },
  'Conv2d, reflecting': {
    make: at => new Conv2d(2, 3, 3, { ...at, padding: 1, paddingMode: 'reflect' }),
    inputs: images,
  },
  ZeroPad1d: { make: () => new nn.ZeroPad1d(1), inputs: sequences },
  ZeroPad2d: { make: () => new nn.ZeroPad2d(1), inputs: images },
  ConstantPad1d: { make: () => new nn.ConstantPad1d([1, 2], 3), inputs: sequences },
  ConstantPad2d: { make: () => new nn.ConstantPad2d([1, 2, 0, 1], 3), inputs: images },
  ReflectionPad1d: { make: () => new nn.ReflectionPad1d([1, 2]), inputs: sequences },
  ReflectionPad2d: { make: () => new nn.ReflectionPad2d([1, 2, 0, 1]), inputs: images },
  ReplicationPad1d: { make: () => new nn.ReplicationPad1d([1, 2]), inputs: sequences },
  ReplicationPad2d: { make: () => new nn.ReplicationPad2d([1, 2, 0, 1]), inputs: images },
  CircularPad1d: { make: () => new nn.CircularPad1d([1, 2]), inputs: sequences },
  CircularPad2d: { make: () => new nn.CircularPad2d([1, 2, 0, 1]), inputs: images },
  PixelShuffle: { make: () => new nn.PixelShuffle(2), inputs: some(2, 4, 2, 3) },
  PixelUnshuffle: { make: () => new nn.PixelUnshuffle(2), inputs: some(2, 1, 4, 2) },
  Unfold: { make: () => new nn.Unfold([2, 3], { padding: 1, stride: 2 }), inputs: images },
  Fold: { make: () => new nn.Fold([3, 4], 2), inputs: some(2, 8, 6) },
  Upsample: { make: () => new nn.Upsample({ scaleFactor: 2, mode: 'bilinear' }), inputs: images },
  MobileNetV1: {
    make: at => new nn.MobileNetV1({ ...at, alpha: 0.1, numClasses: 3, channels: 1 }),
    // So many, and so wide, that batch norms of few numbers do not enlarge rounding in second gradients beyond what is compared.
    inputs: some(6, 1, 33, 33),
  },
};
