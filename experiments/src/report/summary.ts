/** What a run's records say: each finalist over its seeds, who is first, who is compared with whom, and what is missing. */

import type { Metric, ScheduleName, Setting, Space } from '../experiment.ts';
import { median } from '../quantile.ts';
import type { TrialRecord } from '../record.ts';
import { isBetter as isBetterTrial } from '../runner/choice.ts';
import { listText } from './format.ts';
import type { Run } from './read.ts';
import {
  type Pair,
  pairedRatio,
  type Ratio,
  type Spread,
  spread,
  spreadOf,
  type Time,
  type Wins,
  wins,
} from './statistics.ts';

/**
 * What is compared. 'seconds': steps to the target × the median step time of timing.json. 'cpu': CPU seconds of the run itself until
 * the target. Both without evaluations.
 */
export type Measure = 'seconds' | 'steps' | 'epochs' | 'cpu';

export type Finalist = {
  readonly contender: string;
  readonly schedule: ScheduleName;
  /** As tables write it; with the schedule where there are several. */
  readonly label: string;
  readonly family: 'first-order' | 'kronecker' | 'quasi-newton';
  readonly setting: Setting;
  /** By seed. */
  readonly runs: readonly TrialRecord[];
  /** Times to the target of each run; of seconds none without a step time. */
  readonly to: Readonly<Record<Measure, readonly Time[]>>;
  readonly spreads: Readonly<Record<Measure, Spread>>;
  /** Milliseconds of CPU a step, by timing.json; null where that does not have it. */
  readonly stepTime: {
    readonly median: number;
    readonly quartiles: readonly [number, number];
    /** Of each round; none where the record has none. */
    readonly perRound: readonly number[];
  } | null;
  /** On the test split, of runs that did not diverge. */
  readonly test: { readonly metric: Spread; readonly loss: Spread };
  /** The best on the validation split in each run. */
  readonly validation: Spread;
  /** Bytes: the largest resident set of the contender's processes, tuning included. */
  readonly memory: number;
};

export type Comparison = { readonly ratio: Ratio; readonly wins: Wins };

export type Tuned = {
  readonly contender: string;
  readonly label: string;
  /** Without what is fixed; null where the run does not say. */
  readonly space: Space | null;
  readonly trials: readonly TrialRecord[];
  /** The one that became a finalist, or would; null where no trial has ended. */
  readonly best: TrialRecord | null;
};

export type Summary = {
  readonly run: Run;
  /** In the experiment's order. */
  readonly finalists: readonly Finalist[];
  /**
   * By the measure, the quickest first: with fewer misses, then by the geometric mean over seeds. Those that missed the target with half of their seeds or more come
   * last, by the best on the validation split.
   */
  readonly ranked: readonly Finalist[];
  /** What contenders are compared by: seconds, or CPU seconds as measured where there is no timing.json. */
  readonly measure: 'seconds' | 'cpu';
  /** The quickest of its kind, or the best of those that missed; null without one that is measured. */
  readonly firstOrder: Finalist | null;
  readonly kronecker: Finalist | null;
  readonly baseline: Finalist | null;
  readonly tuned: readonly Tuned[];
  /** Sentences; none of a run that has ended. */
  readonly missing: readonly string[];
};

/** The best value of a metric, NaN of none. */
export const bestOf = (values: readonly number[], { better }: Metric): number =>
  values.length === 0 ? Number.NaN : better === 'higher' ? Math.max(...values) : Math.min(...values);

function finalist(run: Run, runs: readonly TrialRecord[]): Finalist {
  const { info, timing } = run;
  const { experiment, stepsPerEpoch, metric } = info;
  const { contender, schedule, setting } = runs[0]!;
  const step = timing?.contenders.find(one => one.contender === contender && one.schedule === schedule) ?? null;
  const several = experiment.schedules.length > 1;
  // What a run that missed had to its use. Of one that diverged too: nothing would have come.
  const budget = Math.round(experiment.epochs * stepsPerEpoch);
  const hits = runs.map(({ checks, reached }) => (reached === null ? null : checks[reached]!));
  const timesBy = (of: (step: number) => number): Time[] =>
    hits.map(hit => (hit === null ? { value: of(budget), missed: true } : { value: of(hit.step), missed: false }));
  const to = {
    steps: timesBy(steps => steps),
    epochs: timesBy(steps => steps / stepsPerEpoch),
    seconds: step === null ? [] : timesBy(steps => steps * step.median),
    cpu: hits.map((hit, i) =>
      hit === null
        ? { value: runs[i]!.checks.at(-1)?.cpuSeconds ?? 0, missed: true }
        : { value: hit.cpuSeconds, missed: false },
    ),
  };
  const tests = runs.flatMap(({ test }) => (test === null ? [] : [test]));
  return {
    contender,
    schedule,
    label: several ? `${info.labels[contender]} (${schedule})` : info.labels[contender]!,
    family: info.families[contender]!,
    setting,
    runs,
    to,
    spreads: {
      steps: spread(to.steps),
      epochs: spread(to.epochs),
      seconds: spread(to.seconds),
      cpu: spread(to.cpu),
    },
    stepTime: step && {
      median: 1e3 * step.median,
      quartiles: [1e3 * step.quartiles[0], 1e3 * step.quartiles[1]],
      perRound: (step.perRound ?? []).map(seconds => 1e3 * seconds),
    },
    test: { metric: spreadOf(tests.map(({ metric }) => metric)), loss: spreadOf(tests.map(({ loss }) => loss)) },
    validation: spreadOf(
      runs.flatMap(({ checks }) =>
        checks.length === 0
          ? []
          : [
              bestOf(
                checks.map(({ validation }) => validation.metric),
                metric,
              ),
            ],
      ),
    ),
    // Of a process that does all trials of a contender it only grows: which of its runs was the last to have it, says nothing of that run.
    memory: Math.max(...run.trials.filter(one => one.contender === contender).map(({ peakMemory }) => peakMemory)),
  };
}

/** What missed runs had to their use. */
export const budgetOf = (times: readonly Time[]): number => Math.max(0, ...times.map(({ value }) => value));

/** a beside b: ratio of times and seeds won, paired by seed. */
export function compare(a: Finalist, b: Finalist, measure: Measure): Comparison {
  const pairs = a.runs.flatMap(({ seed }, i): Pair[] => {
    const k = b.runs.findIndex(other => other.seed === seed);
    const [x, y] = [a.to[measure][i], b.to[measure][k]];
    return x === undefined || y === undefined ? [] : [{ a: x, b: y }];
  });
  const rounds = { a: a.stepTime?.perRound ?? [], b: b.stepTime?.perRound ?? [] };
  return { ratio: pairedRatio(pairs, measure === 'seconds' ? { rounds } : {}), wins: wins(pairs) };
}

/** The trial that the choice falls on, or would with what has ended. */
const chosen = (trials: readonly TrialRecord[], metric: Metric): TrialRecord | null =>
  trials.reduce<TrialRecord | null>(
    (best, trial) => (best === null || isBetterTrial(metric, trial, best) ? trial : best),
    null,
  );

const same = (a: Setting, b: Setting): boolean => Object.keys({ ...a, ...b }).every(name => a[name] === b[name]);

function tuning(run: Run, finalists: readonly Finalist[]): Tuned[] {
  const { experiment, labels, metric, spaces } = run.info;
  return experiment.contenders.map(contender => {
    const trials = run.trials.filter(trial => trial.stage === 'tuning' && trial.contender === contender);
    // With several finalists of a contender, the best of the first.
    const final = finalists.find(one => one.contender === contender);
    const taken =
      final && trials.find(({ setting, schedule }) => schedule === final.schedule && same(setting, final.setting));
    const space = spaces?.[contender] ?? experiment.spaces?.[contender] ?? null;
    const fixed = experiment.fixed?.[contender] ?? {};
    return {
      contender,
      label: labels[contender]!,
      space: space && Object.fromEntries(Object.entries(space).filter(([name]) => !Object.hasOwn(fixed, name))),
      trials,
      best: taken ?? chosen(trials, metric),
    };
  });
}

function missing(run: Run, finalists: readonly Finalist[], tuned: readonly Tuned[]): string[] {
  const { experiment, labels } = run.info;
  const { trials } = experiment.tuning;
  const label = (name: string) => labels[name]!;
  const few = tuned.filter(one => one.trials.length < trials);
  // Without trials there is nothing to choose by.
  const expected = trials > 0 && experiment.finalists === 'best' ? 1 : experiment.schedules.length;
  const without = experiment.contenders.filter(
    name => finalists.filter(({ contender }) => contender === name).length < expected,
  );
  const short = finalists.filter(({ runs }) => runs.length < experiment.seeds);
  const untimed = run.timing === null ? [] : finalists.filter(({ stepTime }) => stepTime === null);
  return [
    ...(few.length === 0
      ? []
      : [
          `Tuning has not ended: ${listText(few.map(one => `${one.label} ${one.trials.length} of ${trials} trials`))}.`,
        ]),
    ...(without.length === 0 ? [] : [`Not all finals have begun: ${listText(without.map(label))}.`]),
    ...(short.length === 0
      ? []
      : [
          `Seeds are missing: ${listText(short.map(one => `${one.label} has ${one.runs.length} of ${experiment.seeds}`))}.`,
        ]),
    ...(run.timing === null ? ['Step times were not measured yet: there is no timing.json.'] : []),
    ...(untimed.length === 0 ? [] : [`timing.json has no step time of ${listText(untimed.map(one => one.label))}.`]),
  ];
}

/** Of the geometric mean, by which ratios compare as well; a miss counts as its budget. */
const meanLog = (times: readonly Time[]): number =>
  times.reduce((sum, { value }) => sum + Math.log(value), 0) / times.length;

/** `baseline` is a contender's name, by default the experiment's first. */
export function summarize(run: Run, o: { baseline?: string } = {}): Summary {
  const { experiment } = run.info;
  const { baseline = experiment.contenders[0] } = o;
  if (baseline !== undefined && !experiment.contenders.includes(baseline))
    throw new RangeError(`report: baseline: expected one of ${experiment.contenders.join(', ')}, got '${baseline}'`);
  const finals = run.trials.filter(({ stage }) => stage === 'final');
  const finalists = experiment.contenders.flatMap(contender =>
    (['constant', 'cosine', 'linear'] as const).flatMap(schedule => {
      const runs = finals.filter(trial => trial.contender === contender && trial.schedule === schedule);
      return runs.length === 0 ? [] : [finalist(run, runs)];
    }),
  );
  const measure = run.timing === null ? 'cpu' : 'seconds';
  const rank = (one: Finalist): number[] => {
    const { n, median, misses } = one.spreads[measure];
    const end = one.validation.median;
    const last = run.info.metric.better === 'higher' ? -end : end;
    const order = median === Infinity || n === 0 ? [Infinity, 0, last] : [misses, meanLog(one.to[measure]), last];
    return order.map(x => (Number.isNaN(x) ? Infinity : x));
  };
  const ranked = [...finalists].sort((a, b) => {
    const [x, y] = [rank(a), rank(b)];
    const i = x.findIndex((value, k) => value !== y[k]);
    return i < 0 ? 0 : x[i]! < y[i]! ? -1 : 1;
  });
  const quickest = (family: Finalist['family']) =>
    ranked.find(one => one.family === family && one.spreads[measure].n > 0) ?? null;
  const tuned = tuning(run, finalists);
  return {
    run,
    finalists,
    ranked,
    measure,
    firstOrder: quickest('first-order'),
    kronecker: quickest('kronecker'),
    baseline: ranked.find(({ contender }) => contender === baseline) ?? null,
    tuned,
    missing: missing(run, finalists, tuned),
  };
}

/** Medians over seeds by phase, milliseconds a step: 'data', 'forward', …; of evaluations too, spread over the steps. */
export function phasesOf({ runs }: Finalist): Readonly<Record<string, number>> {
  const ran = runs.filter(({ steps }) => steps > 0);
  const names = [...new Set(ran.flatMap(({ phases }) => Object.keys(phases)))];
  return Object.fromEntries(
    names.map(name => [name, median(ran.map(({ phases, steps }) => (1e3 * (phases[name] ?? 0)) / steps))]),
  );
}
