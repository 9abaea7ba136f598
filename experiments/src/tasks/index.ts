/** All tasks. */

import type { Task } from '../experiment.ts';
import { autoencoder } from './autoencoder.ts';
import { chars } from './chars.ts';
import { digits } from './digits.ts';
import { fashion } from './fashion.ts';
import { pinnPoisson } from './pinn-poisson.ts';

export const TASKS: readonly Task[] = [digits, fashion, chars, pinnPoisson, autoencoder];
