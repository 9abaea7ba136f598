/** The laws of optimizers on devices besides 'cpu'. */

import t from 'tap';
import { DEVICES } from './helpers/devices.ts';
import { family, three } from './helpers/routes.ts';
import { imageRoutesLaw, routesLaw } from './suites/device-routes.ts';
import { firstOrder, kronecker, optimizerLaws } from './suites/optimizers.ts';

for (const device of DEVICES)
  if (device !== 'cpu') {
    for (const one of [...firstOrder, ...kronecker]) optimizerLaws(t, one, device);
    for (const [name, make] of Object.entries(family)) routesLaw(t, name, make, device);
    for (const [name, make] of Object.entries(three)) imageRoutesLaw(t, name, make, device);
  }
