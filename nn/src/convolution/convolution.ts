/** What all convolution layers share: a weight, a bias, and where the kernel goes along one to three axes. */

import {
  describe,
  type Padding,
  pad,
  patchGram,
  type Shape,
  ShapeError,
  sameShape,
  type Tensor,
  tupleOf,
  unfold,
} from '@otimes/core';
import {
  aBoolean,
  aFunction,
  aTensor,
  checkArgument,
  checkNone,
  checkOptions,
  type Kind,
  nameOf,
  type OptionKinds,
  oneOf,
} from '@otimes/core/extend';
import { checkPositive, PLACEMENT, type Placement, placed } from '../check.ts';
import { type InitOptions, kaimingUniform, uniform } from '../init.ts';
import { Module } from '../module.ts';
import { Parameter } from '../parameter.ts';

/** Options of layers with a kernel; `Sizes` has a number for each axis. */
export type KernelOptions<Sizes> = Placement & {
  /** Positions from one window to the next, a number or one for each axis; default 1. */
  stride?: number | Sizes;
  /** Positions from one tap of the kernel to the next; default 1. */
  dilation?: number | Sizes;
  /** The channels are divided into so many groups, each with a convolution that sees no other group; default 1. */
  groups?: number;
  /** Default true. */
  bias?: boolean;
  /** Makes the initial weight; default uniform in ±1/√fan-in, as in PyTorch. The bias is always drawn like that. */
  init?: (shape: Shape, o: InitOptions) => Tensor;
};

export type ConvolutionOptions<Sizes> = KernelOptions<Sizes> & {
  /**
   * Zeros around the input on each side, a number or one for each axis; default 0. 'valid' is 0, and 'same' as many as keep the
   * size, for stride 1: of an odd number the larger part is at the end.
   */
  padding?: Padding<Sizes>;
  /** What stands in the padding: 'zeros' (default), or what lies inside, as `pad` of core has it. */
  paddingMode?: PaddingMode;
};

export type PaddingMode = 'zeros' | 'reflect' | 'replicate' | 'circular';

/** A number, or one for each axis; `tupleOf` checks the numbers. */
const sizes = (expected: string): Kind => ({
  expected: `a number or ${expected}`,
  is: v => typeof v === 'number' || Array.isArray(v),
});
export const SIZES: readonly Kind[] = ['', '[length]', '[rows, columns]', '[depth, rows, columns]'].map(sizes);

/** What methods that were given one argument too many are told. */
const LAYERS_WINDOW = 'behind these there is none, as stride, padding and dilation are those of the layer';

/** The base of convolutions and their transposes. */
export abstract class KernelLayer<Sizes extends readonly number[]> extends Module {
  static override readonly tensors: readonly string[] = ['weight', 'bias'];
  weight: Parameter;
  /** [cOut] */
  bias: Parameter | null;
  readonly kernel: Sizes;
  readonly stride: Sizes;
  /** Zeros around the input on each side; with an odd number of them under 'same' the smaller part. */
  readonly padding: Sizes;
  /** What stands in the padding. */
  readonly paddingMode: PaddingMode;
  readonly dilation: Sizes;
  readonly groups: number;

  /** @param shapeOf the weight's axes of channels, by the channels of a group */
  constructor(
    name: string,
    axes: number,
    [cIn, cOut, kernel]: readonly [number, number, number | Sizes],
    o: ConvolutionOptions<Sizes>,
    own: OptionKinds<object>,
    shapeOf: (groups: number) => readonly [number, number],
  ) {
    super();
    const size = SIZES[axes]!;
    const same = oneOf('same', 'valid');
    const padding = { expected: `${size.expected}, 'same' or 'valid'`, is: (v: unknown) => size.is(v) || same.is(v) };
    // The value of groups is checked below, together with the channels.
    const groups = { expected: 'a number', is: () => true };
    const paddingMode = oneOf('zeros', 'reflect', 'replicate', 'circular');
    const shared = {
      stride: size,
      padding,
      paddingMode,
      dilation: size,
      bias: aBoolean,
      init: aFunction,
      ...PLACEMENT,
      groups,
    };
    checkOptions<ConvolutionOptions<Sizes>>(name, o, { ...shared, ...own });
    this.groups = o.groups ?? 1;
    checkPositive(name, { cIn, cOut, groups: this.groups });
    if (cIn % this.groups !== 0 || cOut % this.groups !== 0)
      throw new RangeError(
        `${name}: expected groups to divide cIn and cOut, got ${this.groups} for ${cIn} and ${cOut}`,
      );
    this.kernel = tupleOf(name, 'kernel', kernel, 1, axes);
    this.stride = tupleOf(name, 'stride', o.stride ?? 1, 1, axes);
    this.dilation = tupleOf(name, 'dilation', o.dilation ?? 1, 1, axes);
    this.padding = this.#zeros(name, o.padding ?? 0);
    this.paddingMode = o.paddingMode ?? 'zeros';
    const shape = [...shapeOf(this.groups), ...this.kernel];
    const bound = 1 / Math.sqrt(this.kernel.reduce((product, taps) => product * taps, shape[1]!));
    const { init = (s, given) => kaimingUniform(s, { ...given, gain: 1 / Math.sqrt(3) }) } = o;
    const weight = init(shape, placed(o));
    checkArgument(name, 'what init makes', weight, aTensor);
    if (!sameShape(weight.shape, shape))
      throw new ShapeError(`${name}: expected init to make a weight [${shape.join(',')}], got ${describe(weight)}`);
    this.weight = new Parameter(weight);
    this.bias = o.bias === false ? null : new Parameter(uniform([cOut], -bound, bound, placed(o)));
  }

  #zeros(name: string, padding: Padding<Sizes>): Sizes {
    const { kernel, stride, dilation } = this;
    const axes = kernel.length;
    if (padding !== 'same' && padding !== 'valid') return tupleOf(name, 'padding', padding, 0, axes);
    if (padding === 'same' && stride.some(step => step !== 1))
      throw new RangeError(`${name}: expected stride 1 with padding 'same', got ${stride.join('×')}`);
    const half = kernel.map((taps, axis) => Math.floor((dilation[axis]! * (taps - 1)) / 2));
    return tupleOf(
      name,
      'padding',
      (padding === 'same' ? half : half.map(() => 0)) as readonly number[] as Sizes,
      0,
      axes,
    );
  }
}

/** The base of Conv1d, Conv2d and Conv3d. */
export abstract class Convolution<Sizes extends readonly number[]> extends KernelLayer<Sizes> {
  /** One more zero at the end of an axis, for 'same'. */
  readonly #more: readonly number[];

  constructor(
    name: string,
    axes: number,
    channels: readonly [cIn: number, cOut: number, kernel: number | Sizes],
    o: ConvolutionOptions<Sizes>,
  ) {
    super(name, axes, channels, o, {}, groups => [channels[1], channels[0] / groups]);
    const { kernel, dilation, padding } = this;
    this.#more = kernel.map((taps, i) => (o.padding === 'same' ? dilation[i]! * (taps - 1) - 2 * padding[i]! : 0));
  }

  /** Whether all of the padding is in `geometry`: zeros, as many on both sides. */
  get padsEvenly(): boolean {
    return this.#more.every(n => n === 0) && (this.paddingMode === 'zeros' || this.padding.every(n => n === 0));
  }

  /** The input with what of its padding is not in `geometry`. */
  padded(x: Tensor): Tensor {
    if (this.padsEvenly) return x;
    const [more, { padding, paddingMode }] = [this.#more, this];
    const before = paddingMode === 'zeros' ? more.map(() => 0) : padding;
    const ends = before.map((n, axis) => [n, n + more[axis]!] as const);
    return pad(x, [[0, 0], [0, 0], ...ends], { mode: paddingMode === 'zeros' ? 'constant' : paddingMode });
  }

  /** Where the kernel goes over the padded input. */
  get geometry(): { stride: Sizes; padding: Sizes; dilation: Sizes; groups: number } {
    const { stride, padding, paddingMode, dilation, groups } = this;
    const zeros = paddingMode === 'zeros' ? padding : (padding.map(() => 0) as readonly number[] as Sizes);
    return { stride, padding: zeros, dilation, groups };
  }

  /** The padded input as images [N', C·e, H, W] of which the planes of the kernel read patches; e are the slices that it sees. */
  protected abstract images(x: Tensor): Tensor;

  /** A number for each axis as rows and columns of those images. */
  protected inPlanes(all: readonly number[], one: number): readonly [number, number] {
    return [all.at(-2) ?? one, all.at(-1)!];
  }

  #window() {
    const { stride, padding, dilation } = this.geometry;
    return {
      stride: this.inPlanes(stride, 1),
      padding: this.inPlanes(padding, 0),
      dilation: this.inPlanes(dilation, 1),
    };
  }

  /**
   * The patches that the kernel sees, one a row: x [N, C, …] → [N, places, C·taps]; see `unfold` in core. C is cIn, or that
   * of some groups.
   */
  unfold(x: Tensor, ...none: []): Tensor {
    checkNone(`${nameOf(this)}.unfold`, none, LAYERS_WINDOW);
    const patches = unfold(this.images(x), this.inPlanes(this.kernel, 1), this.#window());
    return patches.reshape([
      x.shape[0]!,
      (patches.shape[0]! / Math.max(1, x.shape[0]!)) * patches.shape[1]!,
      patches.shape[2]!,
    ]);
  }

  /** Σ p pᵀ over those patches, [C·taps, C·taps], and with `ones` (default false) with a 1 behind each; see `patchGram` in core. */
  patchGram(x: Tensor, o: { ones?: boolean } = {}, ...none: []): Tensor {
    checkNone(`${nameOf(this)}.patchGram`, none, LAYERS_WINDOW);
    return patchGram(this.images(x), this.inPlanes(this.kernel, 1), this.#window(), o);
  }

  /** Throws where the channels of x [N, C, …] are not those of the layer. */
  protected checkChannels(name: string, x: Tensor, axes: string): void {
    const channels = this.weight.shape[1]! * this.groups;
    if (x.rank !== this.kernel.length + 2 || x.shape[1] === channels) return;
    const last = x.rank - 1;
    const order = [0, last, ...Array.from({ length: last - 1 }, (_, i) => i + 1)].join(', ');
    throw new ShapeError(
      `${name}: expected an input [N, ${channels}, ${axes}], got ${describe(x)}` +
        (x.shape[last] === channels ? `; channels come first here: x.permute(${order})` : ''),
    );
  }
}
