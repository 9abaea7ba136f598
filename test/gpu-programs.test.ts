/** What programs do with data, models, curvature and several processes on the device 'gpu', by the laws of all devices. */

import t from 'tap';
import { testNeeding } from './helpers/requires.ts';
import { estimateLaw, operatorLaw } from './suites/curvature.ts';
import { dataLaws } from './suites/data.ts';
import { modelLaws } from './suites/models.ts';
import { averageLaw, hooksLaw } from './suites/programs.ts';

const law = await testNeeding(t, 'gpu');

law('programs', inner => {
  dataLaws(inner, ['cpu', 'gpu'], 'gpu');
  modelLaws(inner, ['cpu', 'gpu']);
  operatorLaw(inner, 'gpu', 'float32');
  estimateLaw(inner, 'gpu');
  averageLaw(inner, 'gpu');
  hooksLaw(inner, 'gpu');
});
