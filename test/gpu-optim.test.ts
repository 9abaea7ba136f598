/** Optimizers on the device 'gpu': what all of them promise, and that runs there are those of 'reference'. */

import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { law as held } from './helpers/law.ts';
import { testNeeding } from './helpers/requires.ts';
import { firstOrder, optimizerLaws } from './suites/optimizers.ts';
import { settings, trained } from './suites/settings.ts';

const law = await testNeeding(t, 'gpu');

law('optimizers', inner => {
  for (const one of firstOrder) optimizerLaws(inner, one, 'gpu');

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
