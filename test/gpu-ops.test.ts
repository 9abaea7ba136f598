/** Every operation on the device 'gpu', in every layout, by the laws of all devices. */

import t from 'tap';
import { testNeeding } from './helpers/requires.ts';
import { opsSuite } from './suites/opsLaws.ts';

const law = await testNeeding(t, 'gpu');
// Drawn less often than elsewhere: each read is a submit.
law('operations', inner =>
  opsSuite(inner, { device: 'gpu', dtypes: ['float32', 'int32'], runs: { values: 25, gradients: 6 } }),
);
