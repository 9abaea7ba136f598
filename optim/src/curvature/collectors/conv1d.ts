/** The collector of `Conv1d`: that of `Conv2d` for sequences. */

import type { Collector } from '../collector.ts';
import { computesAs } from './claim.ts';
import { ConvolutionBlock, convolutionBlocks } from './conv2d.ts';

/** Claims every Conv1d whose weight requires a gradient, as `conv2dCollector` does; `sharing` defaults to 'expand'. */
export const conv1dCollector: Collector = {
  name: 'conv1d',
  collect(module, path, { sharing = 'expand' }) {
    if (!computesAs(module, 'Conv1d')) return null;
    return convolutionBlocks(module, { collector: 'conv1d', path, sharing }, o => new ConvolutionBlock(module, o));
  },
};
