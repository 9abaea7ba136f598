/** First-order and matrix optimizers on the device 'gpu', by the laws of all devices. */

import { KLShampoo, Muon, SOAP } from '@otimes/optim';
import t from 'tap';
import { testNeeding } from './helpers/requires.ts';
import { firstOrder, trainingLaws } from './suites/optimizers.ts';

const law = await testNeeding(t, 'gpu');

law('optimizers', inner => {
  const matrices: typeof firstOrder = [
    { name: 'Muon', make: m => new Muon(m, { lr: 0.05 }) },
    { name: 'SOAP', make: m => new SOAP(m, { lr: 0.02, refreshEvery: 3 }) },
    { name: 'KLShampoo', make: m => new KLShampoo(m, { lr: 0.02, refreshEvery: 3 }) },
  ];
  for (const one of [...firstOrder, ...matrices]) trainingLaws(inner, one, 'gpu');
});
