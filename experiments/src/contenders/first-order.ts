/** Optimizers that have the gradient of each parameter alone: SGD, and Adam's relatives. */

import type { Module } from '@otimes/nn';
import {
  Adam,
  type AdamOptions,
  AdamW,
  NAdamW,
  type NAdamWOptions,
  ScheduleFreeAdamW,
  type ScheduleFreeOptions,
  SGD,
  type SGDOptions,
} from '@otimes/optim';
import type { Contender } from '../experiment.ts';
import { adamLike, decades, decay } from './spaces.ts';
import { AveragedTrainer, GradientTrainer, optionsOf } from './trainer.ts';

const parametersOf = (model: Module) => model.parameters();

/** Without decay, as the paper of STEVE has it for a baseline. */
export const adam: Contender = {
  name: 'adam',
  label: 'Adam',
  family: 'first-order',
  space: { lr: adamLike(1e-3) },
  make: (model, setting) =>
    new GradientTrainer(new Adam(parametersOf(model), optionsOf('adam', setting) as AdamOptions)),
};

export const adamw: Contender = {
  name: 'adamw',
  label: 'AdamW',
  family: 'first-order',
  space: { lr: adamLike(1e-3), weightDecay: decay(0.01) },
  make: (model, setting) =>
    new GradientTrainer(new AdamW(parametersOf(model), optionsOf('adamw', setting) as AdamOptions)),
};

export const nadamw: Contender = {
  name: 'nadamw',
  label: 'NAdamW',
  family: 'first-order',
  space: { lr: adamLike(2e-3), weightDecay: decay(0.01) },
  make: (model, setting) =>
    new GradientTrainer(new NAdamW(parametersOf(model), optionsOf('nadamw', setting) as NAdamWOptions)),
};

/** The rate may be larger than AdamW's, its authors say (Defazio et al. 2024, 1 to 10 times), and it wants no schedule. */
export const scheduleFree: Contender = {
  name: 'schedule-free',
  label: 'Schedule-free AdamW',
  family: 'first-order',
  space: { lr: adamLike(2.5e-3), weightDecay: decay(0) },
  make: (model, setting) =>
    new AveragedTrainer(
      new ScheduleFreeAdamW(parametersOf(model), optionsOf('schedule-free', setting) as ScheduleFreeOptions),
    ),
};

/**
 * Nesterov's momentum of .9 (Sutskever et al. 2013), unless a setting says otherwise. The default rate is that of residual networks (He et al. 2016, §4.2), with a
 * decade to each side; the L2 penalty none, or theirs, or five times that, as wide residual networks have (Zagoruyko & Komodakis 2016).
 */
export const sgd: Contender = {
  name: 'sgd',
  label: 'SGD with Nesterov momentum',
  family: 'first-order',
  space: {
    lr: decades(1e-2, 0.1),
    weightDecay: { scale: 'choice', choices: [0, 1e-4, 5e-4], default: 1e-4 },
  },
  make: (model, setting) =>
    new GradientTrainer(
      new SGD(parametersOf(model), { momentum: 0.9, nesterov: true, ...optionsOf('sgd', setting) } as SGDOptions),
    ),
};
