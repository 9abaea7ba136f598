/** Spectra of Kronecker factors: eigenvalues by rank on a log scale, a line for each layer. */

import * as Plot from '@observablehq/plot';
import {
  AXIS,
  baseline,
  ground,
  heading,
  logScale,
  ORDERED,
  ordered,
  type Panel,
  picture,
} from '../../charts/index.ts';
import type { TrialRecord } from '../../record.ts';
import type { Block, Figure } from '../document.ts';
import type { Summary } from '../summary.ts';
import { boxSample, SMALL, short } from './style.ts';

/** Eigenvalues below so small a part of the largest are rounding, and are drawn there. */
const FLOOR = 1e-12;

type Spectra = NonNullable<TrialRecord['spectra']>;

/** First and last layers have the ends of the colours. */
const colorOf = (i: number, n: number): string =>
  ordered(n === 1 ? 0 : Math.round((i * (ORDERED.light.length - 1)) / (n - 1)));

function panel(label: string, side: 'A' | 'G', spectra: Spectra): Figure {
  const layers = spectra.map(({ path, [side]: values }, i) => {
    const sorted = [...values].sort((a, b) => b - a);
    const floor = FLOOR * (sorted[0] ?? 0);
    return {
      path,
      stroke: colorOf(i, spectra.length),
      points: sorted.flatMap((value, k) =>
        floor > 0 ? [{ rank: sorted.length === 1 ? 0 : k / (sorted.length - 1), value: Math.max(value, floor) }] : [],
      ),
    };
  });
  const all = layers.flatMap(({ points }) => points.map(({ value }) => value));
  const options: Panel = {
    ...SMALL,
    style: { fontSize: '11px' },
    x: {
      ...AXIS,
      domain: [0, 1],
      ticks: [0, 0.5, 1],
      tickFormat: (x: number) => `${100 * x}`,
      label: 'rank, %',
      labelOffset: 34,
    },
    y: {
      ...logScale(all, 5),
      label: null,
      tickSize: 0,
      tickFormat: (x: number) => (x >= 1e-3 && x < 1e4 ? String(x) : x.toExponential(0).replace('e+', 'e')),
    },
    marks: [
      heading(`${short(label, 20)}: ${side}`, { left: SMALL.marginLeft, ink: ground('ink'), dy: -18, fontSize: 12 }),
      baseline(ground('muted')),
      ...layers.map(({ path, stroke, points }) =>
        Plot.lineY(points, { x: 'rank', y: 'value', stroke, strokeWidth: 1.5, title: () => path }),
      ),
    ],
  };
  return { svg: picture(options, { title: `${label}: eigenvalues of ${side}, largest first, of each layer` }) };
}

export function spectra(s: Summary): Block[] {
  const found = s.finalists.flatMap(({ label, runs }) => {
    const record = runs.find(({ spectra }) => spectra !== null && spectra.length > 0);
    return record === undefined ? [] : [{ label, seed: record.seed, spectra: record.spectra! }];
  });
  if (found.length === 0) return [];
  const layers = Math.max(...found.map(({ spectra }) => spectra.length));
  return [
    {
      kind: 'text',
      text: `Eigenvalues of the factors A (inputs) and G (gradients of outputs) at the end of the run with seed ${found[0]!.seed}, on a log scale, from the largest on the left to the smallest; a line for each layer. What lies below ${FLOOR} of the largest, or is not positive, is drawn there.`,
    },
    {
      kind: 'figures',
      size: 'small',
      legend:
        layers > 1
          ? [
              { label: 'first layer', svg: boxSample(colorOf(0, layers)) },
              { label: 'last layer', svg: boxSample(colorOf(layers - 1, layers)) },
            ]
          : [],
      figures: found.flatMap(({ label, spectra }) => [panel(label, 'A', spectra), panel(label, 'G', spectra)]),
    },
  ];
}
