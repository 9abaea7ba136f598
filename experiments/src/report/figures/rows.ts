/** Charts with a row for each finalist: times to the target by seed, memory, time by phase. */

import * as Plot from '@observablehq/plot';
import { AXIS, ground, heading, hue, logScale, type Panel, picture } from '../../charts/index.ts';
import type { Metric } from '../../experiment.ts';
import type { Block, Figure, LegendItem } from '../document.ts';
import { digits, megabytes } from '../format.ts';
import { type Finalist, type Measure, phasesOf, type Summary } from '../summary.ts';
import { boxSample, lines, marginFor, short } from './style.ts';

const ROW = 24;

/** Of all x axes here: lines at the ticks. */
const ALONG = { ...AXIS, grid: true } as const;

/** What charts of rows share: rows are numbered, since labels may be equal. */
function frame(rows: readonly Finalist[], title: string, o: { right?: number } = {}) {
  const labels = rows.map(({ label }) => short(label, 19));
  const marginLeft = marginFor(labels);
  const size = { width: 380, height: 30 + ROW * rows.length + 38, marginTop: 30, marginBottom: 38 };
  return {
    ...size,
    marginLeft,
    marginRight: o.right ?? 14,
    style: { fontSize: '12px' },
    y: {
      type: 'band',
      domain: rows.map((_, i) => i),
      padding: 0.3,
      label: null,
      tickSize: 0,
      tickFormat: (i: number) => labels[i]!,
    },
    heading: heading(title, { left: marginLeft, ink: ground('ink'), dy: -22 }),
  } as const;
}

/** A scale from 0; a log scale where values lie too far apart for that. */
function scale(values: readonly number[], label: string) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  if (low > 0 && high > 8 * low)
    return { ...ALONG, ...logScale(values, 6), label: `${label}, log scale`, tickFormat: String };
  return { ...ALONG, domain: [0, high * 1.03 || 1], label, ticks: 5 };
}

const LABELS: Readonly<Record<Measure, string>> = {
  seconds: 'seconds (steps × time of a step)',
  steps: 'steps',
  epochs: 'epochs',
  cpu: 'CPU seconds as measured',
};

/** The test metric of each seed, and the median. */
function testDots(s: Summary): Figure {
  const { metric } = s.run.info;
  const by = metric.unit === 'share' ? 100 : 1;
  const looks = lines(s.finalists);
  const data = s.ranked.flatMap((one, row) =>
    one.runs.flatMap(({ test }) =>
      test === null ? [] : [{ row, value: by * test.metric, fill: looks.get(one)!.stroke }],
    ),
  );
  const middles = s.ranked.flatMap((one, row) =>
    one.test.metric.n === 0 ? [] : [{ row, value: by * one.test.metric.median, stroke: looks.get(one)!.stroke }],
  );
  const title = `Test ${metric.name} by seed`;
  const { heading, ...size } = frame(s.ranked, title);
  const panel: Panel = {
    ...size,
    x: testScale(
      metric,
      data.map(({ value }) => value),
    ),
    color: { type: 'identity' },
    marks: [heading, ...seedMarks(data, middles)],
  };
  return { svg: picture(panel, { title }) };
}

/** From the least to the most; where that is one value, some room on both sides. */
function around(values: readonly number[]): [number, number] {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  if (values.length === 0) return [0, 1];
  return low < high ? [low, high] : [low - 0.01 * Math.abs(low), high + 0.01 * (Math.abs(high) || 1)];
}

/** Close around the values; a log scale for errors that lie far apart, as where a run diverges. */
function testScale({ name, unit, better }: Metric, values: readonly number[]) {
  const label = `test ${name}${unit === 'share' ? ', %' : ''}`;
  const least = Math.min(...values);
  if (better === 'lower' && least > 0 && Math.max(...values) > 8 * least)
    return { ...ALONG, ...logScale(values, 5), label: `${label}, log scale`, tickFormat: shortNumber };
  return { ...ALONG, domain: around(values), label, inset: 8, ticks: 4, tickFormat: shortNumber };
}

/** 0.01, 96.5, 1e8. */
const shortNumber = (x: number): string =>
  x === 0 || (x >= 1e-3 && x < 1e5) ? String(+x.toPrecision(4)) : x.toExponential(0).replace('e+', 'e');

type Seed = { readonly row: number; readonly value: number; readonly fill: string };
type Middle = { readonly row: number; readonly value: number; readonly stroke: string };

/** A dot for each seed, a bar for the median. */
const seedMarks = (seeds: readonly Seed[], middles: readonly Middle[]) => [
  Plot.dot([...seeds], { x: 'value', y: 'row', fill: 'fill', fillOpacity: 0.55, r: 3.5 }),
  Plot.tickX([...middles], { x: 'value', y: 'row', stroke: 'stroke', strokeWidth: 2.5 }),
];

/** Times of each seed; misses are counted at the right. */
function dots(s: Summary, measure: Measure): Figure {
  const rows = s.ranked;
  const looks = lines(s.finalists);
  const hits = rows.flatMap((one, row) =>
    one.to[measure].flatMap(({ value, missed }) => (missed ? [] : [{ row, value, fill: looks.get(one)!.stroke }])),
  );
  const middles = rows.flatMap((one, row) => {
    const { n, median } = one.spreads[measure];
    return n > 0 && median < Infinity ? [{ row, value: median, stroke: looks.get(one)!.stroke }] : [];
  });
  const misses = rows.flatMap((one, row) => {
    const { misses } = one.spreads[measure];
    return misses === 0 ? [] : [{ row, text: `${misses} missed` }];
  });
  const title = `${measure === 'steps' ? 'Steps' : measure === 'epochs' ? 'Epochs' : 'Seconds'} to the target by seed`;
  const { heading, ...size } = frame(rows, title, { right: misses.length > 0 ? 62 : 14 });
  const panel: Panel = {
    ...size,
    x: scale(
      hits.map(({ value }) => value),
      LABELS[measure],
    ),
    marks: [
      heading,
      ...seedMarks(hits, middles),
      Plot.text(misses, {
        y: 'row',
        text: 'text',
        frameAnchor: 'right',
        textAnchor: 'start',
        dx: 4,
        fill: ground('ink'),
      }),
    ],
    color: { type: 'identity' },
  };
  return { svg: picture(panel, { title }) };
}

/** Bars with their numbers. */
function bars(
  s: Summary,
  title: string,
  label: string,
  of: (one: Finalist) => number,
  write: (x: number) => string,
): Figure {
  const looks = lines(s.finalists);
  const data = s.ranked.flatMap((one, row) => {
    const value = of(one);
    return Number.isFinite(value) ? [{ row, value, text: write(value), fill: looks.get(one)!.stroke }] : [];
  });
  const { heading, ...size } = frame(s.ranked, title, { right: 62 });
  const panel: Panel = {
    ...size,
    x: { ...ALONG, domain: [0, Math.max(...data.map(({ value }) => value), 0) || 1], label, ticks: 4 },
    color: { type: 'identity' },
    marks: [
      heading,
      Plot.barX(data, { x: 'value', y: 'row', fill: 'fill' }),
      Plot.text(data, { x: 'value', y: 'row', text: 'text', textAnchor: 'start', dx: 4, fill: ground('ink') }),
    ],
  };
  return { svg: picture(panel, { title }) };
}

/** In the order of a step; what else there is comes after. */
const PHASES = ['data', 'forward', 'backward', 'step', 'evaluate'];

export function phaseNames(s: Summary): string[] {
  const names = new Set(s.ranked.flatMap(one => Object.keys(phasesOf(one))));
  return [...PHASES.filter(name => names.has(name)), ...[...names].filter(name => !PHASES.includes(name)).sort()];
}

const fillOf = (name: string, i: number): string => (name === 'evaluate' ? ground('muted') : hue([5, 0, 2, 1][i] ?? i));

function phases(s: Summary): { figure: Figure; legend: LegendItem[] } {
  const names = phaseNames(s);
  const data = s.ranked.flatMap((one, row) => {
    const found = phasesOf(one);
    let end = 0;
    return names.map((name, i) => {
      const start = end;
      end += found[name] ?? 0;
      return { row, start, end, fill: fillOf(name, i) };
    });
  });
  const title = 'CPU milliseconds a step by phase';
  const { heading, ...size } = frame(s.ranked, title);
  const panel: Panel = {
    ...size,
    x: { ...ALONG, domain: [0, Math.max(...data.map(({ end }) => end), 0) || 1], label: 'milliseconds', ticks: 5 },
    color: { type: 'identity' },
    marks: [heading, Plot.barX(data, { x1: 'start', x2: 'end', y: 'row', fill: 'fill' })],
  };
  return {
    figure: { svg: picture(panel, { title }) },
    legend: names.map((name, i) => ({ label: name, svg: boxSample(fillOf(name, i)) })),
  };
}

export function timesToTarget(s: Summary): Block {
  return {
    kind: 'figures',
    size: 'wide',
    figures: [
      // Where nobody got there, there is nothing to draw.
      ...(s.ranked.some(({ spreads }) => spreads.steps.misses < spreads.steps.n)
        ? [dots(s, s.measure), dots(s, 'steps')]
        : []),
      testDots(s),
    ],
  };
}

export function costs(s: Summary): Block {
  const { figure, legend } = phases(s);
  return {
    kind: 'figures',
    size: 'wide',
    legend,
    figures: [
      figure,
      ...(s.run.timing === null
        ? []
        : [
            bars(
              s,
              `${s.run.timing.clock === 'wall' ? 'Milliseconds' : 'CPU milliseconds'} a step, in turn`,
              'milliseconds',
              one => one.stepTime?.median ?? Number.NaN,
              x => `${digits(x)} ms`,
            ),
          ]),
      bars(
        s,
        'Largest memory of the process',
        'MB',
        one => one.memory / 1e6,
        x => megabytes(1e6 * x),
      ),
    ],
  };
}
