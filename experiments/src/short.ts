/** Experiments cut down for a test of the program. */

import type { Experiment } from './experiment.ts';

/**
 * At most two epochs, a trial for each schedule (two at least), and one seed; with the task options that the experiment has for it.
 */
export function shortened(experiment: Experiment): Experiment {
  const { epochs, tuning, schedules, short, taskOptions } = experiment;
  return {
    ...experiment,
    taskOptions: { ...taskOptions, ...short },
    epochs: Math.min(epochs, 2),
    seeds: 1,
    tuning: { ...tuning, trials: Math.min(tuning.trials, Math.max(2, schedules.length)) },
  };
}
