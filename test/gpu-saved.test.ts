/** What optimizers save, load, report and refuse on the device 'gpu', by the laws of all devices. */

import t from 'tap';
import { testNeeding } from './helpers/requires.ts';
import { clipLaws, faultLaws } from './suites/failures.ts';
import { refusedLaws } from './suites/refused.ts';
import { movedLaw, reportLaws, resumedLaws } from './suites/saved.ts';

const law = await testNeeding(t, 'gpu');

law('saved and reported', inner => {
  resumedLaws(inner, 'gpu', [4]);
  movedLaw(inner, ['cpu', 'gpu']);
  // STEVE magnifies rounding.
  reportLaws(inner, 'gpu', 5e-3);
});

law('refused', inner => {
  faultLaws(inner, 'gpu', 'in turn');
  // One of each kind.
  refusedLaws(inner, 'gpu', ['NAdam', 'EKFAC, batch', 'STEVE, resident, over NAdam', 'Muon', 'SOAP']);
  clipLaws(inner, ['gpu']);
});
