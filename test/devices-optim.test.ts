/** The laws of optimizers on devices besides 'cpu'. */

import { EKFAC, KFAC, STEVE } from '@otimes/optim';
import t from 'tap';
import { DEVICES } from './helpers/devices.ts';
import { firstOrder, type OptimizerCase, optimizerLaws } from './suites/optimizers.ts';

const kronecker: readonly OptimizerCase[] = [
  { name: 'KFAC', make: m => new KFAC(m, { lr: 0.1, refreshEvery: 3, momentum: 0.5 }) },
  { name: 'EKFAC', make: m => new EKFAC(m, { lr: 0.1, refreshEvery: 3 }) },
  { name: 'STEVE', make: m => new STEVE(m, { lr: 0.05, refreshEvery: 3 }) },
];

for (const device of DEVICES.filter(device => device !== 'cpu'))
  for (const one of [...firstOrder, ...kronecker]) optimizerLaws(t, one, device);
