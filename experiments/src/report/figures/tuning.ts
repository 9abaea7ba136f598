/** Tuning: each trial's steps to the target by its learning rate, and whether the best lies at the edge of where it was looked for. */

import * as Plot from '@observablehq/plot';
import { AXIS, baseline, ground, heading, logScale, type Panel, picture } from '../../charts/index.ts';
import type { Dimension } from '../../experiment.ts';
import type { TrialRecord } from '../../record.ts';
import type { Block, Figure } from '../document.ts';
import type { Summary, Tuned } from '../summary.ts';
import { lines, SMALL, short } from './style.ts';

const stepsTo = ({ reached, checks }: TrialRecord): number => (reached === null ? Infinity : checks[reached]!.step);

/** 1e-4, 0.001, 0.1. */
const rateText = (x: number): string => (x < 1e-3 ? x.toExponential(0) : String(x));

type Range = Exclude<Dimension, { scale: 'choice' }>;

/** Where a value lies in its range, 0 at the lower and 1 at the upper end, on its scale. */
export function positionIn({ scale, low, high }: Range, value: number): number {
  const by = scale === 'log' ? Math.log : (x: number) => x;
  return high === low ? 0.5 : (by(value) - by(low)) / (by(high) - by(low));
}

/** The part of a range that counts as its edge. */
const EDGE = 0.1;

/** Sentences on best trials within a tenth of an end of their range, on its scale; none where there were no choices. */
export function edges(tuned: readonly Tuned[]): string[] {
  return tuned.flatMap(({ label, space, best, trials }) => {
    if (best === null || space === null || trials.length < 2) return [];
    return Object.entries(space).flatMap(([name, dimension]) => {
      const value = best.setting[name];
      if (dimension.scale === 'choice' || typeof value !== 'number') return [];
      const at = positionIn(dimension, value);
      if (at > EDGE && at < 1 - EDGE) return [];
      const end = at <= EDGE ? 'lower' : 'upper';
      return [
        `${label}: its best ${name}, ${+value.toPrecision(3)}, lies within ${100 * EDGE} % of the ${end} end of ${dimension.low} to ${dimension.high}. A better one may lie beyond.`,
      ];
    });
  });
}

function panel(s: Summary, { label, contender, trials, best, space }: Tuned, y: ReturnType<typeof logScale>): Figure {
  const range = space?.lr;
  const ends = range !== undefined && range.scale !== 'choice' ? [range.low, range.high] : [];
  const look = lines(s.finalists);
  const stroke = [...look].find(([one]) => one.contender === contender)?.[1].stroke ?? ground('ink');
  const first = s.run.info.experiment.schedules[0];
  const data = trials.flatMap(trial => {
    const { lr } = trial.setting;
    if (typeof lr !== 'number') return [];
    const steps = stepsTo(trial);
    const missed = steps === Infinity;
    return [{ lr, steps, missed, best: trial === best, filled: trial.schedule === first }];
  });
  const rates = [...data.map(({ lr }) => lr), ...ends];
  const [low, high] = [Math.min(...rates) / 1.6, Math.max(...rates) * 1.6];
  const from = Math.ceil(Math.log10(low));
  const decades = Array.from({ length: Math.floor(Math.log10(high)) - from + 1 }, (_, i) => Number(`1e${from + i}`));
  const ticks = decades.filter((_, i) => i % Math.ceil(decades.length / 4) === 0);
  const options: Panel = {
    ...SMALL,
    style: { fontSize: '11px' },
    x: { ...AXIS, type: 'log', domain: [low, high], ticks, label: 'lr', labelOffset: 34, tickFormat: rateText },
    // Room for what missed, above all that did not.
    y: { ...y, insetTop: 14, label: null, tickSize: 0, tickFormat: (tick: number) => tick.toLocaleString('en-US') },
    marks: [
      heading(short(label, 24), { left: SMALL.marginLeft, ink: ground('ink'), dy: -18, fontSize: 12 }),
      Plot.gridY(y.ticks, { stroke: ground('line'), strokeOpacity: 1 }),
      baseline(ground('muted')),
      Plot.ruleX(ends, { stroke: ground('muted'), strokeDasharray: '2 3' }),
      Plot.dot(
        data.filter(({ missed }) => missed),
        { x: 'lr', frameAnchor: 'top', dy: 4, symbol: 'times', stroke: ground('muted'), strokeWidth: 1.5, r: 3 },
      ),
      Plot.dot(
        data.filter(({ missed, filled }) => !missed && filled),
        { x: 'lr', y: 'steps', fill: stroke, r: 3.5 },
      ),
      Plot.dot(
        data.filter(({ missed, filled }) => !missed && !filled),
        { x: 'lr', y: 'steps', stroke, strokeWidth: 1.5, fill: ground('page'), r: 3.5 },
      ),
      Plot.dot(
        data.filter(({ best, missed }) => best && missed),
        { x: 'lr', frameAnchor: 'top', dy: 4, stroke: ground('ink'), strokeWidth: 1.5, r: 7 },
      ),
      Plot.dot(
        data.filter(({ best, missed }) => best && !missed),
        { x: 'lr', y: 'steps', stroke: ground('ink'), strokeWidth: 1.5, r: 7 },
      ),
    ],
  };
  return { svg: picture(options, { title: `${label}: steps to the target by learning rate, tuning` }) };
}

export function tuningCharts(s: Summary): Block[] {
  const shown = s.tuned.filter(({ trials }) => trials.some(({ setting }) => typeof setting.lr === 'number'));
  if (shown.length === 0) return [];
  const steps = shown.flatMap(({ trials }) => trials.map(stepsTo)).filter(Number.isFinite);
  const { schedules, epochs } = s.run.info.experiment;
  const y = logScale(steps.length > 0 ? steps : [epochs * s.run.info.stepsPerEpoch], 5);
  const marks = schedules.length > 1 ? `, filled with the schedule ${schedules[0]}, hollow with others` : '';
  return [
    {
      kind: 'figures',
      size: 'small',
      lead: `Steps to the target of each trial over its learning rate, both on log scales${marks}. A ring: the chosen one. ×, at the top: the target was missed. Dotted: the ends of the range.`,
      figures: shown.map(one => panel(s, one, y)),
    },
  ];
}
