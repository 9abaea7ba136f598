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
import { WeightBlock, type WeightBlockOptions, type WeightLayer } from './weight.ts';

/** What the block takes of a convolution along one to three axes. */
export type ConvolutionTap = WeightLayer & {
  readonly groups: number;
  readonly kernel: readonly number[];
  /** Where the kernel goes over what `padded` makes of the input. */
  readonly geometry: Readonly<Record<'stride' | 'padding' | 'dilation', readonly number[]>>;
  /** Whether `padded` changes nothing. */
  readonly padsEvenly: boolean;
  padded(x: Tensor): Tensor;
  unfold(x: Tensor): Tensor;
  patchGram(x: Tensor, o?: { ones?: boolean }): Tensor;
};

/**
 * Claims every Conv2d whose weight requires a gradient; `sharing` defaults to 'expand'. Groups are independent
 * convolutions, so each is a block of its own: `PATH.groups.0`, `PATH.groups.1`, … A class that extends Conv2d and has a `forward`
 * of its own is not claimed.
 */
export const conv2dCollector: Collector = {
  name: 'conv2d',
  collect(module, path, { sharing = 'expand' }) {
    if (!computesAs(module, 'Conv2d')) return null;
    return convolutionBlocks(module, { collector: 'conv2d', path, sharing }, o => new Conv2dBlock(module, o));
  },
};

/** The block of each group of a convolution, none if its weight is frozen. */
export function convolutionBlocks(
  { weight, groups }: ConvolutionTap,
  o: WeightBlockOptions,
  make: (o: WeightBlockOptions) => ConvolutionBlock,
): ConvolutionBlock[] {
  if (!weight.requiresGrad) return [];
  if (groups === 1) return [make(o)];
  const size = weight.shape[0]! / groups;
  return Array.from({ length: groups }, (_, i) => {
    const path = o.path === '' ? `groups.${i}` : `${o.path}.groups.${i}`;
    return make({ ...o, path, rows: [i * size, (i + 1) * size] });
  });
}

/** The weights of one group of a convolution along one to three axes. */
export class ConvolutionBlock extends WeightBlock<ConvolutionTap> {
  /** The places of the kernel. */
  get taps(): number {
    return this.tap.kernel.reduce((product, n) => product * n, 1);
  }

  override canonical(input: Tensor, gy: Tensor): Canonical {
    const { weight, groups } = this.tap;
    const channels = weight.shape[1]!;
    const group = this.first / this.dOut;
    const x = this.typed(groups === 1 ? input : input.narrow(1, group * channels, channels));
    const g = groups === 1 ? gy : gy.narrow(1, this.first, this.dOut);
    const patches = (x: Tensor) => scope(() => this.homogeneous(this.tap.unfold(x)));
    return {
      // Patches in the order channel, kernel row, kernel column (kernel depth before them), that of the weight's axes. Those without the homogeneous
      // 1 are as large as the result, and given back at once.
      get a() {
        return patches(x);
      },
      inputs: { x, unfold: patches },
      gramA: side => scope(() => this.#gram(x, side, g.size / g.shape[1]!)),
      // [N, cOut, Ho, Wo] → [N, Ho·Wo, cOut], or with other axes behind the channels; places row-major as those of the patches.
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
    const [n, channels, ...sizes] = x.shape as [number, number, ...number[]];
    const weighted = this.#weighted(tap.padded(x));
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
    if (side.structure === 'taps') A.push(tap.patchGram(x.reshape([n * channels, 1, ...sizes])).mul(1 / channels));
    return side.pack(hasBias ? [...A, bias()] : A);
  }

  /** √w x of pixels x [N, C, …]: a window reads a pixel as often as the product of how often it does along each axis. */
  #weighted(x: Tensor): Tensor {
    const { dtype, device } = x;
    return x.shape.slice(2).reduce((product, size, axis) => {
      const roots = tensor(this.#readingsAlong(axis, size).map(Math.sqrt), { dtype, device });
      return product.mul(roots.reshape([size, ...x.shape.slice(axis + 3).map(() => 1)]));
    }, x);
  }

  /** How many windows read each of `size` pixels in a row along an axis. */
  #readingsAlong(axis: number, size: number): number[] {
    const { kernel, geometry } = this.tap;
    const { stride, padding, dilation } = geometry;
    const [k, s, p, d] = [kernel[axis]!, stride[axis]!, padding[axis]!, dilation[axis]!];
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

class Conv2dBlock extends ConvolutionBlock {
  readonly layer: ConvolutionLayer | undefined;

  constructor(module: Conv2d, o: WeightBlockOptions) {
    super(module, o);
    const { weight, bias, groups, kernel, stride, padding, dilation, padsEvenly } = module;
    // Another copy of the package may compute in another way, groups have a basis each, a frozen bias is no part of the block, and one
    // frame has one dtype.
    const fits = groups === 1 && padsEvenly && (bias === null || (bias.requiresGrad && bias.dtype === weight.dtype));
    const window = { kernel, stride, padding, dilation };
    this.layer = module instanceof Module && fits ? { module, weight, bias, window } : undefined;
  }
}
