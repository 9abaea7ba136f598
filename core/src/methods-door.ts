/**
 * @otimes/core/methods: a program that imports this module may write functions of a tensor as its methods, `x.tril(1)` for `tril(x, 1)`. All
 * of them are in its bundle then; without this import a bundle has those alone that the program calls.
 */

import type { Tensor } from './methods.ts';
import { elu, leakyRelu, logSigmoid, mish, selu, silu, softplus } from './ops/activations.ts';
import { atan2, remainder } from './ops/angles.ts';
import { allClose, allCloseAsync, equal, equalAsync, isClose, isInf, maskedFill } from './ops/compare.ts';
import { conv2d } from './ops/conv.ts';
import { convTranspose2d } from './ops/conv-transpose.ts';
import { conv1d, convTranspose1d } from './ops/conv1d.ts';
import { conv3d } from './ops/conv3d.ts';
import { cdist, cosineSimilarity, cross, dot, normalize, outer, pairwiseDistance } from './ops/distance.ts';
import {
  booleanMask,
  booleanMaskAsync,
  maskedSelect,
  maskedSelectAsync,
  nonzero,
  nonzeroAsync,
  unique,
  uniqueAsync,
} from './ops/found.ts';
import { cosh, log2, log10, sinh, tan } from './ops/functions.ts';
import { interpolate } from './ops/interpolate.ts';
import { argsort, sort, topk } from './ops/order.ts';
import {
  broadcastTo,
  chunk,
  flip,
  movedim,
  repeatInterleave,
  roll,
  split,
  swapaxes,
  tile,
  unbind,
} from './ops/parts.ts';
import { avgPool2d, globalAvgPool2d, maxPool2d } from './ops/pool.ts';
import {
  adaptiveAvgPool1d,
  adaptiveAvgPool2d,
  adaptiveMaxPool1d,
  adaptiveMaxPool2d,
  avgPool1d,
  avgPool3d,
  maxPool1d,
  maxPool3d,
} from './ops/pools.ts';
import { cumprod, logsumexp, prod, std } from './ops/products.ts';
import { indexAdd, indexCopy, indexFill, scatter, scatterAdd, scatterMax } from './ops/scatter.ts';
import { oneHot } from './ops/select.ts';
import { diag, diagEmbed, diagonal, trace, tril, triu } from './ops/triangles.ts';
import { bernoulli, multinomial, multinomialAsync } from './sampling.ts';
import { TensorBase } from './tensor.ts';

/** Functions whose first argument is a tensor, by the names of their methods. */
const METHODS = {
  ...{ cosh, log2, log10, sinh, tan, atan2, remainder },
  ...{ elu, leakyRelu, logSigmoid, mish, selu, silu, softplus },
  ...{ allClose, allCloseAsync, equal, equalAsync, isClose, isInf, maskedFill },
  ...{ cumprod, logsumexp, prod, std },
  ...{ argsort, sort, topk },
  ...{ indexAdd, indexCopy, indexFill, scatter, scatterAdd, scatterMax },
  ...{ booleanMask, booleanMaskAsync, maskedSelect, maskedSelectAsync, nonzero, nonzeroAsync, unique, uniqueAsync },
  ...{ bernoulli, multinomial, multinomialAsync },
  ...{ cdist, cosineSimilarity, cross, dot, normalize, outer, pairwiseDistance },
  ...{ interpolate, oneHot },
  ...{ conv1d, conv2d, conv3d, convTranspose1d, convTranspose2d },
  ...{ avgPool1d, avgPool2d, avgPool3d, maxPool1d, maxPool2d, maxPool3d, globalAvgPool2d },
  ...{ adaptiveAvgPool1d, adaptiveAvgPool2d, adaptiveMaxPool1d, adaptiveMaxPool2d },
  ...{ broadcastTo, chunk, flip, movedim, repeatInterleave, roll, split, swapaxes, tile, unbind },
  ...{ diag, diagEmbed, diagonal, trace, tril, triu },
};

/** The function without its first argument. */
type Method<F> = F extends (x: Tensor, ...rest: infer Rest) => infer Result ? (...rest: Rest) => Result : never;

/** What this module adds to Tensor. */
export type AddedMethods = { readonly [Name in keyof typeof METHODS]: Method<(typeof METHODS)[Name]> };

declare module './methods.ts' {
  interface Tensor extends AddedMethods {}
}

for (const [name, of] of Object.entries(METHODS))
  Object.defineProperty(TensorBase.prototype, name, {
    value(this: Tensor, ...rest: unknown[]): unknown {
      return Reflect.apply(of, undefined, [this, ...rest]);
    },
    writable: true,
    configurable: true,
  });
