/** Doors of core's functions that make tensors like others, take them apart, put parts together and measure distances. */

import * as core from '@otimes/core';
import { Generator, ones } from '@otimes/core';
import type { Door } from './doors.ts';

const plain = (shape: readonly number[] = [2, 3]) => ones(shape);
const made = { dtype: 'float64', device: 'reference', requiresGrad: true };
const random = () => ({ ...made, rng: new Generator(1) });
const door = (call: Door['call'], ...args: unknown[]): Door => ({ call, args: () => args });

/** One that makes tensors: devices and gradients have messages of their own. */
const creation = (call: (...args: never[]) => unknown, ...args: unknown[]): Door => ({
  ...door(call, ...args),
  says: [call.name, 'device', 'requiresGrad'],
});

export const shapeDoors: Readonly<Record<string, Door>> = {
  broadcastTo: door(core.broadcastTo, plain(), [4, 2, 3]),
  cdist: door(core.cdist, plain(), plain(), { p: 2 }),
  chunk: door(core.chunk, plain(), 2, 1),
  cosineSimilarity: door(core.cosineSimilarity, plain(), plain(), 1, { eps: 1e-8 }),
  cross: door(core.cross, plain(), plain(), 1),
  diag: door(core.diag, plain(), 1),
  diagEmbed: door(core.diagEmbed, plain(), 1, 0, 1),
  diagonal: door(core.diagonal, plain(), 1, 0, 1),
  dot: door(core.dot, plain([3]), plain([3])),
  flip: door(core.flip, plain(), [0, 1]),
  fullLike: creation(core.fullLike, plain(), 2, made),
  interpolate: door(core.interpolate, ones([1, 2, 3, 4]), { size: [6, 2], mode: 'bilinear', alignCorners: true }),
  linspace: creation(core.linspace, 0, 1, 3, made),
  logspace: creation(core.logspace, 0, 1, 3, { ...made, base: 2 }),
  meshgrid: door(core.meshgrid, [plain([2]), plain([3])], { indexing: 'xy' }),
  movedim: door(core.movedim, plain(), [0, 1], [1, 0]),
  normalize: door(core.normalize, plain(), 1, { p: 2, eps: 1e-12 }),
  onesLike: creation(core.onesLike, plain(), made),
  outer: door(core.outer, plain([3]), plain([2])),
  pad: door(core.pad, plain(), [[1, 1]], { mode: 'replicate' }),
  pairwiseDistance: door(core.pairwiseDistance, plain(), plain(), { p: 2, eps: 1e-6, keepdim: true }),
  randLike: creation(core.randLike, plain(), random()),
  randnLike: creation(core.randnLike, plain(), random()),
  repeatInterleave: door(core.repeatInterleave, plain(), [1, 2, 0], 1),
  roll: door(core.roll, plain(), [1, 2], [0, 1]),
  split: door(core.split, plain(), [1, 2], 1),
  swapaxes: door(core.swapaxes, plain(), 0, 1),
  tile: door(core.tile, plain(), [2, 1, 2]),
  trace: door(core.trace, plain()),
  tril: door(core.tril, plain(), 1),
  triu: door(core.triu, plain(), 1),
  unbind: door(core.unbind, plain(), 1),
  zerosLike: creation(core.zerosLike, plain(), made),
};
