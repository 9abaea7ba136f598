/** First-order optimizers on the device 'gpu', by the laws of all devices. */

import t from 'tap';
import { testNeeding } from './helpers/requires.ts';
import { firstOrder, trainingLaws } from './suites/optimizers.ts';

const law = await testNeeding(t, 'gpu');

law('optimizers', inner => {
  for (const one of firstOrder) trainingLaws(inner, one, 'gpu');
});
