/** Pooling layers for x [N, C, H, W]; see the functions of the same names in core. */

import { avgPool2d, globalAvgPool2d, maxPool2d, type Pair, type PoolOptions, pairOf, type Tensor } from '@otimes/core';
import { aBoolean, checkOptions } from '@otimes/core/extend';
import { aPair } from '../convolution/convolution.ts';
import { Module } from '../module.ts';

/** What both share: a kernel, and a stride that defaults to it, as numbers or [rows, columns]. */
abstract class Pool2d extends Module {
  readonly kernel: Pair;
  readonly stride: Pair;
  readonly padding: Pair;

  constructor(name: string, kernel: number | Pair, o: PoolOptions) {
    super();
    this.kernel = pairOf(name, 'kernel', kernel, 1);
    this.stride = pairOf(name, 'stride', o.stride ?? kernel, 1);
    this.padding = pairOf(name, 'padding', o.padding ?? 0, 0);
  }
}

const OPTIONS = { stride: aPair, padding: aPair };

/** The largest value of each window. */
export class MaxPool2d extends Pool2d {
  static readonly builtIn: string = 'MaxPool2d';

  /** @param o stride: default the kernel; padding: default 0, at most half of the kernel */
  constructor(kernel: number | Pair, o: PoolOptions = {}) {
    checkOptions('MaxPool2d', o, OPTIONS);
    super('MaxPool2d', kernel, o);
  }

  override forward(x: Tensor): Tensor {
    return maxPool2d(x, this.kernel, { stride: this.stride, padding: this.padding });
  }
}

/** The mean of each window. */
export class AvgPool2d extends Pool2d {
  static readonly builtIn: string = 'AvgPool2d';
  readonly countIncludePad: boolean;

  /** @param o stride, padding: as for MaxPool2d; countIncludePad: whether the padding counts as zeros, default true */
  constructor(kernel: number | Pair, o: PoolOptions & { countIncludePad?: boolean } = {}) {
    checkOptions('AvgPool2d', o, { ...OPTIONS, countIncludePad: aBoolean });
    super('AvgPool2d', kernel, o);
    this.countIncludePad = o.countIncludePad ?? true;
  }

  override forward(x: Tensor): Tensor {
    const { kernel, stride, padding, countIncludePad } = this;
    return avgPool2d(x, kernel, { stride, padding, countIncludePad });
  }
}

/** The mean of each plane: [N, C, H, W] → [N, C]. */
export class GlobalAvgPool2d extends Module {
  static readonly builtIn: string = 'GlobalAvgPool2d';

  override forward(x: Tensor): Tensor {
    return globalAvgPool2d(x);
  }
}
