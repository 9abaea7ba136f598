/** Convolution of sequences with their channels first. */

import type { Tensor } from '@otimes/core';
import { conv1d } from '../functional.ts';
import { Convolution, type ConvolutionOptions } from './convolution.ts';

export type Conv1dOptions = ConvolutionOptions<readonly [length: number]>;

/** x [N, cIn, L] → [N, cOut, Lo]; see `conv1d` in core. The weight is [cOut, cIn/groups, k]. */
export class Conv1d extends Convolution<readonly [length: number]> {
  static readonly builtIn: string = 'Conv1d';

  constructor(cIn: number, cOut: number, kernel: number | readonly [number], o: Conv1dOptions = {}) {
    super('Conv1d', 1, [cIn, cOut, kernel], o);
  }

  override forward(x: Tensor): Tensor {
    this.checkChannels('Conv1d', x, 'L');
    return conv1d(this.padded(x), this.weight, this.bias, this.geometry);
  }

  protected override images(x: Tensor): Tensor {
    return this.padded(x).unsqueeze(2);
  }
}
