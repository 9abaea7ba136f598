/** What the demo prints of two runs: a line while it trains, their curves, and a table of all. */

import Table from 'cli-table3';

export type Run = {
  readonly losses: readonly number[];
  /** Milliseconds of each step: forward, backward, update, and the loss read. */
  readonly times: readonly number[];
  readonly parameters: number;
  /** Of the GPU, a step. */
  readonly dispatches: number;
};

export type Outcome = { readonly name: string; readonly cpu: Run; readonly gpu: Run };

/** The largest difference between both losses of a step; NaN where one is no number. */
export function distance({ cpu, gpu }: Outcome): number {
  return cpu.losses.reduce((most, loss, i) => {
    const apart = Math.abs(loss - gpu.losses[i]!);
    return apart > most || Number.isNaN(apart) ? apart : most;
  }, 0);
}

type Paint = (text: string) => string;

export function progressLine(
  name: string,
  device: string,
  losses: readonly number[],
  steps: number,
  dim: Paint,
): string {
  const filled = Math.round((20 * losses.length) / steps);
  const bar = `${'━'.repeat(filled)}${dim('─'.repeat(20 - filled))}`;
  const count = String(losses.length).padStart(String(steps).length);
  // The first step of a GPU compiles its kernels.
  const state = losses.length === 0 ? 'first step …' : `loss ${losses.at(-1)!.toFixed(4)}`;
  return `${name.padEnd(11)}  ${device}  ${bar}  ${count}/${steps}  ${state}`;
}

const BARS = '▁▂▃▄▅▆▇█';

/** Means of the losses in some 40 columns, on the scale of both runs. */
function sparkline(losses: readonly number[], low: number, high: number): string {
  const columns = Math.min(40, losses.length);
  return Array.from({ length: columns }, (_, c) => {
    const [from, to] = [c, c + 1].map(i => Math.floor((i * losses.length) / columns)) as [number, number];
    const mean = losses.slice(from, to).reduce((sum, loss) => sum + loss, 0) / (to - from);
    if (!Number.isFinite(mean)) return '?';
    return BARS[Math.min(7, Math.floor((8 * (mean - low)) / (high - low || 1)))];
  }).join('');
}

/** A line for each device: its losses as a curve, and the first and the last. */
export function curves({ cpu, gpu }: Outcome, dim: Paint): string[] {
  const all = [...cpu.losses, ...gpu.losses].filter(Number.isFinite);
  const [low, high] = [Math.min(...all), Math.max(...all)];
  return Object.entries({ CPU: cpu, GPU: gpu }).map(([device, { losses }]) => {
    const [first, last] = [losses[0]!, losses.at(-1)!].map(loss => loss.toFixed(6));
    return `  ${device}  ${dim(sparkline(losses, low, high))}  loss ${first} → ${last}`;
  });
}

const median = (times: readonly number[]) => [...times].sort((a, b) => a - b)[times.length >> 1]!;

/** A row for each model. The first step, which compiles kernels, is not counted where there are others. */
export function comparison(outcomes: readonly Outcome[]): string {
  const table = new Table({
    head: ['', 'CPU, ms a step', 'GPU, ms a step', 'times as fast', 'dispatches a step', 'largest difference'],
    colAligns: ['left', 'right', 'right', 'right', 'right', 'right'],
    style: { head: [], border: [], compact: true },
  });
  for (const outcome of outcomes) {
    const [cpu, gpu] = [outcome.cpu, outcome.gpu].map(({ times }) => median(times.length > 1 ? times.slice(1) : times));
    table.push([
      outcome.name,
      cpu!.toFixed(2),
      gpu!.toFixed(2),
      (cpu! / gpu!).toFixed(2),
      outcome.gpu.dispatches.toFixed(0),
      distance(outcome).toExponential(1),
    ]);
  }
  return table.toString();
}
