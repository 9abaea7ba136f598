/**
 * Residual networks (He et al. 2016), with torchvision's parameter names, so that its weights load. As there, the stride
 * of a bottleneck is at its 3×3 convolution ("ResNet v1.5").
 */

import type { Tensor } from '@otimes/core';
import { aBoolean, checkArgument, checkOptions, type Kind, oneOf } from '@otimes/core/extend';
import { ReLU } from '../activations/basic.ts';
import { insides } from '../calls.ts';
import { checkPositive, isOption, PLACEMENT, placed, requiredOptions } from '../check.ts';
import type { Sequential } from '../containers/sequential.ts';
import type { Conv2d } from '../convolution/conv2d.ts';
import { Linear } from '../linear.ts';
import { Module } from '../module.ts';
import { BatchNorm2d } from '../normalization/batch.ts';
import { GlobalAvgPool2d, MaxPool2d } from '../pooling/pool.ts';
import { recomputed } from './recomputed.ts';
import { BasicBlock, Bottleneck, conv, type ResidualOptions, stage } from './resnet-blocks.ts';

export type ResNetOptions = ResidualOptions & {
  classes: number;
  /** 'imagenet': 7×7 convolution of stride 2 and max pooling, to a quarter of each side; 'cifar': 3×3, no pooling. */
  stem: 'cifar' | 'imagenet';
  /** Of the images; default 3. */
  channels?: number;
  /** Channels of the first stage, which double in each of the other three; default 64. */
  width?: number;
  /** Blocks of each stage; default those of the network. */
  depths?: readonly [number, number, number, number];
};

const aBlock: Kind = {
  expected: 'BasicBlock or Bottleneck',
  is: v => typeof v === 'function' && v.prototype instanceof Module,
};
const OPTIONS = {
  ...{ classes: isOption, stem: isOption, channels: isOption, width: isOption },
  checkpoint: aBoolean,
  ...PLACEMENT,
};
const fourDepths: Kind = {
  expected: 'the blocks of four stages, such as [2, 2, 2, 2]',
  is: v => Array.isArray(v) && v.length === 4 && v.every(n => Number.isInteger(n) && n >= 1),
};

/** [N, channels, H, W] → logits [N, classes]. Convolutions start Kaiming normal by fan-out, as in torchvision. */
export class ResNet extends Module {
  static readonly builtIn: string = 'ResNet';
  readonly conv1: Conv2d;
  readonly bn1: BatchNorm2d;
  readonly relu = new ReLU();
  readonly maxpool: MaxPool2d | null;
  readonly layer1: Sequential;
  readonly layer2: Sequential;
  readonly layer3: Sequential;
  readonly layer4: Sequential;
  readonly avgpool = new GlobalAvgPool2d();
  readonly fc: Linear;
  readonly #checkpoint: boolean;

  /** @param depths blocks of each stage */
  constructor(
    Block: typeof BasicBlock | typeof Bottleneck,
    depths: readonly [number, number, number, number],
    o: Omit<ResNetOptions, 'depths'>,
  ) {
    super();
    checkArgument('resnet', 'Block', Block, aBlock);
    checkArgument('resnet', 'depths', depths, fourDepths);
    checkArgument('resnet', 'options', o, requiredOptions);
    checkOptions('resnet', o, OPTIONS);
    const { classes, stem, channels = 3, width = 64 } = o;
    checkPositive('resnet', { classes, channels, width });
    checkArgument('resnet', 'stem', stem, oneOf('cifar', 'imagenet'));
    const at = placed(o);
    this.#checkpoint = o.checkpoint ?? false;
    const block = { ...at, checkpoint: this.#checkpoint };
    this.conv1 = stem === 'cifar' ? conv(channels, width, 3, 1, at) : conv(channels, width, 7, 2, at);
    this.bn1 = new BatchNorm2d(width, at);
    this.maxpool = stem === 'cifar' ? null : new MaxPool2d(3, { stride: 2, padding: 1 });
    let cIn = width;
    const [stage1, stage2, stage3, stage4] = depths.map((depth, i) =>
      stage(depth, isFirst => {
        const made = new Block(cIn, width * 2 ** i, i > 0 && isFirst ? 2 : 1, block);
        cIn = width * 2 ** i * Block.expansion;
        return made;
      }),
    );
    this.layer1 = stage1!;
    this.layer2 = stage2!;
    this.layer3 = stage3!;
    this.layer4 = stage4!;
    this.fc = new Linear(cIn, classes, at);
  }

  override forward(x: Tensor): Tensor {
    return insides(this, () => this.#forward(x));
  }

  #forward(x: Tensor): Tensor {
    const stem = (x: Tensor) => insides(this, () => this.#stem(x));
    const stages = [this.layer1, this.layer2, this.layer3, this.layer4];
    const features = stages.reduce((y, stage) => stage.call(y), this.#checkpoint ? recomputed(this, stem, x) : stem(x));
    return this.fc.call(this.avgpool.call(features));
  }

  #stem(x: Tensor): Tensor {
    const y = this.relu.call(this.bn1.call(this.conv1.call(x)));
    return this.maxpool?.call(y) ?? y;
  }
}

/** A network by name; `depths` may be others. */
function named(
  Block: typeof BasicBlock | typeof Bottleneck,
  usual: readonly [number, number, number, number],
  o: ResNetOptions,
): ResNet {
  checkArgument('resnet', 'options', o, requiredOptions);
  checkOptions('resnet', o, { depths: isOption, ...OPTIONS });
  const { depths = usual, ...rest } = o;
  return new ResNet(Block, depths, rest);
}

/** 18 layers, 11.7 million parameters with 1000 classes. */
export function resnet18(o: ResNetOptions): ResNet {
  return named(BasicBlock, [2, 2, 2, 2], o);
}

/** 34 layers, 21.8 million parameters with 1000 classes. */
export function resnet34(o: ResNetOptions): ResNet {
  return named(BasicBlock, [3, 4, 6, 3], o);
}

/** 50 layers, 25.6 million parameters with 1000 classes. */
export function resnet50(o: ResNetOptions): ResNet {
  return named(Bottleneck, [3, 4, 6, 3], o);
}
