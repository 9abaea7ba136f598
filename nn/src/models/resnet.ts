/**
 * Residual networks (He et al. 2016), with torchvision's parameter names, so that its weights load. As there, the stride
 * of a bottleneck is at its 3×3 convolution ("ResNet v1.5").
 */

import type { Shape, Tensor } from '@otimes/core';
import { checkArgument, checkOptions, type Kind, oneOf } from '@otimes/core/extend';
import { ReLU } from '../activations/basic.ts';
import { insides } from '../calls.ts';
import { checkPositive, PLACEMENT, type Placement, placed, requiredOptions } from '../check.ts';
import { Sequential } from '../containers/sequential.ts';
import { Conv2d } from '../convolution/conv2d.ts';
import { type InitOptions, kaimingNormal } from '../init.ts';
import { Linear } from '../linear.ts';
import { Module } from '../module.ts';
import { BatchNorm2d } from '../normalization/batch.ts';
import { GlobalAvgPool2d, MaxPool2d } from '../pooling/pool.ts';

const init = (shape: Shape, o: InitOptions) => kaimingNormal(shape, { ...o, mode: 'fanOut' });

/** A convolution without bias that keeps the size of the plane, except for the stride. */
function conv(cIn: number, cOut: number, kernel: number, stride: number, o: Placement): Conv2d {
  return new Conv2d(cIn, cOut, kernel, { ...o, stride, padding: (kernel - 1) / 2, bias: false, init });
}

/** Brings x to the shape of the branch; null if it has that shape already. */
function shortcut(cIn: number, cOut: number, stride: number, o: Placement): Sequential | null {
  if (stride === 1 && cIn === cOut) return null;
  return new Sequential(conv(cIn, cOut, 1, stride, o), new BatchNorm2d(cOut, o));
}

/** Two 3×3 convolutions, [N, cIn, H, W] → [N, width, H/stride, W/stride]. */
export class BasicBlock extends Module {
  static readonly builtIn: string = 'BasicBlock';
  static readonly expansion: number = 1;
  readonly conv1: Conv2d;
  readonly bn1: BatchNorm2d;
  readonly relu = new ReLU();
  readonly conv2: Conv2d;
  readonly bn2: BatchNorm2d;
  readonly downsample: Sequential | null;

  constructor(cIn: number, width: number, stride = 1, o: Placement = {}) {
    super();
    checkPositive(new.target.builtIn, { cIn, width, stride });
    checkOptions(new.target.builtIn, o, PLACEMENT);
    this.conv1 = conv(cIn, width, 3, stride, o);
    this.bn1 = new BatchNorm2d(width, o);
    this.conv2 = conv(width, width, 3, 1, o);
    this.bn2 = new BatchNorm2d(width, o);
    this.downsample = shortcut(cIn, width, stride, o);
  }

  override forward(x: Tensor): Tensor {
    return insides(this, () => this.#forward(x));
  }

  #forward(x: Tensor): Tensor {
    const y = this.relu.call(this.bn1.call(this.conv1.call(x)));
    const branch = this.bn2.call(this.conv2.call(y));
    return this.relu.call(branch.add(this.downsample?.call(x) ?? x));
  }
}

/** 1×1 to `width` channels, 3×3, 1×1 to four times as many: [N, cIn, H, W] → [N, 4 · width, H/stride, W/stride]. */
export class Bottleneck extends Module {
  static readonly builtIn: string = 'Bottleneck';
  static readonly expansion: number = 4;
  readonly conv1: Conv2d;
  readonly bn1: BatchNorm2d;
  readonly conv2: Conv2d;
  readonly bn2: BatchNorm2d;
  readonly conv3: Conv2d;
  readonly bn3: BatchNorm2d;
  readonly relu = new ReLU();
  readonly downsample: Sequential | null;

  constructor(cIn: number, width: number, stride = 1, o: Placement = {}) {
    super();
    checkPositive(new.target.builtIn, { cIn, width, stride });
    checkOptions(new.target.builtIn, o, PLACEMENT);
    const cOut = width * Bottleneck.expansion;
    this.conv1 = conv(cIn, width, 1, 1, o);
    this.bn1 = new BatchNorm2d(width, o);
    this.conv2 = conv(width, width, 3, stride, o);
    this.bn2 = new BatchNorm2d(width, o);
    this.conv3 = conv(width, cOut, 1, 1, o);
    this.bn3 = new BatchNorm2d(cOut, o);
    this.downsample = shortcut(cIn, cOut, stride, o);
  }

  override forward(x: Tensor): Tensor {
    return insides(this, () => this.#forward(x));
  }

  #forward(x: Tensor): Tensor {
    const y = this.relu.call(this.bn1.call(this.conv1.call(x)));
    const z = this.relu.call(this.bn2.call(this.conv2.call(y)));
    const branch = this.bn3.call(this.conv3.call(z));
    return this.relu.call(branch.add(this.downsample?.call(x) ?? x));
  }
}

export type ResNetOptions = Placement & {
  classes: number;
  /** 'imagenet': 7×7 convolution of stride 2 and max pooling, to a quarter of each side; 'cifar': 3×3, no pooling. */
  stem: 'cifar' | 'imagenet';
  /** Of the images; default 3. */
  channels?: number;
  /** Channels of the first stage, which double in each of the other three; default 64. */
  width?: number;
};

const aBlock: Kind = {
  expected: 'BasicBlock or Bottleneck',
  is: v => typeof v === 'function' && v.prototype instanceof Module,
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

  /** @param depths blocks of each stage */
  constructor(
    Block: typeof BasicBlock | typeof Bottleneck,
    depths: readonly [number, number, number, number],
    o: ResNetOptions,
  ) {
    super();
    checkArgument('resnet', 'Block', Block, aBlock);
    checkArgument('resnet', 'depths', depths, fourDepths);
    checkArgument('resnet', 'options', o, requiredOptions);
    const { classes, stem, channels = 3, width = 64, ...rest } = o;
    checkPositive('resnet', { classes, channels, width });
    checkArgument('resnet', 'stem', stem, oneOf('cifar', 'imagenet'));
    checkOptions('resnet', rest, PLACEMENT);
    const at = placed(o);
    this.conv1 = stem === 'cifar' ? conv(channels, width, 3, 1, at) : conv(channels, width, 7, 2, at);
    this.bn1 = new BatchNorm2d(width, at);
    this.maxpool = stem === 'cifar' ? null : new MaxPool2d(3, { stride: 2, padding: 1 });
    let cIn = width;
    const [stage1, stage2, stage3, stage4] = depths.map((depth, i) => {
      const blocks: Module[] = [];
      for (let j = 0; j < depth; j++) {
        blocks.push(new Block(cIn, width * 2 ** i, i > 0 && j === 0 ? 2 : 1, at));
        cIn = width * 2 ** i * Block.expansion;
      }
      return new Sequential(...blocks);
    });
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
    const stem = this.relu.call(this.bn1.call(this.conv1.call(x)));
    const stages = [this.maxpool, this.layer1, this.layer2, this.layer3, this.layer4];
    const features = stages.reduce((y, stage) => stage?.call(y) ?? y, stem);
    return this.fc.call(this.avgpool.call(features));
  }
}

/** 18 layers, 11.7 million parameters with 1000 classes. */
export function resnet18(o: ResNetOptions): ResNet {
  return new ResNet(BasicBlock, [2, 2, 2, 2], o);
}

/** 50 layers, 25.6 million parameters with 1000 classes. */
export function resnet50(o: ResNetOptions): ResNet {
  return new ResNet(Bottleneck, [3, 4, 6, 3], o);
}
