/** The networks that bench/large.ts trains, and batches of noise for them. */

import { Generator, type Tensor } from '@otimes/core';
import { crossEntropy, type Module } from '@otimes/nn';
import { batchOf, build, lossOf, type Spec } from '../../examples/gpu/models.ts';
import { mnistCnn } from '../peers/models.ts';

export type OptimizerName = 'adam' | 'steve' | 'kfac' | 'ekfac';

export type Network = {
  readonly title: string;
  readonly spec: Spec | 'mnist';
  /** Those that are measured unless others are asked for. */
  readonly optimizers: readonly OptimizerName[];
  /** Whether a refresh in the background is measured, unless asked for. */
  readonly background?: boolean;
  /** Whether it is so large that it is measured alone, step by step: with `--whole`. */
  readonly alone?: boolean;
};

const CIFAR = { channels: 3, side: 32, classes: 10 };
const IMAGENET = { channels: 3, side: 224, classes: 1000 };
const resnet = { kind: 'resnet', width: 64 } as const;

export const NETWORKS: Readonly<Record<string, Network>> = {
  resnet18: {
    title: 'ResNet-18, 32×32, B 32',
    spec: { ...resnet, depth: 18, stem: 'cifar', image: CIFAR, batch: 32 },
    optimizers: ['steve', 'kfac', 'ekfac'],
    background: true,
  },
  resnet50: {
    title: 'ResNet-50, 32×32, B 16',
    spec: { ...resnet, depth: 50, stem: 'cifar', image: CIFAR, batch: 16 },
    optimizers: ['steve'],
  },
  'resnet50-224': {
    title: 'ResNet-50, 224×224, B 16',
    spec: { ...resnet, depth: 50, stem: 'imagenet', image: IMAGENET, batch: 16 },
    optimizers: ['steve'],
  },
  vit: {
    title: 'ViT-S/16, 224×224, B 4',
    spec: { kind: 'vit', image: IMAGENET, patch: 16, dim: 384, depth: 12, heads: 6, batch: 4 },
    optimizers: ['steve'],
  },
  'resnet50-224-b32': {
    title: 'ResNet-50, 224×224, B 32, blocks computed again',
    spec: { ...resnet, depth: 50, stem: 'imagenet', image: IMAGENET, batch: 32, checkpoint: true },
    optimizers: ['steve'],
    alone: true,
  },
  'resnet50-224-b32-kept': {
    title: 'ResNet-50, 224×224, B 32',
    spec: { ...resnet, depth: 50, stem: 'imagenet', image: IMAGENET, batch: 32 },
    optimizers: ['steve'],
    alone: true,
  },
  'vit-b8': {
    title: 'ViT-S/16, 224×224, B 8',
    spec: { kind: 'vit', image: IMAGENET, patch: 16, dim: 384, depth: 12, heads: 6, batch: 8 },
    optimizers: ['steve'],
    alone: true,
  },
  'vit-b8-again': {
    title: 'ViT-S/16, 224×224, B 8, blocks computed again',
    spec: { kind: 'vit', image: IMAGENET, patch: 16, dim: 384, depth: 12, heads: 6, batch: 8, checkpoint: true },
    optimizers: ['steve'],
    alone: true,
  },
  mnist: { title: "CNN of PyTorch's MNIST example, B 64", spec: 'mnist', optimizers: ['steve'] },
  mlp: {
    title: 'MLP 784-512-256-10, B 128',
    spec: { kind: 'mlp', sizes: [784, 512, 256, 10], batch: 128 },
    optimizers: ['steve', 'kfac', 'ekfac'],
    background: true,
  },
};

/** The same with few channels and examples, to see that all of it runs. */
export function quickened(spec: Network['spec']): Network['spec'] {
  if (spec === 'mnist')
    return { kind: 'cnn', image: { channels: 1, side: 12, classes: 10 }, channels: [4, 8], batch: 4 };
  switch (spec.kind) {
    case 'resnet':
      return { ...spec, width: 8, image: { ...spec.image, side: 32, classes: 10 }, batch: 4 };
    case 'vit':
      return { ...spec, image: { ...spec.image, side: 32, classes: 10 }, dim: 48, depth: 2 };
    case 'mlp':
      return { ...spec, sizes: [40, 30, 20, 10] };
    default:
      return spec;
  }
}

export type Problem = {
  readonly model: Module;
  readonly batches: readonly (readonly [x: Tensor, labels: Tensor])[];
  readonly loss: (x: Tensor, labels: Tensor) => Tensor;
};

/** The same weights and batches in every process. */
export function problemOf(spec: Network['spec']): Problem {
  const rng = new Generator(0);
  const model = spec === 'mnist' ? mnistCnn(rng) : build(spec, rng);
  const shape = { kind: 'cnn', image: { channels: 1, side: 28, classes: 10 }, channels: [32, 64], batch: 64 } as const;
  const batches = Array.from({ length: 4 }, () => batchOf(spec === 'mnist' ? shape : spec, rng));
  const loss =
    spec === 'mnist'
      ? (x: Tensor, labels: Tensor) => crossEntropy(model.call(x), labels)
      : (x: Tensor, labels: Tensor) => lossOf(model, x, labels);
  return { model, batches, loss };
}
