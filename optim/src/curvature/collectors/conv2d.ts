/**
 * The collector of `Conv2d`: Kronecker factors for convolution, KFC (Grosse & Martens 2016). A convolution multiplies
 * its weight matrix [cOut, cIn·kh·kw] with the patch under the kernel, at each place of the output; so a patch is `a`,
 * the gradient at one place is `g`, and the places share.
 */

import { scope, type Tensor } from '@otimes/core';
import { type Conv2d, Module } from '@otimes/nn';
import type { Canonical, ConvolutionLayer } from '../block.ts';
import type { Collector } from '../collector.ts';
import { computesAs } from './claim.ts';
import { WeightBlock, type WeightBlockOptions } from './weight.ts';

/**
 * Claims every Conv2d whose weight requires a gradient; `sharing` defaults to 'expand'. Groups are independent
 * convolutions, so each is a block of its own: `PATH.groups.0`, `PATH.groups.1`, … A class that extends Conv2d and has a `forward`
 * of its own is not claimed.
 */
export const conv2dCollector: Collector = {
  name: 'conv2d',
  collect(module, path, { sharing = 'expand' }) {
    if (!computesAs(module, 'Conv2d')) return null;
    const { weight, groups } = module;
    if (!weight.requiresGrad) return [];
    if (groups === 1) return [new Conv2dBlock(module, { collector: 'conv2d', path, sharing })];
    const size = weight.shape[0]! / groups;
    return Array.from({ length: groups }, (_, i) => {
      const name = path === '' ? `groups.${i}` : `${path}.groups.${i}`;
      return new Conv2dBlock(module, { collector: 'conv2d', path: name, sharing, rows: [i * size, (i + 1) * size] });
    });
  },
};

class Conv2dBlock extends WeightBlock<Conv2d> {
  readonly layer: ConvolutionLayer | undefined;

  constructor(module: Conv2d, o: WeightBlockOptions) {
    super(module, o);
    const { weight, bias, groups, kernel, stride, padding, dilation } = module;
    // Another copy of the package may compute in another way, groups have a basis each, a frozen bias is no part of the block, and one
    // frame has one dtype.
    const fits = groups === 1 && (bias === null || (bias.requiresGrad && bias.dtype === weight.dtype));
    const window = { kernel, stride, padding, dilation };
    this.layer = module instanceof Module && fits ? { module, weight, bias, window } : undefined;
  }

  override canonical(input: Tensor, gy: Tensor): Canonical {
    const { weight, groups } = this.tap;
    const channels = weight.shape[1]!;
    const group = this.first / this.dOut;
    const x = this.typed(groups === 1 ? input : input.narrow(1, group * channels, channels));
    const g = groups === 1 ? gy : gy.narrow(1, this.first, this.dOut);
    const patches = () => scope(() => this.homogeneous(this.tap.unfold(x)));
    return {
      // Patches in the order channel, kernel row, kernel column, that of the weight's axes. Those without the homogeneous
      // 1 are as large as the result, and given back at once.
      get a() {
        return patches();
      },
      gramA: () => this.tap.patchGram(x, { ones: this.hasBias }),
      // [N, cOut, Ho, Wo] → [N, Ho·Wo, cOut], places row-major as those of the patches.
      g: g.flatten(2).transpose(1, 2),
    };
  }
}
