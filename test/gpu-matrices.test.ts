/** Matrix optimizers on the device 'gpu', by the laws of all devices: Muon, which waits for nothing, and two that wait for the host. */

import { KLShampoo, Muon, SOAP } from '@otimes/optim';
import t from 'tap';
import { testNeeding } from './helpers/requires.ts';
import { type OptimizerCase, trainingLaws } from './suites/optimizers.ts';

const law = await testNeeding(t, 'gpu');

const matrices: readonly OptimizerCase[] = [
  { name: 'Muon', make: m => new Muon(m, { lr: 0.05 }) },
  { name: 'SOAP', make: m => new SOAP(m, { lr: 0.02, refreshEvery: 3 }) },
  { name: 'KLShampoo', make: m => new KLShampoo(m, { lr: 0.02, refreshEvery: 3 }) },
];
law('optimizers', inner => {
  for (const one of matrices) trainingLaws(inner, one, 'gpu');
});
