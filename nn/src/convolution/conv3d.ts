/** Convolution of volumes and videos with their channels first. */

import { stack, type Tensor } from '@otimes/core';
import { conv3d } from '../functional.ts';
import { Convolution, type ConvolutionOptions } from './convolution.ts';

type Triple = readonly [depth: number, rows: number, columns: number];

export type Conv3dOptions = ConvolutionOptions<Triple>;

/** x [N, cIn, D, H, W] → [N, cOut, Do, Ho, Wo]; see `conv3d` in core. The weight is [cOut, cIn/groups, kd, kh, kw]. */
export class Conv3d extends Convolution<Triple> {
  static readonly builtIn: string = 'Conv3d';

  constructor(cIn: number, cOut: number, kernel: number | Triple, o: Conv3dOptions = {}) {
    super('Conv3d', 3, [cIn, cOut, kernel], o);
  }

  override forward(x: Tensor): Tensor {
    this.checkChannels('Conv3d', x, 'D, H, W');
    return conv3d(this.padded(x), this.weight, this.bias, this.geometry);
  }

  /** At each depth of the output the slices that the kernel sees: [N·Do, C·kd, H, W]. */
  protected override images(x: Tensor): Tensor {
    const { stride, padding, dilation } = this.geometry;
    const [zeros, step, apart, taps] = [padding[0]!, stride[0]!, dilation[0]!, this.kernel[0]!];
    const volume = this.padded(x).pad([
      [0, 0],
      [0, 0],
      [zeros, zeros],
    ]);
    const depths = Math.floor((volume.shape[2]! - apart * (taps - 1) - 1) / step) + 1;
    const byDepth = volume.permute(0, 2, 1, 3, 4);
    const seen = Array.from({ length: taps }, (_, k) =>
      byDepth.slice(null, [k * apart, k * apart + (depths - 1) * step + 1, step]),
    );
    const [n, , c, h, w] = byDepth.shape as [number, number, number, number, number];
    return stack(seen, 3).reshape([n * depths, c * taps, h, w]);
  }
}
