/** The relatives of KFAC that decompose nothing: SINGD, which follows the inverses of its factors, and K-BFGS, which learns them from differences. */

import { Generator, type Tensor } from '@otimes/core';
import { Adam, KBFGS, type KBFGSOptions, SINGD, type SINGDOptions } from '@otimes/optim';
import type { Contender } from '../experiment.ts';
import { restOf } from './kronecker.ts';
import { sharedWith } from './shared.ts';
import { decades } from './spaces.ts';
import { KroneckerTrainer, numberOf, optionsOf } from './trainer.ts';

/** What it has of what the Kronecker optimizers of an experiment share: the others speak of decompositions. */
const OWN = ['refreshEvery', 'factorEvery', 'factorDecay', 'sharing', 'fisher', 'loss', 'lossReduction'] as const;

/**
 * Rates and damping with a decade to each side of the defaults, those of its authors' code. The step of the inverses is normalised (Lin et al. 2024): without that
 * it diverges where curvature is large at the start. The setting `rest` is as for KFAC.
 */
export const singd: Contender = {
  name: 'singd',
  label: 'SINGD',
  family: 'kronecker',
  space: { lr: decades(1e-4, 1e-3), damping: decades(1e-4, 1e-3) },
  make(model, given, { kronecker, seed }) {
    const { rest, setting } = restOf('singd', given);
    const lr = numberOf('singd', setting, 'lr', 1e-3);
    const o = {
      normalizeLrCov: true,
      ...sharedWith('singd', kronecker, OWN),
      rng: new Generator(seed),
      ...optionsOf('singd', setting),
    } as SINGDOptions;
    return new KroneckerTrainer(
      new SINGD(model, rest === 'sgd' ? o : { ...o, rest: unclaimed => new Adam(unclaimed, { lr }) }),
    );
  },
};

/** Two passes over each batch, the second of them after the step. */
class CorrectedTrainer extends KroneckerTrainer<KBFGS> {
  override step(closure: () => Tensor): void {
    this.optimizer.zeroGrad();
    closure();
    this.optimizer.step();
    this.optimizer.zeroGrad();
    closure();
    this.optimizer.correct();
  }
}

/** Rates and damping with a decade to each side of the defaults. On layers with a bias, Linear and Conv2d; SGD has the rest. */
export const kbfgs: Contender = {
  name: 'k-bfgs',
  label: 'K-BFGS',
  family: 'quasi-newton',
  space: { lr: decades(0.03, 0.3), damping: decades(0.03, 0.3) },
  make: (model, setting, { kronecker }) =>
    new CorrectedTrainer(
      new KBFGS(model, {
        ...sharedWith('k-bfgs', kronecker, ['lossReduction']),
        ...optionsOf('k-bfgs', setting),
      } as KBFGSOptions),
    ),
};
