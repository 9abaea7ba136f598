/**
 * The three experiments of the paper of STEVE (§4), each with its literal hyperparameters and with a fair twin, in which all contenders are tuned
 * alike. How the literal ones are read, where the text leaves a choice:
 *
 * - "All optimizers except Adam are implemented as preconditioners on top of SGD" (§4): parameters that no block claims go to SGD at
 *   the same rate (`rest: 'sgd'`), and updates are not clipped (`trust` and `klClip` false).
 * - Algorithm 1, line 22, v ← β₂ v + (1−β₂) E_B[(Uᵀ∇)²]: ∇ is of an example, as in line 21, where its mean is written E_B too: `secondMoment` 'example'. Line 18,
 *   m, v ← 0: `onRefresh` 'zero'. COMPUTE-KFE sees the batch alone: `factorDecay` 0. No step is grafted, no direction left out.
 * - Bias correction is Adam's, with a counter from 1: lines 25 and 26 print a root, and divide by 0 where c = 0.
 * - "Running averages" with α = .9, updated with the bases: `factorDecay` .9, `factorEvery` as `refreshEvery`. The damping is not in the
 *   paper: it is the library's default, 3e-3.
 * - The batch size is not in the paper: 128. Nor is the network's stem: 'cifar' on 32×32 pixels, 'imagenet' on 64×64. Nor the padding of
 *   the crop: an eighth of the side. Images of the transformer are cropped and flipped first, and then resized to 224×224.
 * - It stops by test accuracy, which chooses by the test set; here by that on 5,000 training images kept apart.
 */

import type { Experiment, Setting } from '../experiment.ts';

type Literal = {
  readonly name: string;
  readonly title: string;
  readonly about: string;
  readonly task: string;
  readonly taskOptions: Experiment['taskOptions'];
  readonly target: number;
  readonly lr: number;
  readonly refreshEvery: number;
  readonly sharing?: 'reduce';
};

const EXPERIMENTS: readonly Literal[] = [
  {
    name: 'paper/cifar10-resnet50',
    title: 'CIFAR-10, ResNet-50',
    about: 'ResNet-50 on CIFAR-10, with random crops and flips (§4.1).',
    task: 'cifar10',
    taskOptions: { network: 'resnet50', stem: 'cifar', augment: true },
    target: 0.925,
    lr: 0.001,
    refreshEvery: 500,
  },
  {
    name: 'paper/tinyimagenet-resnet50',
    title: 'Tiny ImageNet, ResNet-50',
    about: 'ResNet-50 on Tiny ImageNet, with random crops and flips (§4.2).',
    task: 'tiny-imagenet',
    taskOptions: { network: 'resnet50', stem: 'imagenet', augment: true },
    target: 0.44,
    lr: 0.0001,
    refreshEvery: 600,
  },
  {
    name: 'paper/cifar100-vit-s16',
    title: 'CIFAR-100, ViT-S/16',
    about: 'ViT-S/16 on CIFAR-100, resized to 224×224, with random crops and flips (§4.3).',
    task: 'cifar100',
    taskOptions: { network: 'vit-s16', size: 224, augment: true },
    target: 0.46,
    lr: 0.00005,
    refreshEvery: 50,
    sharing: 'reduce',
  },
];

/** Of `--short`: another network, too, since the factors of these take minutes to decompose. */
const SHORT = { network: 'cnn', channels: [8, 16, 16], size: 32, train: 1000, validation: 300, test: 300 };

function literal({ lr, refreshEvery, sharing, ...own }: Literal): Experiment {
  const moments: Setting = { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8 };
  const damped: Setting = { lr, factorDecay: 0.9, rest: 'sgd', trust: false, klClip: false };
  return {
    ...own,
    targetFrom:
      "The paper's, there of the test accuracy: what the model usually reaches after about 100 epochs on Adam.",
    epochs: 100,
    checksPerEpoch: 1,
    seeds: 3,
    tuning: { trials: 0, seed: 100, giveUp: null },
    schedules: ['constant'],
    finalists: 'best',
    contenders: ['adam', 'steve', 'ekfac', 'kfac'],
    fixed: {
      adam: moments,
      steve: {
        ...moments,
        secondMoment: 'example',
        onRefresh: 'zero',
        factorDecay: 0,
        graft: false,
        nullRule: 'none',
        rest: 'sgd',
      },
      ekfac: damped,
      kfac: damped,
    },
    kronecker: { refreshEvery, factorEvery: refreshEvery, ...(sharing && { sharing }) },
  };
}

function fair({ lr: _, refreshEvery: __, sharing, name, title, about, ...own }: Literal): Experiment {
  return {
    ...own,
    short: SHORT,
    name: `${name}-fair`,
    title: `${title}, all tuned alike`,
    about: `${about} All contenders are tuned alike, with constant and decayed rates.`,
    targetFrom: 'That of the literal twin.',
    epochs: 100,
    checksPerEpoch: 1,
    seeds: 3,
    tuning: { trials: 8, seed: 100, giveUp: 1.5 },
    schedules: ['constant', 'cosine'],
    finalists: 'each schedule',
    contenders: ['adamw', 'nadamw', 'schedule-free', 'sgd', 'muon', 'steve', 'ekfac', 'kfac', 'soap'],
    kronecker: { refreshEvery: 50, factorEvery: 10, ...(sharing && { sharing }) },
  };
}

export const PAPER: readonly Experiment[] = EXPERIMENTS.flatMap(one => [literal(one), fair(one)]);
