/**
 * A chart of several runs as one SVG, three panels side by side: training loss and test accuracy against epochs, and accuracy
 * against seconds, with a legend that says when each reached the target.
 */

import * as Plot from '@observablehq/plot';
import { AXIS, baseline, CURVE, GROUND, heading, logScale, type Panel, sheet } from 'otimes-experiments/charts';
import { type Check, percent, type Run, reached } from './run.ts';

export type ChartOptions = {
  title: string;
  subtitle: string;
  /** A test accuracy, 0 … 1. */
  target: number;
  /** Steps that a point of the loss curve averages; defaults to 21. */
  smoothing?: number;
};

const [WIDTH, HEIGHT, MARGIN, HEAD] = [1280, 500, 28, 116];
const SIZE = { width: 408, height: 366, marginTop: 34, marginLeft: 52, marginRight: 14, marginBottom: 44 };
// A file of its own, which has no page around it to say what is light and what dark.
const { ink, muted, page } = GROUND.light;

export function chart(runs: readonly Run[], o: ChartOptions): string {
  const panels = [
    lossPanel(runs, o.smoothing ?? 21),
    accuracyPanel(runs, o.target, 'epoch'),
    accuracyPanel(runs, o.target, 'seconds'),
  ];
  const x = (i: number) => MARGIN - 8 + (i * (WIDTH - 2 * MARGIN + 16 - SIZE.width)) / 2;
  const placed = panels.map((panel, i) => ({ x: x(i), y: HEAD, panel }));
  return sheet([{ x: 0, y: 0, panel: head(runs, o) }, ...placed], {
    width: WIDTH,
    height: HEIGHT,
    title: `${o.title}. ${o.subtitle}`,
    ink,
    background: page,
  });
}

/** Title, subtitle, and a column for each run: a stroke of its colour, its name, and when it reached the target. */
function head(runs: readonly Run[], { title, subtitle, target }: ChartOptions): Panel {
  const column = Math.min(300, (WIDTH - 2 * MARGIN) / runs.length);
  const columns = runs.map((run, i) => {
    const x = MARGIN + i * column;
    const hit = reached(run, target);
    const note = hit
      ? `${percent(target)} after ${hit.epoch.toFixed(2)} epochs, ${hit.seconds.toFixed(2)} s`
      : `did not reach ${percent(target)}`;
    return { stroke: [x, x + 18], text: x + 27, name: run.name, color: run.color, note };
  });
  const place = { x: 'text', textAnchor: 'start', lineAnchor: 'bottom' } as const;
  return {
    width: WIDTH,
    height: HEAD,
    margin: 0,
    axis: null,
    // Pixels from the top left corner.
    x: { type: 'identity' },
    y: { type: 'identity' },
    marks: [
      Plot.text([title], { ...place, x: [MARGIN], y: [40], fontSize: 20, fontWeight: 600 }),
      Plot.text([subtitle], {
        ...{ ...place, x: [MARGIN], y: [48], lineAnchor: 'top', fontSize: 12, fill: muted },
        // In em by Plot's estimate, which is low for wide fonts.
        lineWidth: (0.85 * (WIDTH - 2 * MARGIN)) / 12,
      }),
      ...columns.map(({ stroke, color }) =>
        Plot.link([stroke], { x1: '0', x2: '1', y1: 83.5, y2: 83.5, ...CURVE, stroke: color, strokeWidth: 3.5 }),
      ),
      Plot.text(columns, { ...place, y: () => 91, text: 'name', fontSize: 14, fontWeight: 600 }),
      Plot.text(columns, { ...place, y: () => 108, text: 'note', fontSize: 12, fill: muted }),
    ],
  };
}

/** What panels have on their x axis: a field of the checks. */
type Along = 'epoch' | 'seconds';

/** Options that all panels share. */
function frame(runs: readonly Run[], along: Along) {
  // A run that ended at once leaves an axis too.
  const last = Math.max(...runs.map(({ checks }) => checks.at(-1)?.[along] ?? 0)) || 1;
  return {
    ...SIZE,
    style: { fontSize: '12px' },
    x: {
      ...AXIS,
      label: along === 'epoch' ? 'epochs' : 'seconds of training',
      domain: [0, last],
      ticks: along === 'epoch' ? Math.min(10, Math.ceil(last)) : 8,
    },
    r: { type: 'identity' },
  } as const;
}

const above = (text: string) => heading(text, { left: SIZE.marginLeft, ink });

function lossPanel(runs: readonly Run[], smoothing: number): Panel {
  const curves = runs.map(({ losses, color }) => ({ color, losses: smooth(losses, smoothing) }));
  const all = curves.flatMap(({ losses }) => losses.map(({ loss }) => loss));
  return {
    ...frame(runs, 'epoch'),
    y: { ...logScale(all), label: null, grid: true, tickSize: 0, tickFormat: String },
    marks: [
      above(`Training loss in nats (mean of ${smoothing} steps, log scale)`),
      baseline(muted),
      ...curves.map(({ color, losses }) => Plot.lineY(losses, { x: 'epoch', y: 'loss', stroke: color, ...CURVE })),
    ],
  };
}

/** Each loss replaced by the mean of up to `width` around it, fewer at the ends. */
function smooth(losses: Run['losses'], width: number): { epoch: number; loss: number }[] {
  return losses.map(({ epoch }, i) => {
    const near = losses.slice(Math.max(0, i - Math.floor(width / 2)), i + Math.ceil(width / 2));
    return { epoch, loss: near.reduce((sum, { loss }) => sum + loss, 0) / near.length };
  });
}

function accuracyPanel(runs: readonly Run[], target: number, along: Along): Panel {
  const hits = runs.flatMap(run => {
    const hit = reached(run, target);
    return hit ? [{ ...hit, color: run.color }] : [];
  });
  // Where several coincide, the first are the outer rings.
  const radius = (hit: Check, i: number) =>
    4.5 + 2.5 * hits.slice(i + 1).filter(later => later[along] === hit[along]).length;
  const domain = accuracyRange(runs, target);
  return {
    ...frame(runs, along),
    y: {
      domain,
      label: null,
      grid: true,
      tickSize: 0,
      ticks: 6,
      tickFormat: (share: number) => `${+(100 * share).toFixed(1)}`,
    },
    marks: [
      above(`Test accuracy in %${along === 'seconds' ? ' by the clock' : ''} (dashed: target ${percent(target)})`),
      baseline(muted),
      Plot.ruleY([target], { stroke: ink, strokeDasharray: '5 4' }),
      Plot.ruleX(hits, { x: along, y1: domain[0]!, y2: 'accuracy', stroke: 'color', strokeDasharray: '1.5 3' }),
      ...runs.map(run => Plot.lineY(run.checks, { x: along, y: 'accuracy', stroke: run.color, clip: true, ...CURVE })),
      Plot.dot(hits, {
        x: along,
        y: 'accuracy',
        r: hits.map(radius),
        fill: page,
        stroke: 'color',
        strokeWidth: 2,
      }),
    ],
  };
}

/** The stretch in which the runs differ: the climb from chance to 80 % or so looks the same for all. */
function accuracyRange(runs: readonly Run[], target: number): [number, number] {
  const ends = runs.map(({ checks }) => checks.at(-1)?.accuracy ?? 0);
  const all = runs.flatMap(({ checks }) => checks.map(({ accuracy }) => accuracy));
  const low = Math.min(target - 0.1, ...ends.map(end => end - 0.1));
  return [Math.max(0, Math.floor(low * 50) / 50), Math.min(1, Math.max(target, ...all) + 0.01)];
}
