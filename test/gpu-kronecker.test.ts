/** Kronecker optimizers on the device 'gpu': the laws of all devices, and every option in a run that is that of 'reference'. */

import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { structures } from './helpers/image-runs.ts';
import { law as held } from './helpers/law.ts';
import { testNeeding } from './helpers/requires.ts';
import { three } from './helpers/routes.ts';
import { imageRoutesLaw, routesLaw } from './suites/device-routes.ts';
import { kronecker, trainingLaws } from './suites/optimizers.ts';
import { settings, trained } from './suites/settings.ts';

const law = await testNeeding(t, 'gpu');

law('optimizers', inner => {
  for (const one of kronecker) trainingLaws(inner, one, 'gpu');
  // Structures of convolutions go with optimizers in turn.
  for (const [i, [name, make]] of Object.entries(three).entries()) {
    routesLaw(inner, name, make, 'gpu');
    imageRoutesLaw(inner, name, make, 'gpu', [Object.keys(structures)[i]!]);
  }
});

law('options', inner => {
  // Two refreshes, and steps between them.
  for (const [name, setting] of Object.entries(settings))
    held(inner, `${name}: a run is that of 'reference'`, async () => {
      const [run, expected] = [await trained('gpu', setting, 5), await trained('reference', setting, 5)];
      const rtol = setting.rounding ? 0.05 : 2e-5;
      mustBeClose([...run.losses], [...expected.losses], { rtol, atol: 0 }, 'losses');
      if (setting.rounding || setting.unordered) return;
      mustBeClose(await run.parameters(), await expected.parameters(), { rtol, atol: rtol }, 'parameters');
    });
});
