/** Doors of the functions of core that have no method: elementwise ones, orders, selections, scatters and samples. */

import * as core from '@otimes/core';
import { ones } from '@otimes/core';
import type { Door } from './doors.ts';

const door = (call: Door['call'], ...args: unknown[]): Door => ({ call, args: () => args });
const x = () => ones([2, 3]);
const mask = () => ones([2, 3], { dtype: 'bool' });
const closeness = { rtol: 1e-5, atol: 1e-8, equalNan: true };

export const mathDoors: Readonly<Record<string, Door>> = {
  allClose: door(core.allClose, x(), x(), closeness),
  allCloseAsync: door(core.allCloseAsync, x(), x(), closeness),
  argsort: door(core.argsort, x(), 0, { descending: true, stable: true }),
  atan2: door(core.atan2, x(), x()),
  cosh: door(core.cosh, x()),
  cumprod: door(core.cumprod, x(), 0),
  elu: door(core.elu, x(), 1),
  equal: door(core.equal, x(), x()),
  equalAsync: door(core.equalAsync, x(), x()),
  isClose: door(core.isClose, x(), x(), closeness),
  isInf: door(core.isInf, x()),
  leakyRelu: door(core.leakyRelu, x(), 0.1),
  log2: door(core.log2, x()),
  log10: door(core.log10, x()),
  logSigmoid: door(core.logSigmoid, x()),
  logsumexp: door(core.logsumexp, x(), [0, 1], { keepdim: true }),
  maskedFill: door(core.maskedFill, x(), mask(), 1),
  mish: door(core.mish, x()),
  prod: door(core.prod, x(), [0, 1], { keepdim: true }),
  remainder: door(core.remainder, x(), x()),
  selu: door(core.selu, x()),
  silu: door(core.silu, x()),
  sinh: door(core.sinh, x()),
  softplus: door(core.softplus, x(), { beta: 1, threshold: 20 }),
  sort: door(core.sort, x(), 0, { descending: true, stable: true }),
  std: door(core.std, x(), 0, { keepdim: true, correction: 0 }),
  tan: door(core.tan, x()),
  topk: door(core.topk, x(), 2, 1, { largest: true, sorted: true }),
};
