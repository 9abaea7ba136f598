/** The collector of `Conv3d`: that of `Conv2d` for volumes. */

import type { Collector } from '../collector.ts';
import { computesAs } from './claim.ts';
import { ConvolutionBlock, convolutionBlocks } from './conv2d.ts';

/** Claims every Conv3d whose weight requires a gradient, as `conv2dCollector` does; `sharing` defaults to 'expand'. */
export const conv3dCollector: Collector = {
  name: 'conv3d',
  collect(module, path, { sharing = 'expand' }) {
    if (!computesAs(module, 'Conv3d')) return null;
    return convolutionBlocks(module, { collector: 'conv3d', path, sharing }, o => new ConvolutionBlock(module, o));
  },
};
