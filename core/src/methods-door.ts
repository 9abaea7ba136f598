/**
 * @otimes/core/methods: a program that imports this module may write functions of a tensor as its methods, `x.tril(1)` for `tril(x, 1)`. All
 * of them are in its bundle then; without this import a bundle has those alone that the program calls.
 */

import { cdist, cosineSimilarity, cross, dot, normalize, outer, pairwiseDistance } from './ops/distance.ts';
import { interpolate } from './ops/interpolate.ts';
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
import { oneHot } from './ops/select.ts';
import { diag, diagEmbed, diagonal, trace, tril, triu } from './ops/triangles.ts';
import { TensorBase } from './tensor.ts';

/** Functions whose first argument is a tensor, by the names of their methods. */
const METHODS = {
  ...{ cdist, cosineSimilarity, cross, dot, normalize, outer, pairwiseDistance },
  ...{ interpolate, oneHot },
  ...{ broadcastTo, chunk, flip, movedim, repeatInterleave, roll, split, swapaxes, tile, unbind },
  ...{ diag, diagEmbed, diagonal, trace, tril, triu },
};

/** The function without its first argument. */
type Method<F> = F extends (x: never, ...rest: infer Rest) => infer Result ? (...rest: Rest) => Result : never;

/** What this module adds to Tensor. */
export type AddedMethods = { readonly [Name in keyof typeof METHODS]: Method<(typeof METHODS)[Name]> };

declare module './methods.ts' {
  interface Tensor extends AddedMethods {}
}

for (const [name, of] of Object.entries(METHODS))
  Object.defineProperty(TensorBase.prototype, name, {
    value(this: unknown, ...rest: unknown[]): unknown {
      return Reflect.apply(of, undefined, [this, ...rest]);
    },
    writable: true,
    configurable: true,
  });
