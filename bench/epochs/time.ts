/** What a step of each optimizer costs: training in turn, one refresh period each, so that disturbances hit all alike. */

import { KroneckerPreconditioner, type Phase } from '@otimes/optim';
import { type Make, Training } from './run.ts';
import type { Task } from './tasks.ts';

export type StepTime = {
  /** CPU milliseconds a step, the median of the periods. */
  readonly total: number;
  /** Wall milliseconds a step that the optimizer counts, the median of the periods; null for Adam. */
  readonly phases: Readonly<Record<Phase, number>> | null;
};

const PHASES: readonly Phase[] = ['statistics', 'refresh', 'precondition', 'rest'];

/** @param period steps from refresh to refresh; each contender makes one to warm up, and `rounds` that count */
export function stepTimes(task: Task, contenders: readonly Make[], period: number, rounds: number): StepTime[] {
  const rows = contenders.map(make => {
    const training = new Training(task, make, 0);
    return { training, steps: training.steps(), totals: [] as number[], phases: [] as Record<Phase, number>[] };
  });
  for (let round = -1; round < rounds; round++)
    for (const { training, steps, totals, phases } of rows) {
      const before = spent(training);
      let seconds = 0;
      for (let i = 0; i < period; i++) seconds += steps.next().value ?? Number.NaN;
      const after = spent(training);
      if (round < 0) continue;
      totals.push((1000 * seconds) / period);
      if (before && after) phases.push(each(phase => (after[phase] - before[phase]) / period));
    }
  return rows.map(({ totals, phases }) => ({
    total: median(totals),
    phases: phases.length === 0 ? null : each(phase => median(phases.map(p => p[phase]))),
  }));
}

function spent({ optimizer }: Training): Record<Phase, number> | null {
  return optimizer instanceof KroneckerPreconditioner ? optimizer.report().milliseconds : null;
}

const each = (value: (phase: Phase) => number) =>
  Object.fromEntries(PHASES.map(phase => [phase, value(phase)])) as Record<Phase, number>;

function median(xs: readonly number[]): number {
  return [...xs].sort((a, b) => a - b)[Math.floor(xs.length / 2)]!;
}
