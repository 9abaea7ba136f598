/** Entries of the list in `modules.ts` for convolutions, what normalises or pools their results, and padding. */

import { randn } from '@otimes/core';
import { Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d } from '@otimes/nn';
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
};
