/** First-order and matrix optimizers on the device 'gpu', by the laws of all devices. */

import { Muon } from '@otimes/optim';
import t from 'tap';
import { testNeeding } from './helpers/requires.ts';
import { firstOrder, trainingLaws } from './suites/optimizers.ts';

const law = await testNeeding(t, 'gpu');

law('optimizers', inner => {
  const muon = { name: 'Muon', make: m => new Muon(m, { lr: 0.05 }) } satisfies (typeof firstOrder)[number];
  for (const one of [...firstOrder, muon]) trainingLaws(inner, one, 'gpu');
});
