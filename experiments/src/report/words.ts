/** A report's sentences, all of them from numbers: who is first, by what, whether that is more than chance, and where each loses. */

import type { TimingRecord } from '../record.ts';
import {
  asWritten,
  countText,
  digits,
  gapText,
  intervalText,
  medianText,
  metricText,
  pText,
  rangeText,
  targetText,
  times,
  whole,
} from './format.ts';
import { roundsInterval, sideOf, smallestP } from './statistics.ts';
import { bestOf, budgetOf, type Comparison, compare, type Finalist, type Measure, type Summary } from './summary.ts';

/** The level of significance by which the sign test is judged. */
const LEVEL = 0.05;
/** Less than that above 1 is 1.00 to two decimals, and no loss. */
const SEEN = 0.005;
/** What two measurements of the same differ by, of the time of a step and of the memory of a process: less is no loss. */
const NOISE = 0.05;
const MEMORY_NOISE = 0.2;

export const measureName = (measure: Measure): string =>
  ({ seconds: 'seconds', cpu: 'CPU seconds as measured', steps: 'steps', epochs: 'epochs' })[measure];

/** 'to 96.5 % accuracy'. */
export const goal = ({ run: { info } }: Summary): string =>
  `${targetText(info.experiment.target, info.metric)} ${info.metric.name}`;

/** Whether a difference is more than chance, by the interval and by the sign test, with what the latter can say at all. */
export function significance({ ratio, wins }: Comparison): string {
  const { n } = ratio;
  if (n < 2) return 'With one seed nothing can be said of chance.';
  const limit = smallestP(n);
  const p = pText(wins.p);
  const test = `by the sign test (p = ${p}) ${
    limit > LEVEL
      ? `nothing can be significant: with ${n} seeds it does not go below ${pText(limit)}.`
      : `the difference is${wins.p < LEVEL ? '' : ' not'} significant.`
  }`;
  if (ratio.value === null) return `Both missed the target with some seeds, so that their ratio is not known; ${test}`;
  const side = sideOf(ratio);
  // Of so few seeds that no test can tell, the interval cannot either: where all agree it leaves 1 out by itself.
  if (limit > LEVEL)
    return `${
      side === 'neither' ? 'Its interval contains 1' : `Its interval lies ${side} 1`
    }, which with ${n} seeds is no test of significance: by the sign test p = ${p}, and with ${n} seeds it does not go below ${pText(limit)}.`;
  return side === 'neither'
    ? `By its interval, which contains 1, the difference is not significant; ${test}`
    : `By its interval, which lies ${side} 1, the difference is significant; ${test}`;
}

/** '0.50 times the seconds of AdamW (95 % interval 0.42–0.60, ahead in 5 of 5 seeds)'. */
export function ratioPhrase({ ratio, wins }: Comparison, other: Finalist, measure: Measure): string {
  if (ratio.value === null) return `not comparable with ${other.label}, as both missed the target with some seeds`;
  const interval = ratio.interval === null ? '' : `95 % interval ${intervalText(ratio)}, `;
  const bound = { exact: '', 'at least': 'more than ', 'at most': 'less than ', unknown: '' }[ratio.bound];
  return `${bound}${times(ratio.value)} times the ${measureName(measure)} of ${other.label} (${interval}ahead in ${wins.won} of ${ratio.n} ${ratio.n === 1 ? 'seed' : 'seeds'})`;
}

/** '0.56 seconds (median of 5 seeds, 0.41–0.70)'. */
function medianPhrase(one: Finalist, measure: Measure): string {
  const spread = one.spreads[measure];
  const write = measure === 'steps' ? whole : digits;
  const range = rangeText(spread, write);
  return `${medianText(spread, budgetOf(one.to[measure]), write)} ${measureName(measure)} (${spread.n === 1 ? 'one seed' : `median of ${spread.n} seeds, ${range}`})`;
}

const reachedIt = (one: Finalist | undefined, measure: Measure): one is Finalist =>
  one !== undefined && one.spreads[measure].n > 0 && one.spreads[measure].median < Infinity;

/** Who came nearest, where nobody got there. */
function nearest({ ranked, run: { info } }: Summary): string {
  const medians = ranked.map(({ validation }) => validation.median).filter(Number.isFinite);
  const best = bestOf(medians, info.metric);
  const one = ranked.find(({ validation }) => validation.median === best);
  return one === undefined
    ? 'Nothing was evaluated.'
    : `Nearest came ${one.label}, with a validation ${info.metric.name} of ${metricText(best, info.metric)} at best (median over seeds).`;
}

/** The sentences that answer the experiment's question. */
export function answer(s: Summary): string[] {
  const { ranked, measure, firstOrder } = s;
  if (ranked.length === 0) return ['No final run has ended yet, so there is no answer.'];
  const first = ranked[0];
  if (!reachedIt(first, measure))
    return [
      `No contender reached ${goal(s)} in the median of its seeds within ${countText(s.run.info.experiment.epochs, 'epoch')}.`,
      nearest(s),
    ];
  const said = [`${first.label} reaches ${goal(s)} first: in ${medianPhrase(first, measure)}.`];
  if (firstOrder !== null && first !== firstOrder) {
    const beside = compare(first, firstOrder, measure);
    said.push(
      `That is ${ratioPhrase(beside, firstOrder, measure)}, the quickest first-order contender.`,
      significance(beside),
    );
  } else if (firstOrder === null) said.push('No first-order contender was measured beside it.');
  const kronecker = s.kronecker;
  if (kronecker !== null && first.family !== 'kronecker') {
    const beside = compare(kronecker, first, measure);
    said.push(
      `The quickest Kronecker-factored contender, ${kronecker.label}, takes ${ratioPhrase(beside, first, measure)}.`,
      significance(beside),
    );
  }
  const fewest = [...ranked].sort((a, b) => a.spreads.steps.median - b.spreads.steps.median)[0]!;
  const others = firstOrder !== null && fewest !== firstOrder ? compare(fewest, firstOrder, 'steps') : null;
  said.push(
    `The fewest steps are those of ${fewest.label}: ${medianPhrase(fewest, 'steps')}${others === null ? '' : `, ${ratioPhrase(others, firstOrder!, 'steps')}`}.`,
  );
  const ranks = losses(s);
  said.push(`${first.label} loses elsewhere: ${ranks.find(({ one }) => one === first)!.sentence}`);
  if (ranked.length > 2)
    said.push(
      'The quickest is picked by the seeds that it is judged by, which flatters it the more the closer others are.',
    );
  return said;
}

export type Loss = {
  readonly one: Finalist;
  /** How many times the least, by what; null where it is not known. `bound` where the own value is the budget that was missed. */
  readonly factors: Readonly<
    Record<'target' | 'steps' | 'stepTime' | 'memory', { value: number; bound: boolean } | null>
  >;
  /** How far the median of the test metric lies behind the best; null without one. */
  readonly behind: number | null;
  readonly misses: number;
  readonly diverged: { readonly tuning: number; readonly finals: number };
  /** '1.50 times the step time of SGD; …', or that it loses nowhere. */
  readonly sentence: string;
};

/** Whether so many times the least is more than what measuring twice makes of the same. */
function isLoss(key: keyof Loss['factors'], factor: number, one: Finalist, leader: Finalist): boolean {
  if (key === 'steps') return factor >= 1 + SEEN;
  if (key === 'memory') return factor >= 1 + MEMORY_NOISE;
  const rounds = { a: one.stepTime?.perRound ?? [], b: leader.stepTime?.perRound ?? [] };
  const interval = roundsInterval(rounds);
  if (key === 'stepTime') return factor >= 1 + NOISE && (interval === null || interval[0] > 1);
  // Times to the target: a difference in steps is one, however small.
  const sameSteps = one.spreads.steps.median === leader.spreads.steps.median;
  return factor >= 1 + (sameSteps ? NOISE : SEEN);
}

/** Every finalist against the best of each column, in the order of the ranking. */
export function losses(s: Summary): Loss[] {
  const { ranked, measure, run } = s;
  const { metric } = run.info;
  const figures = {
    target: (one: Finalist) => one.spreads[measure].median,
    steps: (one: Finalist) => one.spreads.steps.median,
    stepTime: (one: Finalist) => one.stepTime?.median ?? Number.NaN,
    memory: (one: Finalist) => one.memory,
  };
  const words = { target: measureName(measure), steps: 'steps', stepTime: 'time per step', memory: 'memory' };
  const keys = Object.keys(figures) as (keyof typeof figures)[];
  const leaders = keys.map(key =>
    ranked.reduce<Finalist | null>((best, one) => {
      const [x, y] = [figures[key](one), best === null ? Infinity : figures[key](best)];
      return x > 0 && x < y ? one : best;
    }, null),
  );
  const tests = ranked.filter(one => one.test.metric.n > 0);
  const top = bestOf(
    tests.map(one => one.test.metric.median),
    metric,
  );
  const topOf = tests.find(one => one.test.metric.median === top);
  return ranked.map(one => {
    const factors = Object.fromEntries(
      keys.map((key, i) => {
        const leader = leaders[i];
        const own = figures[key](one);
        if (leader == null || Number.isNaN(own)) return [key, null];
        const bound = own === Infinity;
        const value = bound ? budgetOf(one.to[key === 'steps' ? 'steps' : measure]) : own;
        return [key, { value: value / figures[key](leader), bound }];
      }),
    ) as Loss['factors'];
    // Of values as they are written, so that cells and differences agree.
    const behind =
      one.test.metric.n > 0 ? Math.abs(asWritten(one.test.metric.median, metric) - asWritten(top, metric)) : null;
    const { misses } = one.spreads.steps;
    const mine = run.trials.filter(({ contender, outcome }) => contender === one.contender && outcome === 'diverged');
    const diverged = {
      tuning: mine.filter(({ stage }) => stage === 'tuning').length,
      finals: mine.filter(({ stage, schedule }) => stage === 'final' && schedule === one.schedule).length,
    };
    const parts = keys.flatMap((key, i) => {
      const factor = factors[key];
      const leader = leaders[i];
      if (factor === null || leader == null || leader === one || !isLoss(key, factor.value, one, leader)) return [];
      return [`${factor.bound ? 'more than ' : ''}${times(factor.value)} times the ${words[key]} of ${leader.label}`];
    });
    if (behind !== null && Number.parseFloat(gapText(behind, metric)) > 0)
      parts.push(`${gapText(behind, metric)} of test ${metric.name} behind ${topOf!.label}`);
    if (misses > 0) parts.push(`the target missed with ${misses} of ${countText(one.runs.length, 'seed')}`);
    const failed = diverged.tuning + diverged.finals;
    if (failed > 0) parts.push(`${countText(failed, 'run')} diverged`);
    const sentence = parts.length === 0 ? 'nowhere, of what is measured here.' : `${parts.join('; ')}.`;
    return { one, factors, behind, misses, diverged, sentence };
  });
}

/** Which time of a step was measured. */
const stepClock = (timing: TimingRecord | null): string =>
  timing?.clock === 'wall' ? 'time by the clock' : 'CPU time';

/** Whether intervals of seconds have the uncertainty of the step times. */
const hasRounds = ({ timing }: Summary['run']): boolean =>
  timing?.contenders.every(({ perRound }) => perRound !== undefined) ?? false;

/** What the times are, and how to read them. */
export function method(s: Summary): string[] {
  const { experiment, samples, parameters, stepsPerEpoch, machine, metric } = s.run.info;
  const { timing, trials } = s.run;
  const { tuning } = experiment;
  const seeds = experiment.seeds;
  const resumed = trials.filter(({ resumed }) => resumed > 0).length;
  return [
    `Target: ${targetText(experiment.target, metric)} ${metric.name} on the validation split. ${experiment.targetFrom}`,
    `Data: ${whole(samples.train)} samples to train with, ${whole(samples.validation)} for choices and for the target, ${whole(samples.test)} to test with, once, at the end. ${whole(parameters)} parameters, ${whole(stepsPerEpoch)} steps an epoch.`,
    `Budget: ${countText(experiment.epochs, 'epoch')} of every run at most; ${experiment.checksPerEpoch} evaluations an epoch; finals with ${countText(seeds, 'seed')} of weights and batches, the same for all.`,
    tuning.trials === 0
      ? 'Nothing was tuned: settings are given, or defaults.'
      : `Tuning: ${countText(tuning.trials, 'setting')} for each contender, its defaults and then points of the same generator, with the seed ${tuning.seed}, which no final has.${tuning.giveUp === null ? '' : ` A trial was given up at ${tuning.giveUp} times the steps of the best before it.`}`,
    timing === null
      ? 'Seconds: CPU seconds of each run as they were measured, without evaluations. Runs side by side disturb each other, so these say less than seconds from a timing.json, which this run does not have.'
      : `Seconds, the figure to compare: steps to the target times the median ${stepClock(timing)} of a step, which was measured for all finalists in turn in one process, ${countText(timing.rounds, 'round')} of ${countText(timing.stepsPerRound, 'step')}${timing.warmSteps === undefined ? '' : ` after ${countText(timing.warmSteps, 'step')} or more that were not counted`}; what differs in schedule or rate alone was measured once. Evaluations are not in it. "CPU seconds as measured" are those of the runs themselves, side by side with others on ${countText(machine.cores, 'core')}.`,
    'Misses: a run that did not reach the target within its budget counts as longer than all others in medians, and never in a mean; a ratio with misses is a bound, written with > or <.',
    `Ratios: geometric means over seeds, paired by seed, as initial weights and batches are the same. Intervals: 95 %, by bootstrap over seeds${timing === null ? '' : hasRounds(s.run) ? ', those of seconds over the rounds of the timing as well; what a process as a whole is slower or quicker by is not in them' : ', for which step times count as exact'}; with few seeds they are too narrow.${seeds > 0 && smallestP(seeds) > LEVEL ? ` The sign test cannot go below p = ${pText(smallestP(seeds))} with ${countText(seeds, 'seed')}.` : ''} No correction for the number of comparisons.`,
    `Losses: time per step counts as lost from ${100 * NOISE} % on and memory from ${100 * MEMORY_NOISE} % on, which is about what measuring twice differs by. Memory is the largest of a contender's processes, with the program, the data and what is not collected yet.`,
    ...(resumed > 0 ? [`${countText(resumed, 'run')} went on from a checkpoint.`] : []),
  ];
}

export const titleOfTarget = (s: Summary): string =>
  `Time to ${goal(s)} on the validation split, quickest first: fewer misses, then the geometric mean over seeds; those that missed it with half of the seeds or more by the best on the validation split. Medians over seeds, and from the least to the most. ${
    s.measure === 'seconds'
      ? `Seconds, the figure to compare, are steps times the median ${stepClock(s.run.timing)} of a step, measured in turn`
      : 'CPU seconds are those of the runs, since step times were not measured in turn'
  }`;

export const factorText = (factor: { value: number; bound: boolean } | null): string =>
  factor === null ? '–' : `${factor.bound ? '> ' : ''}${times(factor.value)}`;
