/** Transposed convolutions, which map small images to larger ones. */

import type { Pair, Tensor } from '@otimes/core';
import { tupleOf, unfold } from '@otimes/core';
import { oneOf } from '@otimes/core/extend';
import { convTranspose1d, convTranspose2d } from '../functional.ts';
import { KernelLayer, type KernelOptions, SIZES } from './convolution.ts';

export type TransposedOptions<Sizes> = KernelOptions<Sizes> & {
  /** Positions by which the result shrinks on each side, those that the convolution pads with zeros; default 0. */
  padding?: number | Sizes;
  /** Positions by which the result grows at its end, fewer than stride or dilation; default 0. */
  outputPadding?: number | Sizes;
};

export type ConvTranspose1dOptions = TransposedOptions<readonly [length: number]>;
export type ConvTranspose2dOptions = TransposedOptions<Pair>;

/** The base of ConvTranspose1d and ConvTranspose2d. */
abstract class Transposed<Sizes extends readonly number[]> extends KernelLayer<Sizes> {
  readonly outputPadding: Sizes;

  constructor(
    name: string,
    axes: number,
    channels: readonly [cIn: number, cOut: number, kernel: number | Sizes],
    o: TransposedOptions<Sizes>,
  ) {
    const size = SIZES[axes]!;
    // PyTorch's have zeros around their results alone.
    const own = { padding: size, outputPadding: size, paddingMode: oneOf('zeros') };
    super(name, axes, channels, o, own, groups => [channels[0], channels[1] / groups]);
    const { stride, dilation } = this;
    this.outputPadding = tupleOf(name, 'outputPadding', o.outputPadding ?? 0, 0, axes);
    if (this.outputPadding.some((more, i) => more >= Math.max(stride[i]!, dilation[i]!)))
      throw new RangeError(
        `${name}: expected outputPadding to be less than stride or dilation, got ${this.outputPadding.join('×')} for ` +
          `${stride.join('×')} and ${dilation.join('×')}`,
      );
  }

  /**
   * The patches of an output y [N, C, …] over which the pixels of an input with these sizes are spread, one a row: [N, pixels,
   * C·taps], in the order of the weight's axes. C is cOut, or that of some groups.
   */
  unfold(y: Tensor, sizes: readonly number[]): Tensor {
    const { kernel, stride, padding, dilation } = this;
    const two = (all: readonly number[], one: number): Pair => [all.at(-2) ?? one, all.at(-1)!];
    const images = y.rank === 3 ? y.unsqueeze(2) : y;
    const window = { stride: two(stride, 1), padding: two(padding, 0), dilation: two(dilation, 1) };
    const patches = unfold(images, two(kernel, 1), window);
    // With more output padding than stride there is room for more windows at the end.
    const [rows, columns] = two(sizes, 1);
    const span = window.dilation[1] * (two(kernel, 1)[1] - 1) + 1;
    const room = Math.floor((images.shape[3]! + 2 * window.padding[1] - span) / window.stride[1]) + 1;
    const [n, all, features] = patches.shape as [number, number, number];
    if (all === rows * columns) return patches;
    return patches
      .reshape([n, all / room, room, features])
      .slice(null, [0, rows], [0, columns])
      .reshape([n, rows * columns, features]);
  }

  /** What the functions of core take beside the bias. */
  protected get geometry() {
    const { stride, padding, outputPadding, dilation, groups } = this;
    return { stride, padding, outputPadding, dilation, groups };
  }
}

/** x [N, cIn, L] → [N, cOut, Lo]; see `convTranspose1d` in core. The weight is [cIn, cOut/groups, k]. */
export class ConvTranspose1d extends Transposed<readonly [length: number]> {
  static readonly builtIn: string = 'ConvTranspose1d';

  constructor(cIn: number, cOut: number, kernel: number | readonly [number], o: ConvTranspose1dOptions = {}) {
    super('ConvTranspose1d', 1, [cIn, cOut, kernel], o);
  }

  override forward(x: Tensor): Tensor {
    return convTranspose1d(x, this.weight, this.bias, this.geometry);
  }
}

/** x [N, cIn, H, W] → [N, cOut, Ho, Wo]; see `convTranspose2d` in core. The weight is [cIn, cOut/groups, kh, kw]. */
export class ConvTranspose2d extends Transposed<Pair> {
  static readonly builtIn: string = 'ConvTranspose2d';

  constructor(cIn: number, cOut: number, kernel: number | Pair, o: ConvTranspose2dOptions = {}) {
    super('ConvTranspose2d', 2, [cIn, cOut, kernel], o);
  }

  override forward(x: Tensor): Tensor {
    return convTranspose2d(x, this.weight, this.bias, this.geometry);
  }
}
