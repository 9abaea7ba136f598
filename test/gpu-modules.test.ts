/** Modules, losses and initialisers on the device 'gpu', by the laws of all devices. */

import t from 'tap';
import { testNeeding } from './helpers/requires.ts';
import { modulesSuite } from './suites/modulesLaws.ts';

const law = await testNeeding(t, 'gpu');
law('modules', inner => modulesSuite(inner, 'gpu'));
