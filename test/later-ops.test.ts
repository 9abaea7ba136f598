/** Every operation on 'later': the laws of `core-ops.test.ts`, where no value can be had at once. */

import assert from 'node:assert/strict';
import t from 'tap';
import { laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';
import { opsSuite } from './suites/opsLaws.ts';

const later = laterDevice();

// The kernels are the reference's, which has all the uses: fewer will do to see that nothing asks for values too early.
opsSuite(t, { device: later.device, runs: { values: 50, gradients: 15, second: 6 } });

law(t, 'no operation, gradient or second gradient asked for values at once', () => {
  assert.equal(later.instantReads, 0);
});
