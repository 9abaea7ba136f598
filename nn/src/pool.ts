/** Pooling layers for x [N, C, H, W]; see the functions of the same names in core. */

import { avgPool2d, globalAvgPool2d, maxPool2d, type Pair, type PoolOptions, pairOf, type Tensor } from '@otimes/core';
import { Module } from './module.ts';

/** What both have: a kernel, and a stride that defaults to it, as numbers or [rows, columns]. */
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

/** The largest value of each window. */
export class MaxPool2d extends Pool2d {
  static override readonly name: string = 'MaxPool2d';
  /** @param o stride: default the kernel; padding: default 0, at most half of the kernel */
  constructor(kernel: number | Pair, o: PoolOptions = {}) {
    super('MaxPool2d', kernel, o);
  }

  override keepsTensors(): boolean {
    return false;
  }

  override forward(x: Tensor): Tensor {
    return maxPool2d(x, this.kernel, this);
  }
}

/** The mean of each window. */
export class AvgPool2d extends Pool2d {
  static override readonly name: string = 'AvgPool2d';
  readonly countIncludePad: boolean;

  /** @param o stride, padding: as for MaxPool2d; countIncludePad: whether the padding counts as zeros, default true */
  constructor(kernel: number | Pair, o: PoolOptions & { countIncludePad?: boolean } = {}) {
    super('AvgPool2d', kernel, o);
    this.countIncludePad = o.countIncludePad ?? true;
  }

  override keepsTensors(): boolean {
    return false;
  }

  override forward(x: Tensor): Tensor {
    return avgPool2d(x, this.kernel, this);
  }
}

/** The mean of each plane: [N, C, H, W] → [N, C]. */
export class GlobalAvgPool2d extends Module {
  static override readonly name: string = 'GlobalAvgPool2d';
  override keepsTensors(): boolean {
    return false;
  }

  override forward(x: Tensor): Tensor {
    return globalAvgPool2d(x);
  }
}
