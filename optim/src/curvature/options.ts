/** What whoever collects curvature may choose. */

import { Generator } from '@otimes/core';
import { aNumber, type OptionKinds, oneOf } from '@otimes/core/extend';
import type { Sharing } from './block.ts';
import type { Collector } from './collector.ts';
import { aCommunicator, type Communicator } from './communicator.ts';
import type { LossReduction } from './factors.ts';
import type { FisherKind, FisherLoss } from './sources/fisher.ts';

export type CurvatureOptions = {
  /**
   * A side of a block that is larger than this is left at the identity, times its mean eigenvalue (as SOAP does, Vyas et al.
   * 2025); `describe()` of an optimizer says where. Default: none is.
   */
  maxFactorDim?: number;
  /** How shared positions enter the factors; by default the collector decides ('expand' for Linear). */
  sharing?: Sharing;
  /**
   * Which Fisher the factors estimate. Default 'empirical': an example is what the first axis of a layer's input counts. The other
   * two need `loss`, and are means over the rows of the model's output.
   */
  fisher?: FisherKind;
  /** The loss, for 'sampled' and 'ggn'. Logits are [batch, classes, …], as for `crossEntropy`. */
  loss?: FisherLoss;
  /** Whether the loss is the mean over the batch (default) or its sum. Factors, and steps, are the same for both. */
  lossReduction?: LossReduction;
  /**
   * Which layers have curvature, and how. Axis 0 of their inputs is the batch: [batch, positions, features], not
   * [batch · positions, features]. Default `defaultCollectors`.
   */
  collectors?: readonly Collector[];
  /** Draws labels for fisher 'sampled', and signs for 'ggn' where an example has several rows of output. Default: seed 0. */
  rng?: Generator;
  /**
   * Several processes train the model together, each on its own part of every batch: the mean, or sum, over the parts of all is
   * the loss. Default `alone`; see `Communicator`.
   */
  communicator?: Communicator;
};

export const aSharing = oneOf('expand', 'reduce');

/** What each option must be; that `maxFactorDim` is a count is checked apart. */
export const CURVATURE_OPTIONS: OptionKinds<CurvatureOptions> = {
  maxFactorDim: aNumber,
  sharing: aSharing,
  fisher: oneOf('empirical', 'sampled', 'ggn'),
  loss: oneOf('crossEntropy', 'mse'),
  lossReduction: oneOf('mean', 'sum'),
  collectors: {
    expected: 'a list of collectors',
    is: v => Array.isArray(v) && v.every(one => typeof one?.collect === 'function'),
  },
  rng: { expected: 'a Generator', is: v => v instanceof Generator },
  communicator: aCommunicator,
};

/** Throws unless the loss is given to a Fisher that needs it. */
export function checkFisher(name: string, { fisher = 'empirical', loss }: CurvatureOptions): void {
  if (fisher !== 'empirical' && loss === undefined)
    throw new TypeError(
      `${name}: fisher '${fisher}' needs the option loss: 'crossEntropy' or 'mse', to know the predictive distribution`,
    );
}
