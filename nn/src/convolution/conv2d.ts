/** Convolution of images. */

import type { Pair, Tensor } from '@otimes/core';
import { conv2d } from '../functional.ts';
import { Convolution, type ConvolutionOptions } from './convolution.ts';

export type Conv2dOptions = ConvolutionOptions<Pair>;

/** x [N, cIn, H, W] → [N, cOut, Ho, Wo]; see `conv2d` in core. The weight is [cOut, cIn/groups, kh, kw]. */
export class Conv2d extends Convolution<Pair> {
  static readonly builtIn: string = 'Conv2d';

  constructor(cIn: number, cOut: number, kernel: number | Pair, o: Conv2dOptions = {}) {
    super('Conv2d', 2, [cIn, cOut, kernel], o);
  }

  override forward(x: Tensor): Tensor {
    this.checkChannels('Conv2d', x, 'H, W');
    return conv2d(this.padded(x), this.weight, this.bias, this.geometry);
  }

  protected override images(x: Tensor): Tensor {
    return this.padded(x);
  }
}
