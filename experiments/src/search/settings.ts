/** The settings that a contender is tuned over. They come from the same points for all contenders, and the first is its defaults. */

import type { Contender, Dimension, Experiment, Setting, Space } from '../experiment.ts';
import type { TrialRecord } from '../record.ts';
import { MOST_DIMENSIONS, unitPoint } from './points.ts';

/** One training run: what it depends on, other than the experiment. */
export type TrialPlan = Pick<TrialRecord, 'id' | 'stage' | 'contender' | 'setting' | 'schedule' | 'seed'>;

/** Of every dimension what it is where nobody tunes it. */
export function defaultsOf(space: Space): Setting {
  return Object.fromEntries(Object.entries(space).map(([name, dimension]) => [name, dimension.default]));
}

/** The value of a dimension at u in [0, 1): lowest at 0. */
export function valueAt(dimension: Dimension, u: number): number | string | boolean {
  if (dimension.scale === 'choice') return dimension.choices[Math.floor(u * dimension.choices.length)]!;
  const { low, high } = dimension;
  const value = dimension.scale === 'log' ? low * (high / low) ** u : low + (high - low) * u;
  // Rounded to four digits, so that a setting can be read and typed, and in range all the same.
  return Math.min(high, Math.max(low, Number(value.toPrecision(4))));
}

/** The setting at a point of the unit cube: the first coordinate is the first dimension. */
export function settingAt(space: Space, point: readonly number[]): Setting {
  const dimensions = Object.entries(space);
  if (dimensions.length > MOST_DIMENSIONS)
    throw new RangeError(
      `settings: expected a space of at most ${MOST_DIMENSIONS} dimensions, got ${dimensions.length}`,
    );
  return Object.fromEntries(dimensions.map(([name, dimension], k) => [name, valueAt(dimension, point[k]!)]));
}

/** What is tuned in an experiment: the contender's space with the experiment's own dimensions, without what is fixed. */
export function spaceOf(experiment: Experiment, contender: Contender): Space {
  const all = { ...contender.space, ...experiment.spaces?.[contender.name] };
  const fixed = experiment.fixed?.[contender.name] ?? {};
  return Object.fromEntries(Object.entries(all).filter(([name]) => !Object.hasOwn(fixed, name)));
}

/** The name of tuning trial `index` = 0, 1, …. */
export const tuningId = (contender: string, index: number): string =>
  `${contender}-tune-${String(index).padStart(2, '0')}`;

/**
 * The tuning trials of a contender, in order. Trial 0 has the defaults. Schedules alternate: trial i has schedule i modulo their number
 * S, and each schedule a stretch of the sequence of its own, so that its points are spread evenly, and those of all together as well.
 */
export function tuningPlan(experiment: Experiment, contender: Contender): TrialPlan[] {
  const { schedules, tuning, fixed } = experiment;
  const space = spaceOf(experiment, contender);
  const stretch = Math.ceil(tuning.trials / schedules.length);
  return Array.from({ length: tuning.trials }, (_, i) => {
    const [s, j] = [i % schedules.length, Math.floor(i / schedules.length)];
    // The defaults take the place of the first point of the first stretch.
    const sampled = i === 0 ? defaultsOf(space) : settingAt(space, unitPoint(tuning.seed, s * stretch + j));
    return {
      id: tuningId(contender.name, i),
      stage: 'tuning',
      contender: contender.name,
      setting: { ...sampled, ...fixed?.[contender.name] },
      schedule: schedules[s]!,
      seed: tuning.seed,
    };
  });
}

/** What runs with all seeds. */
export type Finalist = Pick<TrialPlan, 'contender' | 'setting' | 'schedule'>;

/** The final runs of a finalist, with seeds 0, 1, …. */
export function finalPlan(experiment: Experiment, { contender, setting, schedule }: Finalist): TrialPlan[] {
  return Array.from({ length: experiment.seeds }, (_, seed) => ({
    id: `${contender}-${schedule}-seed-${seed}`,
    stage: 'final',
    ...{ contender, setting, schedule, seed },
  }));
}
