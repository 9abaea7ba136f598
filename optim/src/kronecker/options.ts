/** The options that KFAC, EKFAC and STEVE share. */

import type { Generator } from '@otimes/core';
import type { Parameter } from '@otimes/nn';
import type { Optimizer } from '../optimizer.ts';
import type { Sharing } from './block.ts';
import type { Collector } from './collector.ts';
import type { LossReduction } from './factors.ts';
import type { FisherKind, FisherLoss } from './fisher.ts';
import type { Eigensolver } from './kfe.ts';

export type { AnyModule, Parameter } from '@otimes/nn';

/** Options that the whole family has. */
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
