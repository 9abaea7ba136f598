/** MobileNet (Howard et al. 2017): depthwise separable convolutions, each a 3×3 convolution of single channels and a map of channels. */

import type { Shape, Tensor } from '@otimes/core';
import { checkOptions, type Kind } from '@otimes/core/extend';
import { ReLU } from '../activations/basic.ts';
import { insides } from '../calls.ts';
import { checkPositive, PLACEMENT, type Placement, placed } from '../check.ts';
import { Sequential } from '../containers/sequential.ts';
import { Conv2d } from '../convolution/conv2d.ts';
import { type InitOptions, kaimingNormal } from '../init.ts';
import { Linear } from '../linear.ts';
import { Module } from '../module.ts';
import { BatchNorm2d } from '../normalization/batch.ts';
import { GlobalAvgPool2d } from '../pooling/pool.ts';

export type MobileNetV1Options = Placement & {
  /** Width multiplier of all layers; default 1. Widths are rounded down, to 8 at least. */
  alpha?: number;
  /** Default 1000. */
  numClasses?: number;
  /** Of the images; default 3. */
  channels?: number;
};

const aWidth: Kind = {
  expected: 'a finite number > 0',
  is: v => typeof v === 'number' && v > 0 && v < Infinity,
  error: RangeError,
};
const aSize: Kind = { expected: 'a number', is: v => typeof v === 'number' };

/** Table 1 of the paper: widths and strides of the separable convolutions. */
const TABLE: readonly (readonly [width: number, stride: number])[] = [
  [64, 1],
  [128, 2],
  [128, 1],
  [256, 2],
  [256, 1],
  [512, 2],
  ...Array.from({ length: 5 }, () => [512, 1] as const),
  [1024, 2],
  [1024, 1],
];

const init = (shape: Shape, o: InitOptions) => kaimingNormal(shape, { ...o, mode: 'fanOut' });

/** A convolution without bias, batch norm and ReLU, as entries of a sequence. */
function convolved(cIn: number, cOut: number, kernel: number, stride: number, groups: number, o: Placement): Module[] {
  const padding = (kernel - 1) / 2;
  return [
    new Conv2d(cIn, cOut, kernel, { ...o, stride, padding, groups, bias: false, init }),
    new BatchNorm2d(cOut, o),
    new ReLU(),
  ];
}

/**
 * Images [N, channels, H, W] → logits [N, numClasses]. A plane shrinks 32 times along both axes. In a state dict `features.0` is the first
 * convolution, `features.1` … `features.13` are separable ones, with `0` and `1` for the depthwise convolution and its batch norm and `3` and `4`
 * for the pointwise ones, and `classifier` is the linear layer.
 */
export class MobileNetV1 extends Module {
  static readonly builtIn: string = 'MobileNetV1';
  readonly features: Sequential;
  readonly pool = new GlobalAvgPool2d();
  readonly classifier: Linear;

  constructor(o: MobileNetV1Options = {}) {
    super();
    checkOptions('mobileNetV1', o, { alpha: aWidth, numClasses: aSize, channels: aSize, ...PLACEMENT });
    const { alpha = 1, numClasses = 1000, channels = 3 } = o;
    checkPositive('mobileNetV1', { numClasses, channels });
    const at = placed(o);
    const width = (full: number) => Math.max(8, Math.floor(full * alpha));
    let cIn = width(32);
    const layers = [new Sequential(...convolved(channels, cIn, 3, 2, 1, at))];
    for (const [full, stride] of TABLE) {
      const cOut = width(full);
      layers.push(new Sequential(...convolved(cIn, cIn, 3, stride, cIn, at), ...convolved(cIn, cOut, 1, 1, 1, at)));
      cIn = cOut;
    }
    this.features = new Sequential(...layers);
    this.classifier = new Linear(cIn, numClasses, at);
  }

  override forward(x: Tensor): Tensor {
    return insides(this, () => this.classifier.call(this.pool.call(this.features.call(x) as Tensor)));
  }
}

/** MobileNet V1, 4.2 million parameters with 1000 classes and `alpha` 1. */
export function mobileNetV1(o: MobileNetV1Options = {}): MobileNetV1 {
  return new MobileNetV1(o);
}
