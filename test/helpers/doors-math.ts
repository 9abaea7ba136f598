/** Doors of the functions of core that have no method: elementwise ones, orders, selections, scatters and samples. */

import * as core from '@otimes/core';
import { Generator, ones, tensor } from '@otimes/core';
import type { Door } from './doors.ts';

const door = (call: Door['call'], ...args: unknown[]): Door => ({ call, args: () => args });
const x = () => ones([2, 3]);
const mask = () => ones([2, 3], { dtype: 'bool' });
const index = (...values: number[]) => tensor(values, { dtype: 'int32' });
const places = () => tensor([[0, 0, 1]], { dtype: 'int32' });
const weights = () => ones([5]);
const closeness = { rtol: 1e-5, atol: 1e-8, equalNan: true };

export const mathDoors: Readonly<Record<string, Door>> = {
  allClose: door(core.allClose, x(), x(), closeness),
  allCloseAsync: door(core.allCloseAsync, x(), x(), closeness),
  argsort: door(core.argsort, x(), 0, { descending: true, stable: true }),
  atan2: door(core.atan2, x(), x()),
  bernoulli: door(core.bernoulli, x(), { rng: new Generator(1) }),
  booleanMask: door(core.booleanMask, x(), ones([2], { dtype: 'bool' })),
  booleanMaskAsync: door(core.booleanMaskAsync, x(), ones([2], { dtype: 'bool' })),
  cosh: door(core.cosh, x()),
  cumprod: door(core.cumprod, x(), 0),
  elu: door(core.elu, x(), 1),
  equal: door(core.equal, x(), x()),
  equalAsync: door(core.equalAsync, x(), x()),
  indexAdd: door(core.indexAdd, x(), 0, index(0, 1), x(), 2),
  indexCopy: door(core.indexCopy, x(), 0, index(0, 1), x()),
  indexFill: door(core.indexFill, x(), 0, index(0, 1), 2),
  isClose: door(core.isClose, x(), x(), closeness),
  isInf: door(core.isInf, x()),
  leakyRelu: door(core.leakyRelu, x(), 0.1),
  log2: door(core.log2, x()),
  log10: door(core.log10, x()),
  logSigmoid: door(core.logSigmoid, x()),
  logsumexp: door(core.logsumexp, x(), [0, 1], { keepdim: true }),
  maskedFill: door(core.maskedFill, x(), mask(), 1),
  maskedSelect: door(core.maskedSelect, x(), mask()),
  maskedSelectAsync: door(core.maskedSelectAsync, x(), mask()),
  mish: door(core.mish, x()),
  multinomial: door(core.multinomial, weights(), 2, { replacement: false, rng: new Generator(1) }),
  multinomialAsync: door(core.multinomialAsync, weights(), 2, { replacement: false, rng: new Generator(1) }),
  nonzero: door(core.nonzero, x()),
  nonzeroAsync: door(core.nonzeroAsync, x()),
  prod: door(core.prod, x(), [0, 1], { keepdim: true }),
  remainder: door(core.remainder, x(), x()),
  scatter: door(core.scatter, x(), 0, places(), x()),
  scatterAdd: door(core.scatterAdd, x(), 0, places(), x()),
  scatterMax: door(core.scatterMax, x(), 0, places(), x()),
  selu: door(core.selu, x()),
  silu: door(core.silu, x()),
  sinh: door(core.sinh, x()),
  softplus: door(core.softplus, x(), { beta: 1, threshold: 20 }),
  sort: door(core.sort, x(), 0, { descending: true, stable: true }),
  std: door(core.std, x(), 0, { keepdim: true, correction: 0 }),
  tan: door(core.tan, x()),
  topk: door(core.topk, x(), 2, 1, { largest: true, sorted: true }),
  unique: door(core.unique, x(), { returnInverse: true, returnCounts: true }),
  uniqueAsync: door(core.uniqueAsync, x(), { returnInverse: true, returnCounts: true }),
};
