/** Who runs with all seeds: what is chosen from the tuning trials of a contender, on the validation split alone. */

import type { Contender, Experiment, Metric } from '../experiment.ts';
import type { TrialRecord } from '../record.ts';
import { defaultsOf, type Finalist, spaceOf } from '../search/settings.ts';

type Trial = Pick<TrialRecord, 'setting' | 'schedule' | 'outcome' | 'checks' | 'reached'>;

/** The step at which a trial was at the target; Infinity for one that never was. */
export const stepsToTarget = ({ checks, reached }: Pick<TrialRecord, 'checks' | 'reached'>): number =>
  reached === null ? Infinity : checks[reached]!.step;

/**
 * Whether trial a is better than b: fewer steps to the target; where none reached it the better metric at the last check, with those that
 * diverged behind all others.
 */
export function isBetter({ better }: Pick<Metric, 'better'>, a: Trial, b: Trial): boolean {
  const [stepsA, stepsB] = [stepsToTarget(a), stepsToTarget(b)];
  if (stepsA !== stepsB) return stepsA < stepsB;
  if (stepsA < Infinity) return false;
  const [lostA, lostB] = [a.outcome === 'diverged', b.outcome === 'diverged'];
  if (lostA !== lostB) return lostB;
  const worst = better === 'higher' ? -Infinity : Infinity;
  const [endA, endB] = [a, b].map(({ checks }) => checks.at(-1)?.validation.metric ?? worst) as [number, number];
  return better === 'higher' ? endA > endB : endA < endB;
}

/** The first of the trials that none is better than. */
function best(metric: Pick<Metric, 'better'>, trials: readonly Trial[]): Trial {
  return trials.reduce((best, trial) => (isBetter(metric, trial, best) ? trial : best));
}

/**
 * A contender's best setting, or the best of each schedule; without tuning what is fixed, or the defaults.
 *
 * @param trials all tuning trials of the contender, in order
 */
export function finalistsOf(
  experiment: Experiment,
  metric: Pick<Metric, 'better'>,
  contender: Contender,
  trials: readonly Trial[],
): Finalist[] {
  const { name } = contender;
  const { schedules, tuning, finalists } = experiment;
  const finalist = ({ setting, schedule }: Pick<Trial, 'setting' | 'schedule'>): Finalist => ({
    ...{ contender: name, setting, schedule },
  });
  if (tuning.trials === 0) {
    const setting = { ...defaultsOf(spaceOf(experiment, contender)), ...experiment.fixed?.[name] };
    return schedules.map(schedule => finalist({ setting, schedule }));
  }
  if (finalists === 'best') return [finalist(best(metric, trials))];
  return schedules.map(name =>
    finalist(
      best(
        metric,
        trials.filter(({ schedule }) => schedule === name),
      ),
    ),
  );
}

/**
 * After how many steps tuning trial `index` ends unless it is at the target: `giveUp` times the steps of the best earlier one; Infinity
 * where there is none.
 */
export function giveUpAfter(
  giveUp: number | null,
  earlier: readonly Pick<TrialRecord, 'checks' | 'reached'>[],
): number {
  if (giveUp === null) return Infinity;
  return giveUp * Math.min(...earlier.map(stepsToTarget));
}
