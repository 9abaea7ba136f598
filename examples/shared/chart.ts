/**
 * A chart of several runs as one SVG, three panels side by side: training loss and test accuracy against epochs, and accuracy
 * against seconds, with a legend that says when each reached the target. Drawn by Observable Plot on linkedom's document, so no browser is needed.
 */

import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import { type Check, percent, type Run, reached } from './run.ts';

export type ChartOptions = {
  title: string;
  subtitle: string;
  /** A test accuracy, 0 … 1. */
  target: number;
  /** Steps that a point of the loss curve averages; defaults to 21. */
  smoothing?: number;
};

const FONT = 'system-ui, -apple-system, "Segoe UI", "Helvetica Neue", "DejaVu Sans", Arial, sans-serif';
const [WIDTH, HEIGHT, MARGIN] = [1280, 500, 28];
const PANEL = { width: 408, height: 366, y: 116, marginTop: 34, marginLeft: 52, marginRight: 14, marginBottom: 44 };
const [INK, MUTED] = ['#222222', '#666666'];

export function chart(runs: readonly Run[], o: ChartOptions): string {
  const { document } = parseHTML('<!doctype html><html><body></body></html>');
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family='${FONT}' fill="${INK}">
<rect width="${WIDTH}" height="${HEIGHT}" fill="#ffffff"/>
<text x="${MARGIN}" y="36" font-size="20" font-weight="600">${escapeXml(o.title)}</text>
<text x="${MARGIN}" y="57" font-size="12.5" fill="${MUTED}">${escapeXml(o.subtitle)}</text>
${legend(runs, o.target)}
${place(lossPanel(document, runs, o.smoothing ?? 21), 0)}
${place(accuracyPanel(document, runs, o.target, 'epoch'), 1)}
${place(accuracyPanel(document, runs, o.target, 'seconds'), 2)}
</svg>
`;
}

/** One column a run: a stroke of its colour, its name, and when it reached the target. */
function legend(runs: readonly Run[], target: number): string {
  const column = Math.min(300, (WIDTH - 2 * MARGIN) / runs.length);
  return runs
    .map((run, i) => {
      const x = MARGIN + i * column;
      const hit = reached(run, target);
      const note = hit
        ? `${percent(target)} after ${hit.epoch.toFixed(2)} epochs, ${hit.seconds.toFixed(2)} s`
        : `did not reach ${percent(target)}`;
      return `<g><line x1="${x}" x2="${x + 18}" y1="83.5" y2="83.5" stroke="${run.color}" stroke-width="3.5" stroke-linecap="round"/>
<text x="${x + 27}" y="88" font-size="14" font-weight="600">${escapeXml(run.name)}</text>
<text x="${x + 27}" y="105" font-size="12" fill="${MUTED}">${escapeXml(note)}</text></g>`;
    })
    .join('\n');
}

type Panel = ReturnType<typeof Plot.plot>;

/** What panels have on their x axis: a field of the checks. */
type Along = 'epoch' | 'seconds';

/** Options that all panels share. */
function frame(document: unknown, runs: readonly Run[], along: Along) {
  const { y: _, ...size } = PANEL;
  // A run that ended at once leaves an axis too.
  const last = Math.max(...runs.map(({ checks }) => checks.at(-1)?.[along] ?? 0)) || 1;
  return {
    ...size,
    document: document as NonNullable<Plot.PlotOptions['document']>,
    style: { fontSize: '12px' },
    x: {
      label: along === 'epoch' ? 'epochs' : 'seconds of training',
      domain: [0, last],
      ticks: along === 'epoch' ? Math.min(10, Math.ceil(last)) : 8,
      tickSize: 0,
      labelArrow: 'none',
      labelAnchor: 'center',
    },
    r: { type: 'identity' },
  } as const;
}

const CURVE = { strokeWidth: 2, strokeLinejoin: 'round', strokeLinecap: 'round' } as const;
/** The x axis, drawn thinner than the curves. */
const BASELINE = Plot.frame({ anchor: 'bottom', stroke: MUTED });
/** 300, 100, 30, 10, …: about evenly spaced on a log scale. */
const LOG_TICKS = Array.from({ length: 10 }, (_, i) => [3, 1].map(digit => Number(`${digit}e${2 - i}`))).flat();

function lossPanel(document: unknown, runs: readonly Run[], smoothing: number): Panel {
  const curves = runs.map(({ losses, color }) => ({ color, losses: smooth(losses, smoothing) }));
  const all = curves.flatMap(({ losses }) => losses.map(({ loss }) => loss)).filter(loss => loss > 0);
  const [low, high] = all.length === 0 ? [0.1, 1] : [Math.min(...all), Math.max(...all)];
  // From tick to tick, so that no curve ends on the frame.
  const domain = [LOG_TICKS.find(tick => tick < low) ?? low, LOG_TICKS.findLast(tick => tick > high) ?? high];
  const ticks = LOG_TICKS.filter(tick => tick >= domain[0]! && tick <= domain[1]!);
  return Plot.plot({
    ...frame(document, runs, 'epoch'),
    y: { type: 'log', domain, label: null, grid: true, tickSize: 0, ticks, tickFormat: String },
    marks: [
      heading(`Training loss in nats (mean of ${smoothing} steps, log scale)`),
      BASELINE,
      ...curves.map(({ color, losses }) => Plot.lineY(losses, { x: 'epoch', y: 'loss', stroke: color, ...CURVE })),
    ],
  });
}

/** Each loss replaced by the mean of up to `width` around it, fewer at the ends. */
function smooth(losses: Run['losses'], width: number): { epoch: number; loss: number }[] {
  return losses.map(({ epoch }, i) => {
    const near = losses.slice(Math.max(0, i - Math.floor(width / 2)), i + Math.ceil(width / 2));
    return { epoch, loss: near.reduce((sum, { loss }) => sum + loss, 0) / near.length };
  });
}

function accuracyPanel(document: unknown, runs: readonly Run[], target: number, along: Along): Panel {
  const hits = runs.flatMap(run => {
    const hit = reached(run, target);
    return hit ? [{ ...hit, color: run.color }] : [];
  });
  // Where several coincide, the first are the outer rings.
  const radius = (hit: Check, i: number) =>
    4.5 + 2.5 * hits.slice(i + 1).filter(later => later[along] === hit[along]).length;
  const domain = accuracyRange(runs, target);
  return Plot.plot({
    ...frame(document, runs, along),
    y: {
      domain,
      label: null,
      grid: true,
      tickSize: 0,
      ticks: 6,
      tickFormat: (share: number) => `${+(100 * share).toFixed(1)}`,
    },
    marks: [
      heading(`Test accuracy in %${along === 'seconds' ? ' by the clock' : ''} (dashed: target ${percent(target)})`),
      BASELINE,
      Plot.ruleY([target], { stroke: INK, strokeDasharray: '5 4' }),
      Plot.ruleX(hits, { x: along, y1: domain[0]!, y2: 'accuracy', stroke: 'color', strokeDasharray: '1.5 3' }),
      ...runs.map(run => Plot.lineY(run.checks, { x: along, y: 'accuracy', stroke: run.color, clip: true, ...CURVE })),
      Plot.dot(hits, {
        x: along,
        y: 'accuracy',
        r: hits.map(radius),
        fill: '#ffffff',
        stroke: 'color',
        strokeWidth: 2,
      }),
    ],
  });
}

/** The stretch in which the runs differ: the climb from chance to 80 % or so looks the same for all. */
function accuracyRange(runs: readonly Run[], target: number): [number, number] {
  const ends = runs.map(({ checks }) => checks.at(-1)?.accuracy ?? 0);
  const all = runs.flatMap(({ checks }) => checks.map(({ accuracy }) => accuracy));
  const low = Math.min(target - 0.1, ...ends.map(end => end - 0.1));
  return [Math.max(0, Math.floor(low * 50) / 50), Math.min(1, Math.max(target, ...all) + 0.01)];
}

/** What a panel shows, above its top left corner. */
function heading(text: string): Plot.Text {
  return Plot.text([text], { frameAnchor: 'top-left', dx: -PANEL.marginLeft + 8, dy: -24, fontSize: 13, fill: INK });
}

/** The panel without its own svg element and style sheet, moved to its place, the first of which is 0. */
function place(panel: Panel, index: number): string {
  const x = MARGIN - 8 + (index * (WIDTH - 2 * MARGIN + 16 - PANEL.width)) / 2;
  for (const style of panel.querySelectorAll('style')) style.remove();
  return `<g transform="translate(${x},${PANEL.y})" font-size="12" text-anchor="middle">${panel.innerHTML}</g>`;
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
