/** The options that KFAC, EKFAC and STEVE share. */

import type { Generator } from '@otimes/core';
import type { Parameter } from '@otimes/nn';
import { checkChoice, checkLr, checkRange } from '../check.ts';
import type { Optimizer } from '../optimizer.ts';
import type { Sharing } from './block.ts';
import type { Collector } from './collector.ts';
import type { LossReduction } from './factors.ts';
import type { FisherKind, FisherLoss } from './fisher.ts';
import type { Eigensolver } from './kfe.ts';

export type { AnyModule, Parameter } from '@otimes/nn';

/** Options that KFAC, EKFAC and STEVE share. */
export type KroneckerOptions = {
  /** Learning rate. */
  lr?: number;
  /** Decoupled: parameters shrink by lr · weightDecay a step. Default 0. */
  weightDecay?: number;
  /** The eigenbasis is recomputed every so many steps, the first included. Default 10. */
  refreshEvery?: number;
  /** α, the weight of the OLD running average of the factors; 0 takes the current batch alone. Default 0.9. */
  factorDecay?: number;
  /** The factors are updated every so many steps, and on steps that refresh. Default 1. */
  factorEvery?: number;
  /** How shared positions enter the factors; by default the collector decides ('expand' for Linear). */
  sharing?: Sharing;
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
  /** Decomposes the factors. Default: `eigh` of @otimes/linalg, float64 inside. */
  eigensolver?: Eigensolver;
  /** Draws labels for fisher 'sampled'. Default: a generator with seed 0. */
  rng?: Generator;
};

/** The names of these options, to tell a misspelt one. */
export const KRONECKER_OPTIONS = {
  lr: true,
  weightDecay: true,
  refreshEvery: true,
  factorDecay: true,
  factorEvery: true,
  sharing: true,
  fisher: true,
  loss: true,
  lossReduction: true,
  collectors: true,
  rest: true,
  eigensolver: true,
  rng: true,
} satisfies Record<keyof KroneckerOptions, true>;

/** Throws for values out of range. */
export function checkKroneckerOptions(name: string, o: KroneckerOptions): void {
  if (o.lr !== undefined) checkLr(name, o.lr);
  if (o.weightDecay !== undefined) checkRange(name, 'weightDecay', o.weightDecay, 0, Infinity);
  if (o.factorDecay !== undefined) checkRange(name, 'factorDecay', o.factorDecay, 0, 1);
  for (const period of ['refreshEvery', 'factorEvery'] as const) {
    const value = o[period];
    if (value !== undefined && !(Number.isInteger(value) && value >= 1))
      throw new RangeError(`${name}: expected ${period} to be an integer ≥ 1, got ${value}`);
  }
  checkChoice(name, 'sharing', o.sharing, ['expand', 'reduce']);
  checkChoice(name, 'fisher', o.fisher, ['empirical', 'sampled', 'ggn']);
  checkChoice(name, 'loss', o.loss, ['crossEntropy', 'mse']);
  checkChoice(name, 'lossReduction', o.lossReduction, ['mean', 'sum']);
  if (o.fisher !== undefined && o.fisher !== 'empirical' && o.loss === undefined)
    throw new TypeError(
      `${name}: fisher '${o.fisher}' needs the option loss: 'crossEntropy' or 'mse', to know the predictive distribution`,
    );
}
