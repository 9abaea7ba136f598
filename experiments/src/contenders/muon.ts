/** Muon on the weight matrices, AdamW on all other parameters. */

import { AdamW, Muon, type MuonOptions } from '@otimes/optim';
import type { Contender } from '../experiment.ts';
import { decades } from './spaces.ts';
import { GradientTrainer, numberOf, optionsOf } from './trainer.ts';

/**
 * Its authors' default rate with a decade to each side, and as the second dimension `restLr`, that of AdamW for biases, norms, embeddings
 * and positions: their 3e-4 is for runs of many thousands of steps. AdamW's other options are the optimizer's own default.
 */
export const muon: Contender = {
  name: 'muon',
  label: 'Muon',
  family: 'first-order',
  space: { lr: decades(2e-3, 0.02), restLr: decades(3e-4, 3e-4) },
  make(model, { restLr, ...setting }) {
    const lr = numberOf('muon', { ...(restLr !== undefined && { restLr }) }, 'restLr', 3e-4);
    return new GradientTrainer(
      new Muon(model, {
        ...(optionsOf('muon', setting) as MuonOptions),
        rest: unclaimed => new AdamW(unclaimed, { lr, betas: [0.9, 0.95], eps: 1e-10, weightDecay: 0 }),
      }),
    );
  },
};
