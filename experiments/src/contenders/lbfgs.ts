/** L-BFGS, for tasks whose batch is all there is: a closure gives the same loss for the same weights. */

import { LBFGS, type LBFGSOptions } from '@otimes/optim';
import type { Contender } from '../experiment.ts';
import { ClosureTrainer, optionsOf } from './trainer.ts';

/**
 * With a line search, which finds the length of a step, the rate is where it begins; 1 is what Nocedal & Wright (2006, §7.2) say. What is
 * remembered: 10 to 20 pairs there, 100 by default in PyTorch. A step has 4 iterations, so that runs of as many steps as another's are not
 * twenty times as long.
 */
export const lbfgs: Contender = {
  name: 'lbfgs',
  label: 'L-BFGS',
  family: 'quasi-newton',
  space: {
    lr: { scale: 'log', low: 0.01, high: 1, default: 1 },
    historySize: { scale: 'choice', choices: [10, 30, 100], default: 100 },
  },
  make: (model, setting) =>
    new ClosureTrainer(
      new LBFGS(model.parameters(), {
        lineSearch: 'strongWolfe',
        maxIter: 4,
        toleranceGrad: 0,
        toleranceChange: 0,
        ...optionsOf('lbfgs', setting),
      } as LBFGSOptions),
    ),
};
