/** The tasks: data, a network, and the test accuracy to reach. Images are averaged to half their height and width. */

import { Generator, type Tensor } from '@otimes/core';
import { averagePool2, type Labelled, normalize, TensorDataset } from '@otimes/data';
import { fashionMnist } from '@otimes/data/node';
import {
  BasicBlock,
  BatchNorm2d,
  Conv2d,
  Flatten,
  GlobalAvgPool2d,
  Linear,
  MaxPool2d,
  type Module,
  mlp,
  ReLU,
  Sequential,
  vit,
} from '@otimes/nn';
import type { Sharing } from '@otimes/optim';
import { loadDigits } from '../../examples/digits/load.ts';
import { cifar10 } from './cifar.ts';

export type Task = {
  /** Images [n, 1, 14, 14], or [n, 3, 16, 16] of CIFAR-10, with mean 0 and standard deviation 1 over the training set, and labels [n]. */
  readonly train: TensorDataset<[Tensor, Tensor]>;
  readonly test: { readonly images: Tensor; readonly labels: Tensor };
  /** The same weights for the same seed. */
  readonly model: (seed: number) => Module;
  /**
   * Test accuracy: what Adam reaches within 6 epochs at its best learning rate, the mean of the seeds rounded down to
   * half a percent. Chosen from Adam's runs alone.
   */
  readonly target: number;
  /** Of all blocks; undefined leaves it to the collectors. */
  readonly sharing?: Sharing;
  /** Learning rate of Adam for what no block claims, under KFAC and EKFAC: the best of Adam alone. */
  readonly rest?: number;
};

/** Two convolutions, each with a ReLU and the largest of 2×2, and a linear layer. */
function cnn([first, second]: readonly [number, number], rng: Generator): Module {
  return new Sequential(
    new Conv2d(1, first, 3, { padding: 1, rng }),
    new ReLU(),
    new MaxPool2d(2),
    new Conv2d(first, second, 3, { padding: 1, rng }),
    new ReLU(),
    new MaxPool2d(2),
    new Flatten(),
    new Linear(second * 9, 10, { rng }),
  );
}

/** Eight layers: a 3×3 convolution, three residual blocks of which two halve the plane, and a linear layer on the mean. */
function narrowResNet(channels: number, width: number, rng: Generator): Module {
  return new Sequential(
    new Conv2d(channels, width, 3, { padding: 1, bias: false, rng }),
    new BatchNorm2d(width),
    new ReLU(),
    new BasicBlock(width, width, 1, { rng }),
    new BasicBlock(width, 2 * width, 2, { rng }),
    new BasicBlock(2 * width, 4 * width, 2, { rng }),
    new GlobalAvgPool2d(),
    new Linear(4 * width, 10, { rng }),
  );
}

const VIT = { imageSize: 14, channels: 1, patch: 2, dim: 32, depth: 2, heads: 4, mlpRatio: 2, classes: 10 };

function prepare(train: Labelled, test: Labelled): Pick<Task, 'train' | 'test'> {
  const pooled = averagePool2(train.images);
  const [mean, std] = [pooled.mean().item(), pooled.var().sqrt().item()];
  const images = ({ images }: Labelled) => normalize(averagePool2(images), mean, std).unsqueeze(1).contiguous();
  return { train: new TensorDataset(images(train), train.labels), test: { images: images(test), labels: test.labels } };
}

/** The first `train` images to train with, and the first `test` of 10,000 to test. */
const fashion = (folder: string, train: number, test = 10_000) =>
  prepare(fashionMnist(folder, { split: 'train', limit: train }), fashionMnist(folder, { split: 'test', limit: test }));

function cifar(folder: string, train: number, test: number): Pick<Task, 'train' | 'test'> {
  const sets = cifar10(folder, train, test);
  const { images } = sets.train;
  const mean = images.mean([0, 2, 3], { keepdim: true });
  const std = images.var([0, 2, 3], { keepdim: true }).sqrt();
  const scaled = (set: Labelled) => normalize(set.images, mean, std).contiguous();
  return {
    train: new TensorDataset(scaled(sets.train), sets.train.labels),
    test: { images: scaled(sets.test), labels: sets.test.labels },
  };
}

/** Each is a function of the folder with Fashion-MNIST, or CIFAR-10. */
export const TASKS: Readonly<Record<string, (folder: string) => Task>> = {
  'digits-cnn': () => {
    const { train, test } = loadDigits();
    const model = (seed: number) => cnn([8, 16], new Generator(seed));
    return { ...prepare(train, test), model, target: 0.965 };
  },
  'fashion-mlp': folder => {
    const model = (seed: number) => mlp([196, 128, 64, 10], { rng: new Generator(seed) });
    return { ...fashion(folder, 10_000), model, target: 0.84 };
  },
  'fashion-cnn': folder => {
    const model = (seed: number) => cnn([16, 32], new Generator(seed));
    return { ...fashion(folder, 6_000, 5_000), model, target: 0.84 };
  },
  'fashion-resnet': folder => {
    const model = (seed: number) => narrowResNet(1, 8, new Generator(seed));
    return { ...fashion(folder, 6_000, 2_000), model, target: 0.845 };
  },
  'cifar-resnet': folder => {
    const model = (seed: number) => narrowResNet(3, 16, new Generator(seed));
    return { ...cifar(folder, 6_000, 2_000), model, target: 0.51 };
  },
  'fashion-vit': folder => {
    // The head sees the mean of all 49 tokens, as reduce assumes, and not a class token.
    const model = (seed: number) => vit({ ...VIT, pool: 'mean', fcNorm: false, rng: new Generator(seed) });
    return { ...fashion(folder, 6_000, 2_000), model, target: 0.78, sharing: 'reduce', rest: 0.003 };
  },
  'fashion-vit-token': folder => {
    const model = (seed: number) => vit({ ...VIT, rng: new Generator(seed) });
    return { ...fashion(folder, 6_000, 2_000), model, target: 0.785, sharing: 'reduce', rest: 0.01 };
  },
};
