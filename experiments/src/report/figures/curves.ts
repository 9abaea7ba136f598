/** Training loss and validation metric against steps, epochs and CPU seconds: medians over seeds, and bands from least to most. */

import * as Plot from '@observablehq/plot';
import { AXIS, baseline, CURVE, ground, heading, logScale, type Panel, picture } from '../../charts/index.ts';
import type { Metric } from '../../experiment.ts';
import { median } from '../../quantile.ts';
import type { Check } from '../../record.ts';
import type { Block, Figure } from '../document.ts';
import { targetText } from '../format.ts';
import { bestOf, type Finalist, type Summary } from '../summary.ts';
import { FAMILIES, type Line, legendOf, lines, SMALL, short, WIDE } from './style.ts';

type Point = {
  readonly step: number;
  readonly epoch: number;
  readonly cpu: number;
  readonly y: number;
  readonly low: number;
  readonly high: number;
};
type What = 'loss' | 'metric';
type Along = 'step' | 'epoch' | 'cpu';
type Curve = { readonly one: Finalist; readonly line: Line; readonly points: readonly Point[] };

const readingOf = (what: What) => (check: Check) => (what === 'loss' ? check.trainLoss : check.validation.metric);

/** One point for each step at which a seed was looked at. */
function points({ runs }: Finalist, what: What): Point[] {
  const bySteps = new Map<number, Check[]>();
  for (const { checks } of runs)
    for (const check of checks) bySteps.set(check.step, [...(bySteps.get(check.step) ?? []), check]);
  return [...bySteps]
    .sort(([a], [b]) => a - b)
    .flatMap(([step, checks]) => {
      const values = checks.map(readingOf(what)).filter(Number.isFinite);
      if (values.length === 0) return [];
      const cpu = median(checks.map(({ cpuSeconds }) => cpuSeconds));
      const { epoch } = checks[0]!;
      return [{ step, epoch, cpu, y: median(values), low: Math.min(...values), high: Math.max(...values) }];
    });
}

/** The scale of losses: up to ten times what they begin with, so that a run that diverges does not squeeze the others. */
function lossScale(curves: readonly Curve[], ticks: number) {
  const first = median(curves.flatMap(({ points }) => points.slice(0, 1).map(({ y }) => y)));
  const all = curves.flatMap(({ points }) => points.map(({ y }) => y)).filter(y => !(y > 10 * first));
  return { ...logScale(all, ticks), tickFormat: String };
}

/** The stretch of the metric in which runs differ, the target in the middle or so; a log scale where less is better. */
function metricScale(curves: readonly Curve[], metric: Metric, target: number, ticks: number) {
  const all = curves.flatMap(({ points }) => points.map(({ y }) => y));
  if (metric.better === 'lower') {
    const first = median(curves.flatMap(({ points }) => points.slice(0, 1).map(({ y }) => y)));
    return { ...logScale([target, ...all.filter(y => !(y > 10 * first))], ticks), tickFormat: String };
  }
  const [top, bottom] = [Math.max(target, ...all), Math.min(target, ...all)];
  const end = median(curves.flatMap(({ points }) => points.slice(-1).map(({ y }) => y)));
  const room = Math.max(top - target, (target - bottom) / 20);
  const low = Math.max(bottom, Math.min(target - 1.5 * room, (Number.isNaN(end) ? target : end) - 0.5 * room));
  const share = metric.unit === 'share';
  return {
    domain: [low - 0.02 * (top - low || 1), top + 0.04 * (top - low || 1)] as [number, number],
    ticks: ticks - 2,
    tickFormat: (y: number) => (share ? String(+(100 * y).toFixed(1)) : String(+y.toPrecision(4))),
  };
}

/** To where the last contender that gets there has reached the target, and a quarter more; all of it where one does not. */
function secondsShown(curves: readonly Curve[]): number {
  const ends = curves.map(({ points }) => points.at(-1)?.cpu ?? 0);
  const hits = curves.map(({ one }) => one.spreads.cpu.median);
  const most = Math.max(0, ...ends);
  return hits.every(Number.isFinite) ? Math.min(most, 1.25 * Math.max(0, ...hits)) || most : most;
}

const ALONG: Readonly<Record<Along, readonly [heading: string, axis: string, small: string]>> = {
  step: ['steps', 'steps', 'steps'],
  epoch: ['epochs', 'epochs', 'epochs'],
  cpu: ['CPU seconds', 'CPU seconds of training', 'CPU s'],
};

function headingOf(what: What, along: Along, s: Summary): string {
  const { metric } = s.run.info;
  const name = what === 'loss' ? 'Training loss' : `Validation ${metric.name}`;
  const scale = what === 'loss' || metric.better === 'lower' ? ', log scale' : metric.unit === 'share' ? ', %' : '';
  return `${name} by ${ALONG[along][0]}${scale}`;
}

type Drawn = { readonly what: What; readonly along: Along; readonly of?: Curve; readonly bands: boolean };

/** One chart of all curves, or of one with the others behind it. */
function chart(s: Summary, curves: readonly Curve[], { what, along, of, bands }: Drawn): Figure {
  const { metric, experiment } = s.run.info;
  const size = of === undefined ? WIDE : SMALL;
  const wide = of === undefined;
  const last =
    along === 'cpu' ? secondsShown(curves) : Math.max(0, ...curves.map(({ points }) => points.at(-1)?.[along] ?? 0));
  const ticks = wide ? 7 : 5;
  const y = what === 'loss' ? lossScale(curves, ticks) : metricScale(curves, metric, experiment.target, ticks);
  const title = wide ? headingOf(what, along, s) : short(of.one.label, 24);
  const draw = ({ line, points, one }: Curve, faint = false) =>
    Plot.lineY([...points], {
      x: along,
      y: 'y',
      ...CURVE,
      ...(faint ? { stroke: ground('line'), strokeWidth: 1 } : { ...line, title: () => one.label }),
      clip: true,
    });
  const band = ({ line, points }: Curve) =>
    Plot.areaY([...points], { x: along, y1: 'low', y2: 'high', fill: line.stroke, fillOpacity: 0.16, clip: true });
  const shown = of === undefined ? curves : [of];
  const panel: Panel = {
    ...size,
    style: { fontSize: wide ? '12px' : '11px' },
    x: {
      ...AXIS,
      label: ALONG[along][wide ? 1 : 2],
      ...(!wide && { labelOffset: 34 }),
      domain: [0, last || 1],
      ticks: wide ? 6 : 3,
    },
    y: { ...y, label: null, grid: true, tickSize: 0 },
    marks: [
      heading(title, { left: size.marginLeft, ink: ground('ink'), dy: wide ? -24 : -18, fontSize: wide ? 13 : 12 }),
      baseline(ground('muted')),
      ...(what === 'metric'
        ? [Plot.ruleY([experiment.target], { stroke: ground('ink'), strokeDasharray: '2 3', strokeWidth: 1.25 })]
        : []),
      ...(of === undefined ? [] : curves.filter(curve => curve !== of).map(curve => draw(curve, true))),
      ...(bands ? shown.map(band) : []),
      ...shown.map(curve => draw(curve)),
    ],
  };
  return { svg: picture(panel, { title: wide ? title : `${of.one.label}: ${headingOf(what, along, s)}` }) };
}

/** Both by steps, epochs and seconds of all finalists, then one chart for each of these. */
export function curves(s: Summary): Block[] {
  const looks = lines(s.finalists);
  const of = (what: What): Curve[] =>
    s.finalists.map(one => ({ one, line: looks.get(one)!, points: points(one, what) }));
  const [losses, metrics] = [of('loss'), of('metric')];
  const bands = s.finalists.length <= 6;
  const { metric, experiment } = s.run.info;
  const target = targetText(experiment.target, metric);
  const best = bestOf(
    metrics.flatMap(({ points }) => points.map(({ y }) => y)),
    metric,
  );
  if (Number.isNaN(best)) return [];
  const ranked = s.ranked.map(one => metrics.find(curve => curve.one === one)!);
  const small = (along: Along) =>
    ranked.map(curve => chart(s, metrics, { what: 'metric', along, of: curve, bands: true }));
  return [
    {
      kind: 'text',
      text: `Medians over seeds${bands ? ', bands from the least to the most' : '; bands from the least to the most are in the small charts below'}. ${FAMILIES} The dotted level is the target, ${target}.`,
    },
    {
      kind: 'figures',
      size: 'wide',
      legend: legendOf(s.finalists, looks),
      figures: [
        ...(['step', 'epoch', 'cpu'] as const).map(along => chart(s, metrics, { what: 'metric', along, bands })),
        ...(['step', 'epoch', 'cpu'] as const).map(along => chart(s, losses, { what: 'loss', along, bands })),
      ],
    },
    { kind: 'heading', text: `Validation ${metric.name}, each contender before the others: by steps` },
    { kind: 'figures', size: 'small', figures: small('step') },
    { kind: 'heading', text: `Validation ${metric.name}, each contender before the others: by CPU seconds` },
    { kind: 'figures', size: 'small', figures: small('cpu') },
  ];
}
