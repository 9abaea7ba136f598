/** The options that KFAC, EKFAC and STEVE share. */

import {
  aBoolean,
  aCount,
  aFunction,
  aNumber,
  checkArgument,
  checkOptions,
  checkRange,
  isPlainObject,
  type Kind,
  type OptionKinds,
  oneOf,
  orNull,
} from '@otimes/core/extend';
import type { Parameter } from '@otimes/nn';
import { checkKnown, checkLr } from '../check.ts';
import type { BasisTracker, Eigensolver } from '../curvature/basis.ts';
import { aSharing, CURVATURE_OPTIONS, type CurvatureOptions, checkFisher } from '../curvature/options.ts';
import { checkLag } from '../curvature/refresh.ts';
import { ROUTES, type Route } from '../curvature/routes/route.ts';
import { aStructure, checkBlockDim, type StructureOptions } from '../curvature/structure.ts';
import type { Optimizer } from '../optimizer.ts';
import type { Overrides } from './overrides.ts';
import type { BlockOptions } from './state.ts';

export type { AnyModule, Parameter } from '@otimes/nn';

/** Options that KFAC, EKFAC and STEVE share. */
export type KroneckerOptions = CurvatureOptions &
  StructureOptions & {
    /**
     * Seconds that the eigendecompositions of a refresh may take by the rule of structure 'auto': n³ of all matrices over 1.5e9, which is
     * one core of 2020. Default 2.
     */
    refreshBudget?: number;
    /** Learning rate. Of parameters whose values are read with await at most 1e30, more is an error in the step. */
    lr?: number;
    /** Decoupled: parameters shrink by lr · weightDecay a step. Default 0. */
    weightDecay?: number;
    /** The eigenbasis is recomputed every so many steps, the first included. Default 10. */
    refreshEvery?: number;
    /**
     * 'sync': within the step. 'background': in workers while training goes on in the old basis; the first basis is computed at
     * once. A decomposition that fails leaves the old basis, warns, and is counted in `report()`. Default 'auto': in the background where a
     * refresh takes longer than most steps, Σ n³ of the factors above 3e8, which is some 0.1 to 0.2 s on a
     * core. It is 'sync' with an `eigensolver`, with several processes, on devices that are read with await, and for `refreshEvery: 1`.
     * `optimizer.refresh` says which.
     */
    refresh?: 'auto' | 'sync' | 'background';
    /**
     * In the background: the new basis takes over exactly so many steps after its factors were copied, waiting for it where it
     * is late. Runs then repeat bit for bit. null: as soon as all are there that were begun on one step. Default: null with
     * 'background', and half of `refreshEvery` with 'auto'.
     */
    refreshLag?: number | null;
    /**
     * A block whose factors are still diagonal in its old basis, but for this share of them in the Frobenius norm, keeps its eigenvectors
     * when a refresh is due and gets new eigenvalues, for a tenth of the cost. In [0, 1). Default 0: all are decomposed. In float32 what
     * lies below 3e-4 is rounding. Not with several processes, a tracker as `eigensolver`, or a device that is read with await.
     */
    refreshThreshold?: number;
    /** Blocks refresh on different steps, spread over the period, so that no step bears them all. Default false. */
    stagger?: boolean;
    /** α, the weight of the OLD running average of the factors; 0 takes the current batch alone. Default 0.9. */
    factorDecay?: number;
    /**
     * The factors, and EKFAC's second moments, are updated every so many steps, and on steps that refresh. Default 1; of STEVE
     * `refreshEvery` where structure 'auto' has structured a factor, as the line that says so tells.
     */
    factorEvery?: number;
    /** Options of blocks, by their path or that of a module above them; the longest path that fits counts. Undefined is none. */
    overrides?: Overrides<BlockOptions>;
    /**
     * Which way gradients take into the basis: 'auto' (default) is the cheapest for each block; see `Route`. A block for which
     * the way does not exist takes 'gradient'.
     */
    route?: Route | 'auto';
    /** The optimizer of the parameters that no collector claims. */
    rest?: (unclaimed: Parameter[]) => Optimizer;
    /**
     * Decomposes the factors. Default: `eigh` of @otimes/linalg, float64 inside. Or follows the bases where the factors are, without
     * a wait: `subspaceIteration()`, for large factors on a GPU. Not with 'background'.
     */
    eigensolver?: Eigensolver | BasisTracker;
  };

/** A number, or false for none. */
export const aNumberOrFalse: Kind = { expected: 'a number or false', is: v => v === false || aNumber.is(v) };

const anObject: Kind = { expected: "an object such as { 'layers.0': { lr: 0.1 } }", is: isPlainObject };
/**
 * What each option of `KroneckerOptions` must be, for the table of an optimizer that has these and its own:
 * `checkOptions('Mine', o, { ...KRONECKER_OPTIONS, momentum: aNumber })` with `checkOptions` of '@otimes/core/extend' refuses all others.
 * The base checks these again, and their ranges.
 */
export const KRONECKER_OPTIONS: OptionKinds<KroneckerOptions> = {
  ...CURVATURE_OPTIONS,
  structure: aStructure,
  blockDim: aNumber,
  refreshBudget: aNumber,
  lr: aNumber,
  weightDecay: aNumber,
  refreshEvery: aNumber,
  refresh: oneOf('auto', 'sync', 'background'),
  refreshLag: orNull(aNumber),
  refreshThreshold: aNumber,
  stagger: aBoolean,
  factorDecay: aNumber,
  factorEvery: aNumber,
  overrides: anObject,
  route: oneOf('auto', ...ROUTES),
  rest: aFunction,
  eigensolver: {
    expected: 'a function, or a tracker such as subspaceIteration()',
    is: v => aFunction.is(v) || (typeof v === 'object' && v !== null && aFunction.is(Reflect.get(v, 'follow'))),
  },
};

const BLOCK_OPTIONS: OptionKinds<BlockOptions> = {
  lr: aNumber,
  sharing: aSharing,
  structure: aStructure,
  blockDim: aNumber,
  skip: aBoolean,
};

/** Throws for values of another kind or out of range. Options that it does not know are left to who does. */
export function checkKroneckerOptions(name: string, o: KroneckerOptions): void {
  checkKnown(name, o, KRONECKER_OPTIONS);
  if (o.lr !== undefined) checkLr(name, o.lr);
  if (o.weightDecay !== undefined) checkRange(name, 'weightDecay', o.weightDecay, 0, Infinity);
  if (o.refreshBudget !== undefined) checkRange(name, 'refreshBudget', o.refreshBudget, 0, Infinity);
  if (o.factorDecay !== undefined) checkRange(name, 'factorDecay', o.factorDecay, 0, 1);
  for (const count of ['refreshEvery', 'factorEvery', 'maxFactorDim', 'refreshLag', 'blockDim'] as const)
    if (o[count] != null) checkArgument(name, count, o[count], aCount);
  checkFisher(name, o);
  if (o.refreshLag != null && o.refresh !== 'background')
    throw new TypeError(`${name}: refreshLag needs refresh: 'background'`);
  if (o.refreshLag != null) checkLag(name, o.refreshLag, o.refreshEvery ?? 10);
  if (o.refresh === 'background' && o.eigensolver !== undefined)
    throw new TypeError(`${name}: refresh: 'background' decomposes in a worker, where no eigensolver of yours can go`);
  if (o.refresh === 'background' && (o.communicator?.size ?? 1) > 1)
    throw new TypeError(
      `${name}: refresh: 'background' is for a process that trains alone: where a worker fails in one of several, that one would ` +
        'keep another basis than the others. The processes share the decompositions of a step as it is',
    );
  checkThreshold(name, o);
  for (const [path, own] of Object.entries(o.overrides ?? {})) {
    const where = `${name}: overrides['${path}']`;
    checkOptions<BlockOptions>(where, own, BLOCK_OPTIONS);
    if (own?.lr !== undefined) checkLr(where, own.lr);
    checkBlockDim(where, own?.blockDim);
  }
}

function checkThreshold(name: string, { refreshThreshold = 0, eigensolver, communicator }: KroneckerOptions): void {
  if (!(refreshThreshold >= 0 && refreshThreshold < 1))
    throw new RangeError(`${name}: expected refreshThreshold in [0, 1), got ${refreshThreshold}`);
  if (refreshThreshold > 0 && typeof eigensolver === 'object')
    throw new TypeError(
      `${name}: refreshThreshold is for bases that are decomposed, and an eigensolver that follows them always does`,
    );
  if (refreshThreshold > 0 && (communicator?.size ?? 1) > 1)
    throw new TypeError(
      `${name}: refreshThreshold is for a process that trains alone, which decides by its own numbers`,
    );
}
