/** The tables of a report. Each has a row for every finalist or every contender, whatever happened to it. */

import type { Dimension, Space } from '../experiment.ts';
import { settingText } from '../format.ts';
import { median } from '../quantile.ts';
import type { Cell, Table } from './document.ts';
import { phaseNames } from './figures/rows.ts';
import {
  digits,
  gapText,
  intervalText,
  meanText,
  medianText,
  megabytes,
  metricText,
  pText,
  rangeText,
  ratioText,
  whole,
  winsText,
} from './format.ts';
import type { Spread } from './statistics.ts';
import { bestOf, budgetOf, compare, type Finalist, type Measure, phasesOf, type Summary } from './summary.ts';
import { factorText, losses, measureName, titleOfTarget } from './words.ts';

const numeric = (title: string) => ({ title, numeric: true });

/** A median with its range; the best of a column stands out. */
function spreadCell(spread: Spread, write: (x: number) => string, budget = 0, best = false): Cell {
  const text = medianText(spread, budget, write);
  const note = rangeText(spread, write);
  return { text, best: best && spread.n > 0, ...(note && { note }) };
}

const writeBy = (measure: Measure) => (measure === 'steps' ? whole : (x: number) => digits(x));

function timeCell(s: Summary, one: Finalist, measure: Measure): Cell {
  const medians = s.ranked.map(other => other.spreads[measure].median).filter(Number.isFinite);
  const best = s.ranked.length > 1 && medians.length > 0 && one.spreads[measure].median === Math.min(...medians);
  return spreadCell(one.spreads[measure], writeBy(measure), budgetOf(one.to[measure]), best);
}

/** Ratio with interval, and seeds won with the sign test's p, to another finalist. */
function besides(s: Summary, one: Finalist, other: Finalist | null): Cell[] {
  if (other === null) return [{ text: '–' }, { text: '–' }];
  if (one === other) return [{ text: '1' }, { text: '–' }];
  const { ratio, wins } = compare(one, other, s.measure);
  if (ratio.n === 0) return [{ text: '–' }, { text: '–' }];
  const note = ratio.interval === null ? {} : { note: intervalText(ratio) };
  return [
    { text: ratioText(ratio), ...note },
    { text: winsText(wins), note: `p ${pText(wins.p)}` },
  ];
}

export function finals(s: Summary): Table {
  const { ranked, measure, firstOrder, baseline } = s;
  const { metric } = s.run.info;
  const other = baseline !== null && baseline !== firstOrder ? baseline : null;
  const tests = ranked.map(one => one.test.metric.median).filter(Number.isFinite);
  const beside = (one: Finalist | null, none: string) => [
    numeric(one === null ? none : `over ${one.label}`),
    numeric('seeds won'),
  ];
  return {
    kind: 'table',
    caption: titleOfTarget(s),
    columns: [
      { title: 'contender' },
      numeric(measureName(measure)),
      ...beside(firstOrder, 'over first-order'),
      ...(other === null ? [] : beside(other, '')),
      numeric('steps'),
      numeric('epochs'),
      ...(measure === 'seconds' ? [numeric('CPU s as measured'), numeric('ms a step')] : []),
      numeric('missed'),
      numeric(`test ${metric.name}`),
      numeric('memory'),
    ],
    rows: ranked.map(one => [
      one.label,
      timeCell(s, one, measure),
      ...besides(s, one, firstOrder),
      ...(other === null ? [] : besides(s, one, other)),
      timeCell(s, one, 'steps'),
      timeCell(s, one, 'epochs'),
      ...(measure === 'seconds'
        ? [
            timeCell(s, one, 'cpu'),
            one.stepTime === null
              ? '–'
              : {
                  text: digits(one.stepTime.median),
                  note: one.stepTime.quartiles.map(end => digits(end)).join('–'),
                },
          ]
        : []),
      `${one.spreads.steps.misses} of ${one.runs.length}`,
      spreadCell(
        one.test.metric,
        x => metricText(x, metric),
        0,
        ranked.length > 1 && one.test.metric.median === bestOf(tests, metric),
      ),
      { text: megabytes(one.memory) },
    ]),
  };
}

export function lossesTable(s: Summary): Table {
  const { metric, experiment } = s.run.info;
  return {
    kind: 'table',
    caption: 'Times the best of each column; 1.00 is the best itself',
    columns: [
      { title: 'contender' },
      numeric(`${measureName(s.measure)} to the target`),
      numeric('steps to the target'),
      numeric('time per step'),
      numeric('memory'),
      numeric(`test ${metric.name}, behind`),
      numeric('finals that missed'),
      numeric('diverged: tuning, finals'),
    ],
    rows: losses(s).map(({ one, factors, behind, misses, diverged }) => [
      one.label,
      factorText(factors.target),
      factorText(factors.steps),
      factorText(factors.stepTime),
      factorText(factors.memory),
      behind === null ? '–' : gapText(behind, metric),
      `${misses} of ${one.runs.length}`,
      experiment.tuning.trials === 0 ? `–, ${diverged.finals}` : `${diverged.tuning}, ${diverged.finals}`,
    ]),
  };
}

/** Means where there are 3 seeds, and every seed by itself. */
export function seeds(s: Summary): Table {
  const mean = (one: Finalist, measure: Measure) => meanText(one.spreads[measure], writeBy(measure));
  return {
    kind: 'table',
    caption:
      'Means ± standard deviations over 3 seeds or more, none where one missed; and steps to the target of each seed',
    columns: [
      { title: 'contender' },
      ...(s.measure === 'seconds' ? [numeric('seconds')] : []),
      numeric('steps'),
      numeric('epochs'),
      numeric('CPU s as measured'),
      { title: 'steps by seed' },
    ],
    rows: s.ranked.map(one => [
      one.label,
      ...(s.measure === 'seconds' ? [mean(one, 'seconds')] : []),
      mean(one, 'steps'),
      mean(one, 'epochs'),
      mean(one, 'cpu'),
      one.to.steps.map(({ value, missed }) => (missed ? 'missed' : whole(value))).join(', '),
    ]),
  };
}

export function tests(s: Summary): Table {
  const { metric } = s.run.info;
  const write = (x: number) => metricText(x, metric);
  return {
    kind: 'table',
    caption:
      'On the test split, once at the end of each final run, and the best on the validation split; medians over seeds',
    columns: [
      { title: 'contender' },
      numeric(`test ${metric.name}`),
      numeric('mean ± sd'),
      numeric('test loss'),
      numeric(`best validation ${metric.name}`),
      numeric('seeds'),
    ],
    rows: s.ranked.map(one => [
      one.label,
      spreadCell(one.test.metric, write),
      meanText(one.test.metric, write),
      spreadCell(one.test.loss, x => digits(x)),
      spreadCell(one.validation, write),
      String(one.test.metric.n),
    ]),
  };
}

const dimensionText = (dimension: Dimension): string =>
  dimension.scale === 'choice'
    ? `one of ${dimension.choices.join(', ')}`
    : `${dimension.low} to ${dimension.high}, ${dimension.scale}`;

const spaceText = (space: Space): string =>
  Object.entries(space)
    .map(([name, dimension]) => `${name} ${dimensionText(dimension)}`)
    .join('; ') || 'nothing';

export function settings(s: Summary): Table {
  const { experiment, families } = s.run.info;
  const finalOf = (contender: string) => s.finalists.filter(one => one.contender === contender);
  return {
    kind: 'table',
    caption: 'Chosen settings, and where they were looked for',
    columns: [
      { title: 'contender' },
      { title: 'family' },
      { title: 'finals with' },
      { title: 'looked for in' },
      numeric('trials'),
      numeric('reached the target'),
      numeric('steps of the best'),
    ],
    rows: s.tuned.map(({ contender, label, space, trials, best }) => {
      const finals = finalOf(contender);
      const chosen = finals.map(({ setting, schedule }) => `${settingText(setting)}, ${schedule}`).join(' / ');
      const fewest = best?.reached == null ? null : best.checks[best.reached]!.step;
      return [
        label,
        families[contender]!,
        chosen || '–',
        experiment.tuning.trials === 0 ? 'not tuned' : space === null ? 'not recorded' : spaceText(space),
        `${trials.length} of ${experiment.tuning.trials}`,
        String(trials.filter(({ reached }) => reached !== null).length),
        fewest === null ? '–' : whole(fewest),
      ];
    }),
  };
}

export function diverged(s: Summary): Table | null {
  const { labels } = s.run.info;
  const gone = s.run.trials.filter(({ outcome }) => outcome === 'diverged');
  if (gone.length === 0) return null;
  return {
    kind: 'table',
    caption: 'Runs that diverged; what was measured before counts',
    columns: [
      { title: 'contender' },
      { title: 'stage' },
      { title: 'setting' },
      numeric('seed'),
      numeric('at step'),
      { title: 'reason' },
    ],
    rows: gone.map(({ contender, stage, setting, schedule, seed, steps, reason }) => [
      labels[contender]!,
      stage,
      `${settingText(setting)}, ${schedule}`,
      String(seed),
      whole(steps),
      reason ?? 'no reason recorded',
    ]),
  };
}

export function phases(s: Summary): Table {
  const names = phaseNames(s);
  return {
    kind: 'table',
    caption: 'CPU milliseconds a step by phase, medians over seeds; evaluations are spread over the steps',
    columns: [{ title: 'contender' }, ...names.map(numeric)],
    rows: s.ranked.map(one => {
      const found = phasesOf(one);
      return [one.label, ...names.map(name => (found[name] === undefined ? '–' : digits(found[name])))];
    }),
  };
}

/** Null where no optimizer reports what is inside of its step. */
export function inside(s: Summary): Table | null {
  const reporting = s.ranked.filter(({ runs }) => runs.some(({ inside, steps }) => inside !== null && steps > 0));
  if (reporting.length === 0) return null;
  const names = [...new Set(reporting.flatMap(({ runs }) => runs.flatMap(({ inside }) => Object.keys(inside ?? {}))))];
  return {
    kind: 'table',
    caption: 'Milliseconds a step by the clock inside of optimizers that report it, medians over seeds',
    columns: [{ title: 'contender' }, ...names.map(numeric)],
    rows: reporting.map(({ label, runs }) => [
      label,
      ...names.map(name =>
        digits(
          median(
            runs.flatMap(({ inside, steps }) => (inside === null || steps === 0 ? [] : [(inside[name] ?? 0) / steps])),
          ),
        ),
      ),
    ]),
  };
}
