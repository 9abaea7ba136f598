/** What the small presets have in common: the league. */

import { CONTENDERS } from '../contenders/index.ts';
import { decades } from '../contenders/spaces.ts';
import type { Experiment, Space } from '../experiment.ts';

/** Contenders of all small presets, in the order of tables. */
export const LEAGUE: readonly string[] = [
  ...['adamw', 'nadamw', 'schedule-free', 'sgd', 'muon'],
  ...['steve', 'schedule-free-steve', 'ekfac', 'kfac', 'singd'],
  ...['soap', 'kl-shampoo', 'shampoo'],
];

/** With K-BFGS, for networks whose layers are Linear and Conv2d with a bias. */
export const LEAGUE_OF_PLAIN_LAYERS: readonly string[] = [...LEAGUE, 'k-bfgs'];

/** For transformers, whose rates are smaller: two decades from 2e-4 on, the same for all contenders that have Adam's. */
export const TRANSFORMER_SPACES: Readonly<Record<string, Space>> = Object.fromEntries(
  ['adamw', 'nadamw', 'schedule-free', 'steve', 'schedule-free-steve', 'soap', 'kl-shampoo'].map(name => {
    const byDefault = CONTENDERS.find(one => one.name === name)!.space.lr!.default;
    return [name, { lr: decades(2e-4, Number(byDefault)) }];
  }),
);

type Own = 'name' | 'title' | 'about' | 'task' | 'taskOptions' | 'target' | 'targetFrom' | 'epochs' | 'kronecker';

/** A preset of the league. What it gives takes the place of what all have. */
export function small(own: Pick<Experiment, Own> & Partial<Omit<Experiment, Own>>): Experiment {
  return {
    checksPerEpoch: 4,
    seeds: 5,
    tuning: { trials: 8, seed: 100, giveUp: 1.5 },
    schedules: ['constant', 'cosine'],
    finalists: 'best',
    contenders: LEAGUE,
    ...own,
  };
}

/** Of a target: which command shows it, and what it is. */
export const fromAdamW = (preset: string, rounding: string): string =>
  `From AdamW's runs alone, as by npm run bench bench/targets.ts -- ${preset}: the best value on the validation split that it reaches by the middle of ` +
  `the budget with all of 3 seeds, at the best of its settings, ${rounding}.`;
