/** Pooling layers with windows, for x [N, C, …]; see the functions of the same names in core. */

import {
  avgPool1d,
  avgPool2d,
  avgPool3d,
  globalAvgPool2d,
  maxPool1d,
  maxPool2d,
  maxPool3d,
  type Pair,
  type Tensor,
  tupleOf,
} from '@otimes/core';
import { aBoolean, checkOptions } from '@otimes/core/extend';
import { SIZES } from '../convolution/convolution.ts';
import { Module } from '../module.ts';

type Line = readonly [length: number];
type Triple = readonly [depth: number, rows: number, columns: number];

/** Each in positions, a number for all axes or one for each: `stride` defaults to the kernel, `padding` to 0. */
type WindowOptions<Sizes> = { stride?: number | Sizes; padding?: number | Sizes };
type AvgOptions<Sizes> = WindowOptions<Sizes> & { countIncludePad?: boolean };

const kinds = (axes: number) => ({ stride: SIZES[axes]!, padding: SIZES[axes]! });

/** What all share: a kernel, and a stride that defaults to it, as numbers or one for each axis. */
abstract class Pool<Sizes extends readonly number[]> extends Module {
  readonly kernel: Sizes;
  readonly stride: Sizes;
  readonly padding: Sizes;

  constructor(name: string, axes: number, kernel: number | Sizes, o: WindowOptions<Sizes>) {
    super();
    this.kernel = tupleOf(name, 'kernel', kernel, 1, axes);
    this.stride = tupleOf(name, 'stride', o.stride ?? kernel, 1, axes);
    this.padding = tupleOf(name, 'padding', o.padding ?? 0, 0, axes);
  }
}

abstract class MaxPool<Sizes extends readonly number[]> extends Pool<Sizes> {
  constructor(name: string, axes: number, kernel: number | Sizes, o: WindowOptions<Sizes>) {
    checkOptions<WindowOptions<Sizes>>(name, o, kinds(axes));
    super(name, axes, kernel, o);
  }

  protected get window() {
    return { stride: this.stride, padding: this.padding };
  }
}

abstract class AvgPool<Sizes extends readonly number[]> extends Pool<Sizes> {
  readonly countIncludePad: boolean;

  constructor(name: string, axes: number, kernel: number | Sizes, o: AvgOptions<Sizes>) {
    checkOptions<AvgOptions<Sizes>>(name, o, { ...kinds(axes), countIncludePad: aBoolean });
    super(name, axes, kernel, o);
    this.countIncludePad = o.countIncludePad ?? true;
  }

  protected get window() {
    return { stride: this.stride, padding: this.padding, countIncludePad: this.countIncludePad };
  }
}

/** The largest value of each window of x [N, C, L]. */
export class MaxPool1d extends MaxPool<Line> {
  static readonly builtIn: string = 'MaxPool1d';

  /** @param o stride: default the kernel; padding: default 0, at most half of the kernel */
  constructor(kernel: number | Line, o: WindowOptions<Line> = {}) {
    super('MaxPool1d', 1, kernel, o);
  }

  override forward(x: Tensor): Tensor {
    return maxPool1d(x, this.kernel, this.window);
  }
}

/** The largest value of each window of x [N, C, H, W]. */
export class MaxPool2d extends MaxPool<Pair> {
  static readonly builtIn: string = 'MaxPool2d';

  /** @param o stride: default the kernel; padding: default 0, at most half of the kernel */
  constructor(kernel: number | Pair, o: WindowOptions<Pair> = {}) {
    super('MaxPool2d', 2, kernel, o);
  }

  override forward(x: Tensor): Tensor {
    return maxPool2d(x, this.kernel, this.window);
  }
}

/** The largest value of each window of x [N, C, D, H, W]. */
export class MaxPool3d extends MaxPool<Triple> {
  static readonly builtIn: string = 'MaxPool3d';

  /** @param o stride: default the kernel; padding: default 0, at most half of the kernel */
  constructor(kernel: number | Triple, o: WindowOptions<Triple> = {}) {
    super('MaxPool3d', 3, kernel, o);
  }

  override forward(x: Tensor): Tensor {
    return maxPool3d(x, this.kernel, this.window);
  }
}

/** The mean of each window of x [N, C, L]. */
export class AvgPool1d extends AvgPool<Line> {
  static readonly builtIn: string = 'AvgPool1d';

  /** @param o stride, padding: as for MaxPool1d; countIncludePad: whether the padding counts as zeros, default true */
  constructor(kernel: number | Line, o: AvgOptions<Line> = {}) {
    super('AvgPool1d', 1, kernel, o);
  }

  override forward(x: Tensor): Tensor {
    return avgPool1d(x, this.kernel, this.window);
  }
}

/** The mean of each window of x [N, C, H, W]. */
export class AvgPool2d extends AvgPool<Pair> {
  static readonly builtIn: string = 'AvgPool2d';

  /** @param o stride, padding: as for MaxPool2d; countIncludePad: whether the padding counts as zeros, default true */
  constructor(kernel: number | Pair, o: AvgOptions<Pair> = {}) {
    super('AvgPool2d', 2, kernel, o);
  }

  override forward(x: Tensor): Tensor {
    return avgPool2d(x, this.kernel, this.window);
  }
}

/** The mean of each window of x [N, C, D, H, W]. */
export class AvgPool3d extends AvgPool<Triple> {
  static readonly builtIn: string = 'AvgPool3d';

  /** @param o stride, padding: as for MaxPool3d; countIncludePad: whether the padding counts as zeros, default true */
  constructor(kernel: number | Triple, o: AvgOptions<Triple> = {}) {
    super('AvgPool3d', 3, kernel, o);
  }

  override forward(x: Tensor): Tensor {
    return avgPool3d(x, this.kernel, this.window);
  }
}

/** The mean of each plane: [N, C, H, W] → [N, C]. */
export class GlobalAvgPool2d extends Module {
  static readonly builtIn: string = 'GlobalAvgPool2d';

  override forward(x: Tensor): Tensor {
    return globalAvgPool2d(x);
  }
}
