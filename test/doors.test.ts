/** Every public function and method of core and linalg, with wrong arguments of every kind. */

import { ones, type Tensor } from '@otimes/core';
import t from 'tap';
import { checkDoors, type Door } from './helpers/doors.ts';

const x = () => ones([2, 3], { requiresGrad: true });
const method = (name: keyof Tensor, ...args: unknown[]): Door => ({
  call: (...given: never[]) => (x()[name] as (...a: never[]) => unknown)(...given),
  args: () => args,
});

checkDoors(t, 'Tensor', ['add'], { add: method('add', 1) });
