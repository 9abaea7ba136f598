/** Pooling to a given size, whatever that of the input is; see the functions of the same names in core. */

import { adaptiveAvgPool1d, adaptiveAvgPool2d, adaptiveMaxPool1d, adaptiveMaxPool2d, type Tensor } from '@otimes/core';
import { checkArgument, type Kind } from '@otimes/core/extend';
import { Module } from '../module.ts';

/** A size of the result along an axis; null is that of the input. */
type Size = number | null;

const isSize = (v: unknown) => v === null || (Number.isInteger(v) && Number(v) >= 1);
const sizes = (axes: number): Kind => ({
  expected: `an integer ≥ 1 or null, or an array of ${axes} of them`,
  is: v => isSize(v) || (Array.isArray(v) && v.length === axes && v.every(isSize)),
  error: RangeError,
});

abstract class Adaptive<Sizes extends readonly Size[]> extends Module {
  readonly outputSize: Size | Sizes;

  constructor(name: string, axes: number, outputSize: Size | Sizes) {
    super();
    checkArgument(name, 'outputSize', outputSize, sizes(axes));
    this.outputSize = outputSize;
  }
}

/** The means of `outputSize` bins of x [N, C, L] that cover it; null keeps the length. */
export class AdaptiveAvgPool1d extends Adaptive<readonly [Size]> {
  static readonly builtIn: string = 'AdaptiveAvgPool1d';

  constructor(outputSize: Size | readonly [Size]) {
    super('AdaptiveAvgPool1d', 1, outputSize);
  }

  override forward(x: Tensor): Tensor {
    return adaptiveAvgPool1d(x, this.outputSize);
  }
}

/** The means of bins of x [N, C, H, W], with as many along both axes, or [rows, columns]; null keeps a length. */
export class AdaptiveAvgPool2d extends Adaptive<readonly [rows: Size, columns: Size]> {
  static readonly builtIn: string = 'AdaptiveAvgPool2d';

  constructor(outputSize: Size | readonly [rows: Size, columns: Size]) {
    super('AdaptiveAvgPool2d', 2, outputSize);
  }

  override forward(x: Tensor): Tensor {
    return adaptiveAvgPool2d(x, this.outputSize);
  }
}

/** The largest values of `outputSize` bins of x [N, C, L] that cover it; null keeps the length. */
export class AdaptiveMaxPool1d extends Adaptive<readonly [Size]> {
  static readonly builtIn: string = 'AdaptiveMaxPool1d';

  constructor(outputSize: Size | readonly [Size]) {
    super('AdaptiveMaxPool1d', 1, outputSize);
  }

  override forward(x: Tensor): Tensor {
    return adaptiveMaxPool1d(x, this.outputSize);
  }
}

/** The largest values of bins of x [N, C, H, W], with as many along both axes, or [rows, columns]; null keeps a length. */
export class AdaptiveMaxPool2d extends Adaptive<readonly [rows: Size, columns: Size]> {
  static readonly builtIn: string = 'AdaptiveMaxPool2d';

  constructor(outputSize: Size | readonly [rows: Size, columns: Size]) {
    super('AdaptiveMaxPool2d', 2, outputSize);
  }

  override forward(x: Tensor): Tensor {
    return adaptiveMaxPool2d(x, this.outputSize);
  }
}
