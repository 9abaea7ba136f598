/** Convolution layers. */

import {
  describe,
  type Pair,
  pairOf,
  patchGram,
  type Shape,
  ShapeError,
  sameShape,
  type Tensor,
  unfold,
} from '@otimes/core';
import { aBoolean, aFunction, aTensor, checkArgument, checkNone, checkOptions, type Kind } from '@otimes/core/extend';
import { checkPositive, PLACEMENT, type Placement, placed } from '../check.ts';
import { conv2d } from '../functional.ts';
import { type InitOptions, kaimingUniform, uniform } from '../init.ts';
import { Module } from '../module.ts';
import { Parameter } from '../parameter.ts';

export type Conv2dOptions = Placement & {
  /** Positions from one window to the next, a number or [rows, columns]; default 1. */
  stride?: number | Pair;
  /** Zeros around the input on each side; default 0. */
  padding?: number | Pair;
  /** Positions from one tap of the kernel to the next; default 1. */
  dilation?: number | Pair;
  /** The channels are divided into so many groups, each with a convolution that sees no other group; default 1. */
  groups?: number;
  /** Default true. */
  bias?: boolean;
  /** Makes the initial weight; default uniform in ±1/√fan-in, as in PyTorch. The bias is always drawn like that. */
  init?: (shape: Shape, o: InitOptions) => Tensor;
};

/** What methods that were given one argument too many are told. */
const LAYERS_WINDOW = 'behind these there is none, as stride, padding and dilation are those of the layer';

/** A number, or one for rows and one for columns; `pairOf` checks the numbers. */
export const aPair: Kind = {
  expected: 'a number or [rows, columns]',
  is: v => typeof v === 'number' || Array.isArray(v),
};

const OPTIONS = { stride: aPair, padding: aPair, dilation: aPair, bias: aBoolean, init: aFunction, ...PLACEMENT };

/** x [N, cIn, H, W] → [N, cOut, Ho, Wo]; see `conv2d` in core. */
export class Conv2d extends Module {
  static readonly builtIn: string = 'Conv2d';
  static override readonly tensors: readonly string[] = ['weight', 'bias'];
  /** [cOut, cIn/groups, kh, kw] */
  weight: Parameter;
  /** [cOut] */
  bias: Parameter | null;
  readonly kernel: Pair;
  readonly stride: Pair;
  readonly padding: Pair;
  readonly dilation: Pair;
  readonly groups: number;

  constructor(cIn: number, cOut: number, kernel: number | Pair, o: Conv2dOptions = {}) {
    super();
    // The value of groups is checked below, together with the channels.
    checkOptions('Conv2d', o, { ...OPTIONS, groups: { expected: 'a number', is: () => true } });
    this.groups = o.groups ?? 1;
    checkPositive('Conv2d', { cIn, cOut, groups: this.groups });
    if (cIn % this.groups !== 0 || cOut % this.groups !== 0)
      throw new RangeError(`Conv2d: expected groups to divide cIn and cOut, got ${this.groups} for ${cIn} and ${cOut}`);
    this.kernel = pairOf('Conv2d', 'kernel', kernel, 1);
    this.stride = pairOf('Conv2d', 'stride', o.stride ?? 1, 1);
    this.padding = pairOf('Conv2d', 'padding', o.padding ?? 0, 0);
    this.dilation = pairOf('Conv2d', 'dilation', o.dilation ?? 1, 1);
    const shape = [cOut, cIn / this.groups, ...this.kernel];
    const bound = 1 / Math.sqrt(shape[1]! * this.kernel[0] * this.kernel[1]);
    const { init = (s, given) => kaimingUniform(s, { ...given, gain: 1 / Math.sqrt(3) }) } = o;
    const weight = init(shape, placed(o));
    checkArgument('Conv2d', 'what init makes', weight, aTensor);
    if (!sameShape(weight.shape, shape))
      throw new ShapeError(`Conv2d: expected init to make a weight [${shape.join(',')}], got ${describe(weight)}`);
    this.weight = new Parameter(weight);
    this.bias = o.bias === false ? null : new Parameter(uniform([cOut], -bound, bound, placed(o)));
  }

  override forward(x: Tensor): Tensor {
    const { groups } = this;
    const channels = this.weight.shape[1]! * groups;
    if (x.rank === 4 && x.shape[1] !== channels)
      throw new ShapeError(
        `Conv2d: expected an input [N, ${channels}, H, W], got ${describe(x)}` +
          (x.shape[3] === channels ? '; channels come first here: x.permute(0, 3, 1, 2)' : ''),
      );
    return conv2d(x, this.weight, this.bias, { ...this.#window(), groups });
  }

  /**
   * The patches that the kernel sees, one a row: x [N, C, H, W] → [N, Ho·Wo, C·kh·kw]; see `unfold` in core. C is cIn, or that
   * of some groups.
   */
  unfold(x: Tensor, ...none: []): Tensor {
    checkNone('Conv2d.unfold', none, LAYERS_WINDOW);
    return unfold(x, this.kernel, this.#window());
  }

  /** Σ p pᵀ over those patches, [C·kh·kw, C·kh·kw], and with `ones` (default false) with a 1 behind each; see `patchGram` in core. */
  patchGram(x: Tensor, o: { ones?: boolean } = {}, ...none: []): Tensor {
    checkNone('Conv2d.patchGram', none, LAYERS_WINDOW);
    return patchGram(x, this.kernel, this.#window(), o);
  }

  #window() {
    const { stride, padding, dilation } = this;
    return { stride, padding, dilation };
  }
}
