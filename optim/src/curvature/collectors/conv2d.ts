/**
 * The collector of `Conv2d`: Kronecker factors for convolution, KFC (Grosse & Martens 2016). A convolution multiplies
 * its weight matrix [cOut, cIn·kh·kw] with the patch under the kernel, at each place of the output; so a patch is `a`,
 * the gradient at one place is `g`, and the places share.
 */

import { concat, full, gram, scope, type Tensor, tensor } from '@otimes/core';
import { type Conv2d, Module } from '@otimes/nn';
import type { Canonical, ConvolutionLayer } from '../block.ts';
import type { Collector } from '../collector.ts';
import type { Side } from '../side.ts';
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

  /** The places of the kernel. */
  get taps(): number {
    return this.tap.kernel[0] * this.tap.kernel[1];
  }

  override canonical(input: Tensor, gy: Tensor): Canonical {
    const { weight, groups } = this.tap;
    const channels = weight.shape[1]!;
    const group = this.first / this.dOut;
    const x = this.typed(groups === 1 ? input : input.narrow(1, group * channels, channels));
    const g = groups === 1 ? gy : gy.narrow(1, this.first, this.dOut);
    const patches = (x: Tensor) => scope(() => this.homogeneous(this.tap.unfold(x)));
    return {
      // Patches in the order channel, kernel row, kernel column, that of the weight's axes. Those without the homogeneous
      // 1 are as large as the result, and given back at once.
      get a() {
        return patches(x);
      },
      inputs: { x, unfold: patches },
      gramA: side => scope(() => this.#gram(x, side, g.shape[0]! * g.shape[2]! * g.shape[3]!)),
      // [N, cOut, Ho, Wo] → [N, Ho·Wo, cOut], places row-major as those of the patches.
      g: g.flatten(2).transpose(1, 2),
    };
  }

  /** `side.gram` of the patches of images x, `rows` of them, without making any where the structure allows it. */
  #gram(x: Tensor, side: Side, rows: number): Tensor {
    const { tap, hasBias, taps } = this;
    if (side.isExact) return tap.patchGram(x, { ones: hasBias });
    const last = side.segments.length - 1;
    if (side.structure === 'blocks')
      return side.pack(
        side.segments.map(({ start, size }, i) => {
          const ones = hasBias && i === last;
          return tap.patchGram(x.narrow(1, start / taps, (size - Number(ones)) / taps), { ones });
        }),
      );
    // Σ_t p_t p_tᵀ over the patches is Σ w x xᵀ over the pixels, w the number of patches that read a pixel.
    const [n, channels, height, width] = x.shape as [number, number, number, number];
    const weighted = x.mul(this.#readings(height, width, x));
    const bias = () => full([1, 1], rows, { dtype: x.dtype, device: x.device });
    // The squares of a pixel are in as many patches as it is.
    if (side.structure === 'diagonal') {
      const squares = tap.unfold(x.square().sum(0).unsqueeze(0)).sum([0, 1]);
      return hasBias ? concat([squares, bias().reshape([1])], 0) : squares;
    }
    if (side.isIdentity) {
      const sum = weighted.square().sum();
      return (hasBias ? sum.add(rows) : sum).mul(1 / side.n);
    }
    const A = [gram(weighted.flatten(2).transpose(1, 2)).mul(1 / taps)];
    if (side.structure === 'taps') A.push(tap.patchGram(x.reshape([n * channels, 1, height, width])).mul(1 / channels));
    return side.pack(hasBias ? [...A, bias()] : A);
  }

  /** √w [height, width]: a window reads a pixel as often as it does along both axes. */
  #readings(height: number, width: number, { dtype, device }: Tensor): Tensor {
    const [rows, columns] = [this.#readingsAlong(0, height), this.#readingsAlong(1, width)];
    const roots = (w: readonly number[]) => tensor(w.map(Math.sqrt), { dtype, device });
    return roots(rows).unsqueeze(1).mul(roots(columns));
  }

  /** How many windows read each of `size` pixels in a row along an axis. */
  #readingsAlong(axis: 0 | 1, size: number): number[] {
    const { kernel, stride, padding, dilation } = this.tap;
    const [k, s, p, d] = [kernel[axis], stride[axis], padding[axis], dilation[axis]];
    const windows = Math.floor((size + 2 * p - d * (k - 1) - 1) / s) + 1;
    const counts = new Array<number>(size).fill(0);
    for (let at = 0; at < windows; at++)
      for (let tap = 0; tap < k; tap++) {
        const pixel = at * s - p + tap * d;
        if (pixel >= 0 && pixel < size) counts[pixel]!++;
      }
    return counts;
  }
}
