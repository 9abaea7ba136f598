/** Layers that move elements between channels and planes: pixel shuffles, patches, and other resolutions. */

import {
  describe,
  fold,
  type InterpolateOptions,
  interpolate,
  type Pair,
  pairOf,
  ShapeError,
  type Tensor,
  unfold,
} from '@otimes/core';
import { aBoolean, aCount, checkArgument, checkOptions, type Kind, oneOf } from '@otimes/core/extend';
import { SIZES } from '../convolution/convolution.ts';
import { Module } from '../module.ts';

/** [N, C·r², H, W] → [N, C, H·r, W·r] (Shi et al. 2016): channel c·r² + i·r + j has the pixels at row i and column j of each r × r. */
export class PixelShuffle extends Module {
  static readonly builtIn: string = 'PixelShuffle';
  readonly upscaleFactor: number;

  constructor(upscaleFactor: number) {
    super();
    checkArgument('PixelShuffle', 'upscaleFactor', upscaleFactor, aCount);
    this.upscaleFactor = upscaleFactor;
  }

  override forward(x: Tensor): Tensor {
    const r = this.upscaleFactor;
    if (x.rank !== 4 || x.shape[1]! % (r * r) !== 0)
      throw new ShapeError(`PixelShuffle: expected an input [N, a multiple of ${r * r}, H, W], got ${describe(x)}`);
    const [n, c, h, w] = x.shape as [number, number, number, number];
    const split = x.reshape([n, c / (r * r), r, r, h, w]);
    return split.permute(0, 1, 4, 2, 5, 3).reshape([n, c / (r * r), h * r, w * r]);
  }
}

/** [N, C, H·r, W·r] → [N, C·r², H, W]: the inverse of `PixelShuffle`. */
export class PixelUnshuffle extends Module {
  static readonly builtIn: string = 'PixelUnshuffle';
  readonly downscaleFactor: number;

  constructor(downscaleFactor: number) {
    super();
    checkArgument('PixelUnshuffle', 'downscaleFactor', downscaleFactor, aCount);
    this.downscaleFactor = downscaleFactor;
  }

  override forward(x: Tensor): Tensor {
    const r = this.downscaleFactor;
    if (x.rank !== 4 || x.shape[2]! % r !== 0 || x.shape[3]! % r !== 0)
      throw new ShapeError(
        `PixelUnshuffle: expected an input [N, C, H, W] with multiples of ${r} for H and W, got ${describe(x)}`,
      );
    const [n, c, h, w] = x.shape as [number, number, number, number];
    const split = x.reshape([n, c, h / r, r, w / r, r]);
    return split.permute(0, 1, 3, 5, 2, 4).reshape([n, c * r * r, h / r, w / r]);
  }
}

export type UpsampleOptions = {
  /** Of the result, a number for all axes or one for each. */
  size?: number | readonly number[];
  /** Of the result beside the input; either this or `size`. */
  scaleFactor?: number | readonly number[];
  /** Default 'nearest'; the others for x [N, C, L], [N, C, H, W] and [N, C, D, H, W]. */
  mode?: 'nearest' | 'linear' | 'bilinear' | 'trilinear';
  /** Whether first and last elements lie on each other; default false. */
  alignCorners?: boolean;
};

const aSize: Kind = { expected: 'a number, or one for each axis', is: v => typeof v === 'number' || Array.isArray(v) };

/** x [N, C, …] at another resolution; see `interpolate` in core. */
export class Upsample extends Module {
  static readonly builtIn: string = 'Upsample';
  readonly size: number | readonly number[] | null;
  readonly scaleFactor: number | readonly number[] | null;
  readonly mode: NonNullable<UpsampleOptions['mode']>;
  readonly alignCorners: boolean;

  constructor(o: UpsampleOptions) {
    super();
    checkOptions('Upsample', o, {
      size: aSize,
      scaleFactor: aSize,
      mode: oneOf('nearest', 'linear', 'bilinear', 'trilinear'),
      alignCorners: aBoolean,
    });
    this.size = o?.size ?? null;
    this.scaleFactor = o?.scaleFactor ?? null;
    if ((this.size === null) === (this.scaleFactor === null))
      throw new TypeError(
        `Upsample: expected either size or scaleFactor, got ${this.size === null ? 'neither' : 'both'}`,
      );
    this.mode = o.mode ?? 'nearest';
    this.alignCorners = o.alignCorners ?? false;
  }

  override forward(x: Tensor): Tensor {
    const { size, scaleFactor, mode, alignCorners } = this;
    const to: InterpolateOptions = size === null ? { scaleFactor: scaleFactor! } : { size };
    return interpolate(x, { ...to, mode, alignCorners });
  }
}

export type PatchOptions = {
  /** Each in positions, one number or [rows, columns]: `stride` and `dilation` default to 1, `padding` to 0. */
  dilation?: number | Pair;
  padding?: number | Pair;
  stride?: number | Pair;
};

const PATCHES = { dilation: SIZES[2]!, padding: SIZES[2]!, stride: SIZES[2]! };

abstract class Patches extends Module {
  readonly kernel: Pair;
  readonly dilation: Pair;
  readonly padding: Pair;
  readonly stride: Pair;

  constructor(name: string, kernel: number | Pair, o: PatchOptions) {
    super();
    checkOptions<PatchOptions>(name, o, PATCHES);
    this.kernel = pairOf(name, 'kernel', kernel, 1);
    this.dilation = pairOf(name, 'dilation', o.dilation ?? 1, 1);
    this.padding = pairOf(name, 'padding', o.padding ?? 0, 0);
    this.stride = pairOf(name, 'stride', o.stride ?? 1, 1);
  }

  protected get window() {
    return { stride: this.stride, padding: this.padding, dilation: this.dilation };
  }
}

/** The patches that a kernel sees, one a column as in PyTorch: [N, C, H, W] → [N, C·kh·kw, Ho·Wo]; `unfold` of core has them as rows. */
export class Unfold extends Patches {
  static readonly builtIn: string = 'Unfold';

  constructor(kernel: number | Pair, o: PatchOptions = {}) {
    super('Unfold', kernel, o);
  }

  override forward(x: Tensor): Tensor {
    return unfold(x, this.kernel, this.window).transpose(1, 2);
  }
}

/** Patches [N, C·kh·kw, places], one a column, added up where they overlap, into images [N, C, …outputSize]: the transpose of `Unfold`. */
export class Fold extends Patches {
  static readonly builtIn: string = 'Fold';
  readonly outputSize: Pair;

  constructor(outputSize: number | Pair, kernel: number | Pair, o: PatchOptions = {}) {
    super('Fold', kernel, o);
    this.outputSize = pairOf('Fold', 'outputSize', outputSize, 1);
  }

  override forward(x: Tensor): Tensor {
    return fold(x.transpose(1, 2), this.outputSize, this.kernel, this.window);
  }
}
