/** Of a league: how many times the seconds of the best first-order contender others take, a row for each experiment. */

import * as Plot from '@observablehq/plot';
import { AXIS, ground, heading, hue, logScale, type Panel, picture } from '../../charts/index.ts';
import type { Block } from '../document.ts';
import type { Ratio } from '../statistics.ts';
import { marginFor, short } from './style.ts';

const ROW = 40;
const WIDTH = 760;

/** A contender, or the best of a family, and its ratio in each experiment; null where it was not measured. */
export type RatioSeries = { readonly label: string; readonly ratios: readonly (Ratio | null)[] };

type Look = { readonly stroke: string; readonly filled: boolean };

type Mark = {
  readonly row: number;
  readonly value: number;
  readonly low: number;
  readonly high: number;
  readonly bound: Ratio['bound'];
};

/** Ratios that have a value. An interval that a bound leaves open ends at the value. */
function marksOf({ ratios }: RatioSeries): Mark[] {
  return ratios.flatMap((ratio, row) => {
    if (ratio === null || ratio.value === null) return [];
    const { value, bound } = ratio;
    const [low, high] = ratio.interval ?? [value, value];
    return [{ row, value, low: low > 0 ? low : value, high: Number.isFinite(high) ? high : value, bound }];
  });
}

/** Under the heading, inside the picture: it may stand alone. */
function legend(series: readonly RatioSeries[], looks: readonly Look[], marginLeft: number): Plot.Markish[] {
  let left = 16 - marginLeft;
  return series.flatMap(({ label }, i) => {
    const { stroke, filled } = looks[i]!;
    const [dx, dy] = [left, -24];
    left += 34 + 7 * label.length;
    const place = { frameAnchor: 'top-left', dy } as const;
    return [
      Plot.dot([0], { ...place, dx, r: 4.5, stroke, strokeWidth: 1.5, fill: filled ? stroke : ground('page') }),
      Plot.text([label], { ...place, dx: dx + 12, dy: dy - 6, fontSize: 12, fill: ground('ink') }),
    ];
  });
}

/** `margin` is the ratio that counts as clearly quicker: a dotted line. `file` is the picture's name where it lies beside the document. */
export function ratioChart(
  titles: readonly string[],
  series: readonly RatioSeries[],
  { margin, file }: { margin: number; file: string },
): Block[] {
  const drawn = series.map(marksOf);
  const all = drawn.flat();
  if (all.length === 0) return [];
  const [height, top] = [ROW * titles.length, 58];
  const labels = titles.map(title => short(title, 26));
  const marginLeft = marginFor(labels);
  const looks: Look[] = series.map((_, i) => ({ stroke: hue(i === 0 ? 0 : 4), filled: i === 0 }));
  // Next to each other within a row.
  const offset = (i: number) => (i - (series.length - 1) / 2) * 15;
  const title = 'Seconds to the target over those of the best first-order contender';
  const values = [...all.flatMap(({ value, low, high }) => [value, low, high]), margin, 1];
  const panel: Panel = {
    width: WIDTH,
    height: top + height + 40,
    marginTop: top,
    marginBottom: 40,
    marginLeft,
    marginRight: 18,
    style: { fontSize: '12px' },
    x: {
      ...AXIS,
      ...logScale(values, 9),
      grid: true,
      label: 'ratio of seconds, log scale; left of 1 is quicker',
      tickFormat: String,
    },
    y: {
      type: 'band',
      domain: titles.map((_, i) => i),
      padding: 0.3,
      label: null,
      tickSize: 0,
      tickFormat: (i: number) => labels[i]!,
    },
    marks: [
      heading(title, { left: marginLeft, ink: ground('ink'), dy: -48 }),
      ...legend(series, looks, marginLeft),
      Plot.ruleX([1], { stroke: ground('ink') }),
      Plot.ruleX([margin], { stroke: ground('muted'), strokeDasharray: '2 3' }),
      ...drawn.flatMap((marks, i) => {
        const { stroke, filled } = looks[i]!;
        const dy = offset(i);
        const fill = filled ? stroke : ground('page');
        const of = (...bounds: Ratio['bound'][]) => marks.filter(({ bound }) => bounds.includes(bound));
        const arrows = (text: string, bound: Ratio['bound'], dx: number) =>
          Plot.text(of(bound), { x: 'value', y: 'row', text: () => text, dx, dy, fill: stroke, fontSize: 15 });
        return [
          Plot.ruleY(marks, { x1: 'low', x2: 'high', y: 'row', dy, stroke, strokeWidth: 1.5 }),
          arrows('→', 'at least', 14),
          arrows('←', 'at most', -14),
          Plot.dot(marks, { x: 'value', y: 'row', dy, r: 4.5, stroke, strokeWidth: 1.5, fill }),
        ];
      }),
    ],
  };
  return [
    {
      kind: 'figures',
      size: 'full',
      lead: `A dot is the geometric mean over seeds, the line its 95 % interval. An arrow: with misses the ratio is a bound, and lies further that way. Dotted: ${margin}.`,
      figures: [{ svg: picture(panel, { title }), beside: { file, alt: title } }],
    },
  ];
}
