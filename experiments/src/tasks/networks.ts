/** Networks for images, by name. */

import type { Generator } from '@otimes/core';
import { aBoolean } from '@otimes/core/extend';
import {
  Conv2d,
  cifarResNet,
  Flatten,
  Linear,
  MaxPool2d,
  type Module,
  mlp,
  ReLU,
  resnet50,
  Sequential,
  vit,
  vitS16,
} from '@otimes/nn';
import { aCount, oneOf, someSizes } from './options.ts';

export type ImageShape = { readonly channels: number; readonly size: number; readonly classes: number };

const NETWORKS = ['mlp', 'cnn', 'resnet', 'vit', 'resnet50', 'vit-s16'] as const;

/** A network, and the sizes of it; those of the others do nothing. */
export type NetworkOptions = {
  network: (typeof NETWORKS)[number];
  /** Units of the hidden layers of 'mlp'. */
  hidden: readonly number[];
  /** Output channels of the convolutions of 'cnn', after each of which the sides are halved. */
  channels: readonly number[];
  /** Layers and channels of 'resnet', one of those of He et al. (2016) for small images. */
  depth: number;
  width: number;
  /** Of 'vit', whose head sees the mean of all tokens: pixels of a patch's side, features of a token, blocks, heads. */
  patch: number;
  features: number;
  layers: number;
  heads: number;
  /** Of 'resnet50': 'cifar' keeps the size of the images, 'imagenet' begins with a quarter of it. */
  stem: 'cifar' | 'imagenet';
  /** Whether 'resnet', 'resnet50' and the transformers compute their blocks again in backward, which takes less memory. */
  checkpoint: boolean;
};

export const NETWORK_DEFAULTS: NetworkOptions = {
  network: 'cnn',
  hidden: [128, 64],
  channels: [8, 16],
  depth: 8,
  width: 8,
  patch: 2,
  features: 32,
  layers: 2,
  heads: 4,
  stem: 'cifar',
  checkpoint: false,
};

export const NETWORK_KINDS = {
  network: oneOf(...NETWORKS),
  hidden: someSizes,
  channels: someSizes,
  depth: aCount,
  width: aCount,
  patch: aCount,
  features: aCount,
  layers: aCount,
  heads: aCount,
  stem: oneOf('cifar', 'imagenet'),
  checkpoint: aBoolean,
};

export function network(o: NetworkOptions, shape: ImageShape, rng: Generator): Module {
  const { channels, size: imageSize, classes } = shape;
  const { checkpoint } = o;
  const common = { channels, classes, checkpoint, rng };
  switch (o.network) {
    case 'mlp':
      return mlp([channels * imageSize ** 2, ...o.hidden, classes], { rng });
    case 'cnn':
      return cnn(o.channels, shape, rng);
    case 'resnet':
      return cifarResNet({ depth: o.depth, width: o.width, ...common });
    case 'resnet50':
      return resnet50({ stem: o.stem, ...common });
    case 'vit-s16':
      return vitS16({ imageSize, ...common });
    case 'vit': {
      const { patch, features: dim, layers: depth, heads } = o;
      return vit({ imageSize, patch, dim, depth, heads, mlpRatio: 2, pool: 'mean', ...common });
    }
  }
}

/** 3×3 convolutions, each with a ReLU and the largest of 2×2, and a linear layer. */
function cnn(channels: readonly number[], { channels: first, size, classes }: ImageShape, rng: Generator): Module {
  let [cIn, side] = [first, size];
  const layers: Module[] = [];
  for (const cOut of channels) {
    layers.push(new Conv2d(cIn, cOut, 3, { padding: 1, rng }), new ReLU(), new MaxPool2d(2));
    cIn = cOut;
    side = Math.floor(side / 2);
  }
  return new Sequential(...layers, new Flatten(), new Linear(cIn * side ** 2, classes, { rng }));
}
