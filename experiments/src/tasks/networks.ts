/** Networks for small images, by name. */

import type { Generator } from '@otimes/core';
import { Conv2d, Flatten, Linear, MaxPool2d, type Module, mlp, ReLU, Sequential } from '@otimes/nn';
import { oneOf, someSizes } from './options.ts';

export type ImageShape = { readonly channels: number; readonly size: number; readonly classes: number };

/** A network, and the sizes of it; those of the others do nothing. */
export type NetworkOptions = {
  network: 'mlp' | 'cnn';
  /** Units of the hidden layers of 'mlp'. */
  hidden: readonly number[];
  /** Output channels of the convolutions of 'cnn', after each of which the sides are halved. */
  channels: readonly number[];
};

export const NETWORK_DEFAULTS: NetworkOptions = { network: 'cnn', hidden: [128, 64], channels: [8, 16] };
export const NETWORK_KINDS = { network: oneOf('mlp', 'cnn'), hidden: someSizes, channels: someSizes };

export function network(o: NetworkOptions, shape: ImageShape, rng: Generator): Module {
  if (o.network === 'mlp') return mlp([shape.channels * shape.size ** 2, ...o.hidden, shape.classes], { rng });
  return cnn(o.channels, shape, rng);
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
