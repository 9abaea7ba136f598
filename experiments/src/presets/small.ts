/** What the small presets have in common: the league. */

import type { Experiment } from '../experiment.ts';

/** Contenders of all small presets, in the order of tables. */
export const LEAGUE: readonly string[] = ['adamw', 'nadamw', 'schedule-free', 'sgd', 'muon', 'steve', 'ekfac', 'kfac'];

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

/** Of a target: which command shows it, and of what it is the mean. */
export const fromAdamW = (preset: string, rounding: string): string =>
  `From AdamW's runs alone (npm run bench bench/targets.ts -- ${preset}): the best value on the validation split by the middle of the ` +
  `budget, at the best of its settings, the mean of 3 seeds, ${rounding}.`;
