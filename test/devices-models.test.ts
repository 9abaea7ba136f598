/** What programs do with models, on every device. */

import assert from 'node:assert/strict';
import t from 'tap';
import { DEVICES } from './helpers/devices.ts';
import { laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';
import { modelLaws } from './suites/models.ts';

modelLaws(t, DEVICES);

law(t, 'nothing of this asked for values at once', () => {
  assert.equal(laterDevice().instantReads, 0);
});
