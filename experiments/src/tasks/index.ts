/** All tasks. */

import type { Task } from '../experiment.ts';
import { autoencoder } from './autoencoder.ts';
import { chars } from './chars.ts';
import { cifar10, cifar100, tinyImageNet } from './cifar.ts';
import { digits } from './digits.ts';
import { fashion } from './fashion.ts';
import { pinnPoisson } from './pinn-poisson.ts';

export const TASKS: readonly Task[] = [
  ...[digits, fashion, cifar10, cifar100, tinyImageNet],
  ...[chars, pinnPoisson, autoencoder],
];
