/** Functions of core that take functions of tensors, with wrong arguments of every kind. */

import * as core from '@otimes/core';
import { ones, type Tensor } from '@otimes/core';
import t from 'tap';
import { checkDoors, type Door } from './helpers/doors.ts';

const x = () => ones([3]);
const o = { createGraph: true, strict: true };
const squares = (a: Tensor) => a.square();
const total = (a: Tensor) => a.square().sum();
const door = (call: Door['call'], ...args: unknown[]): Door => ({ call, args: () => args, says: call.name });

const DOORS: Record<string, Door> = {
  checkpoint: {
    ...door(core.checkpoint, squares, ones([3], { requiresGrad: true })),
    says: ['checkpoint', 'square'],
    skip: { 1: "fn's own argument" },
  },
  hessian: door(core.hessian, total, x(), o),
  hessianVectorProduct: door(core.hessianVectorProduct, total, x(), x(), o),
  jacobian: door(core.jacobian, squares, x(), o),
  jvp: door(core.jvp, squares, x(), x(), o),
  vjp: door(core.vjp, squares, x(), x(), o),
};

checkDoors(t, 'transforms', Object.keys(DOORS), DOORS);
