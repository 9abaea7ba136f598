/** A check that fails in a step, and clipping, on every device. */

import t from 'tap';
import { DEVICES } from './helpers/devices.ts';
import { clipLaws, faultLaws } from './suites/failures.ts';

for (const device of DEVICES) faultLaws(t, device);
clipLaws(t, DEVICES);
