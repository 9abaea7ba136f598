/** The residual networks of He et al. 2016, §4.2, for small images: three stages of pairs of 3×3 convolutions. */

import { type StateDict, Tensor } from '@otimes/core';
import { aBoolean, aStateDict, checkArgument, checkOptions, type Kind, oneOf, received } from '@otimes/core/extend';
import { ReLU } from '../activations/basic.ts';
import { insides } from '../calls.ts';
import { checkPositive, isOption, PLACEMENT, placed, requiredOptions } from '../check.ts';
import type { Sequential } from '../containers/sequential.ts';
import type { Conv2d } from '../convolution/conv2d.ts';
import { Linear } from '../linear.ts';
import { Module } from '../module.ts';
import { BatchNorm2d } from '../normalization/batch.ts';
import { GlobalAvgPool2d } from '../pooling/pool.ts';
import { recomputed } from './recomputed.ts';
import { BasicBlock, type BasicBlockOptions, conv, stage } from './resnet-blocks.ts';

export type CifarResNetOptions = BasicBlockOptions & {
  /** Layers with weights: 6n + 2 for n blocks a stage, such as 8, 14, 20, 32, 44, 56, 110. */
  depth: number;
  classes: number;
  /** Channels of the first stage, which double in each of the other two; default 16. */
  width?: number;
  /** Of the images; default 3. */
  channels?: number;
  /** Where the number of channels doubles: 'A' (default, as in the paper) or 'B'; see `BasicBlock`. */
  shortcut?: 'A' | 'B';
};

const OPTIONS = {
  ...{ depth: isOption, classes: isOption, width: isOption, channels: isOption },
  shortcut: oneOf('A', 'B'),
  checkpoint: aBoolean,
  ...PLACEMENT,
};
const aDepth: Kind = {
  expected: 'a depth of 6n + 2 layers, such as 8, 14 or 20',
  is: v => Number.isInteger(v) && Number(v) >= 8 && (Number(v) - 2) % 6 === 0,
  error: RangeError,
};

/**
 * [N, channels, H, W] → logits [N, classes]: a 3×3 convolution, three stages of which the second and the third halve the plane, the mean, a
 * linear layer. State keys are torchvision's (`conv1`, `bn1`, `layer1.0.conv1`, …, `fc`), and `layer2.0.downsample` with shortcut 'B', as
 * in chenyaofo/pytorch-cifar-models. `fromCifarResNet` takes states with the names of akamaster/pytorch_resnet_cifar10.
 */
export class CifarResNet extends Module {
  static readonly builtIn: string = 'CifarResNet';
  readonly conv1: Conv2d;
  readonly bn1: BatchNorm2d;
  readonly relu = new ReLU();
  readonly layer1: Sequential;
  readonly layer2: Sequential;
  readonly layer3: Sequential;
  readonly avgpool = new GlobalAvgPool2d();
  readonly fc: Linear;
  readonly #checkpoint: boolean;

  constructor(o: CifarResNetOptions) {
    super();
    checkArgument('cifarResNet', 'options', o, requiredOptions);
    checkOptions('cifarResNet', o, OPTIONS);
    const { depth, classes, width = 16, channels = 3 } = o;
    checkArgument('cifarResNet', 'depth', depth, aDepth);
    checkPositive('cifarResNet', { classes, width, channels });
    const at = placed(o);
    this.#checkpoint = o.checkpoint ?? false;
    const block = { ...at, shortcut: o.shortcut ?? 'A', checkpoint: this.#checkpoint };
    this.conv1 = conv(channels, width, 3, 1, at);
    this.bn1 = new BatchNorm2d(width, at);
    const blocks = (depth - 2) / 6;
    const staged = (i: number) =>
      stage(blocks, isFirst => {
        const changes = i > 0 && isFirst;
        return new BasicBlock(width * 2 ** (changes ? i - 1 : i), width * 2 ** i, changes ? 2 : 1, block);
      });
    this.layer1 = staged(0);
    this.layer2 = staged(1);
    this.layer3 = staged(2);
    this.fc = new Linear(4 * width, classes, at);
  }

  override forward(x: Tensor): Tensor {
    return insides(this, () => this.#forward(x));
  }

  #forward(x: Tensor): Tensor {
    const stem = (x: Tensor) => insides(this, () => this.relu.call(this.bn1.call(this.conv1.call(x))));
    const stages = [this.layer1, this.layer2, this.layer3];
    const features = stages.reduce((y, stage) => stage.call(y), this.#checkpoint ? recomputed(this, stem, x) : stem(x));
    return this.fc.call(this.avgpool.call(features));
  }
}

/**
 * ResNet-20, 32, 44, 56, 110 of the paper and smaller ones: `cifarResNet({ depth: 20, classes: 10 })` has 272,474 parameters with shortcut 'B'
 * and 269,722 with 'A'.
 */
export function cifarResNet(o: CifarResNetOptions): CifarResNet {
  return new CifarResNet(o);
}

/**
 * A state dict for `cifarResNet` from one with the names of akamaster/pytorch_resnet_cifar10: `linear` becomes `fc`, `layer2.0.shortcut.0` becomes
 * `layer2.0.downsample.0`, and a `module.` before the names goes. Others stay as they are. Tensors are shared.
 */
export function fromCifarResNet(state: StateDict): StateDict {
  checkArgument('fromCifarResNet', 'state', state, aStateDict);
  const ours: StateDict = {};
  for (const [full, value] of Object.entries(state) as [string, unknown][]) {
    if (!(value instanceof Tensor))
      throw new TypeError(`fromCifarResNet: expected '${full}' to be a tensor, got ${received(value)}`);
    const name = full
      .replace(/^module\./, '')
      .replace(/^linear\./, 'fc.')
      .replace(/^(layer\d\.\d+)\.shortcut\./, '$1.downsample.');
    if (Object.hasOwn(ours, name))
      throw new Error(`fromCifarResNet: both '${full}' and another entry would become '${name}'`);
    ours[name] = value;
  }
  return ours;
}
