/** The options that KFAC, EKFAC and STEVE share. */

import { Generator } from '@otimes/core';
import {
  aBoolean,
  aCount,
  aFunction,
  aNumber,
  checkArgument,
  checkOptions,
  isPlainObject,
  type Kind,
  type OptionKinds,
  oneOf,
  orNull,
} from '@otimes/core/extend';
import type { Parameter } from '@otimes/nn';
import { checkLr, checkRange } from '../check.ts';
import type { Eigensolver } from '../curvature/basis.ts';
import type { Sharing } from '../curvature/block.ts';
import type { Collector } from '../curvature/collector.ts';
import type { LossReduction } from '../curvature/factors.ts';
import { ROUTES, type Route } from '../curvature/routes/route.ts';
import type { FisherKind, FisherLoss } from '../curvature/sources/fisher.ts';
import type { Optimizer } from '../optimizer.ts';
import type { Overrides } from './overrides.ts';
import type { BlockOptions } from './state.ts';

export type { AnyModule, Parameter } from '@otimes/nn';

/** Options that KFAC, EKFAC and STEVE share. */
export type KroneckerOptions = {
  /** Learning rate. */
  lr?: number;
  /** Decoupled: parameters shrink by lr · weightDecay a step. Default 0. */
  weightDecay?: number;
  /** The eigenbasis is recomputed every so many steps, the first included. Default 10. */
  refreshEvery?: number;
  /**
   * 'sync' (default): within the step. 'background': in a worker while training goes on in the old basis; the first basis is
   * computed at once. A decomposition that fails leaves the old basis, warns, and is counted in `report()`.
   */
  refresh?: 'sync' | 'background';
  /**
   * With 'background': the new basis takes over exactly so many steps after its factors were copied, waiting for it where it
   * is late. Runs then repeat bit for bit. Default null: as soon as all are there that were begun on one step.
   */
  refreshLag?: number | null;
  /** Blocks refresh on different steps, spread over the period, so that no step bears them all. Default false. */
  stagger?: boolean;
  /** α, the weight of the OLD running average of the factors; 0 takes the current batch alone. Default 0.9. */
  factorDecay?: number;
  /** The factors, and EKFAC's second moments, are updated every so many steps, and on steps that refresh. Default 1. */
  factorEvery?: number;
  /**
   * A side of a block that is larger than this is left at the identity, times its mean eigenvalue (as SOAP does, Vyas et al.
   * 2025); `describe()` says where. Default: none is.
   */
  maxFactorDim?: number;
  /** How shared positions enter the factors; by default the collector decides ('expand' for Linear). */
  sharing?: Sharing;
  /** Options of blocks, by their path or that of a module above them; the longest path that fits counts. Undefined is none. */
  overrides?: Overrides<BlockOptions>;
  /**
   * Which way gradients take into the basis: 'auto' (default) is the cheapest for each block; see `Route`. A block for which
   * the way does not exist takes 'gradient'.
   */
  route?: Route | 'auto';
  /** Which Fisher the factors estimate. Default 'empirical'; the other two need `loss`. */
  fisher?: FisherKind;
  /** The loss, for 'sampled' and 'ggn'. */
  loss?: FisherLoss;
  /** Whether the loss is the mean over the batch (default) or its sum. The step is the same for both. */
  lossReduction?: LossReduction;
  /** Which layers are preconditioned, and how. Default `defaultCollectors`. */
  collectors?: readonly Collector[];
  /** The optimizer of the parameters that no collector claims. */
  rest?: (unclaimed: Parameter[]) => Optimizer;
  /** Decomposes the factors. Default: `eigh` of @otimes/linalg, float64 inside. Not with 'background'. */
  eigensolver?: Eigensolver;
  /** Draws labels for fisher 'sampled'. Default: a generator with seed 0. */
  rng?: Generator;
};

/** A number, or false for none. */
export const aNumberOrFalse: Kind = { expected: 'a number or false', is: v => v === false || aNumber.is(v) };

const anObject: Kind = { expected: "an object such as { 'layers.0': { lr: 0.1 } }", is: isPlainObject };
const aList: Kind = {
  expected: 'a list of collectors',
  is: v => Array.isArray(v) && v.every(one => typeof one?.collect === 'function'),
};
const sharing = oneOf('expand', 'reduce');

/** What each option must be; ranges are `checkKroneckerOptions`'. */
export const KRONECKER_OPTIONS: OptionKinds<KroneckerOptions> = {
  lr: aNumber,
  weightDecay: aNumber,
  refreshEvery: aNumber,
  refresh: oneOf('sync', 'background'),
  refreshLag: orNull(aNumber),
  stagger: aBoolean,
  factorDecay: aNumber,
  factorEvery: aNumber,
  maxFactorDim: aNumber,
  sharing,
  overrides: anObject,
  route: oneOf('auto', ...ROUTES),
  fisher: oneOf('empirical', 'sampled', 'ggn'),
  loss: oneOf('crossEntropy', 'mse'),
  lossReduction: oneOf('mean', 'sum'),
  collectors: aList,
  rest: aFunction,
  eigensolver: aFunction,
  rng: { expected: 'a Generator', is: v => v instanceof Generator },
};

const BLOCK_OPTIONS: OptionKinds<BlockOptions> = { lr: aNumber, sharing, skip: aBoolean };

/** Throws for values out of range. */
export function checkKroneckerOptions(name: string, o: KroneckerOptions): void {
  if (o.lr !== undefined) checkLr(name, o.lr);
  if (o.weightDecay !== undefined) checkRange(name, 'weightDecay', o.weightDecay, 0, Infinity);
  if (o.factorDecay !== undefined) checkRange(name, 'factorDecay', o.factorDecay, 0, 1);
  for (const count of ['refreshEvery', 'factorEvery', 'maxFactorDim', 'refreshLag'] as const)
    if (o[count] != null) checkArgument(name, count, o[count], aCount);
  if (o.fisher !== undefined && o.fisher !== 'empirical' && o.loss === undefined)
    throw new TypeError(
      `${name}: fisher '${o.fisher}' needs the option loss: 'crossEntropy' or 'mse', to know the predictive distribution`,
    );
  if (o.refreshLag != null && o.refresh !== 'background')
    throw new TypeError(`${name}: refreshLag needs refresh: 'background'`);
  if (o.refreshLag != null) checkLag(name, o.refreshLag, o.refreshEvery ?? 10);
  if (o.refresh === 'background' && o.eigensolver !== undefined)
    throw new TypeError(`${name}: refresh: 'background' decomposes in a worker, where no eigensolver of yours can go`);
  for (const [path, own] of Object.entries(o.overrides ?? {})) {
    const where = `${name}: overrides['${path}']`;
    checkOptions<BlockOptions>(where, own, BLOCK_OPTIONS);
    if (own?.lr !== undefined) checkLr(where, own.lr);
  }
}

/** Throws unless a basis has taken over before the next one begins. */
export function checkLag(name: string, lag: number, every: number): void {
  if (lag > every) throw new RangeError(`${name}: expected refreshLag ≤ refreshEvery, got ${lag} > ${every}`);
}
