/** Whole steps of one network under one optimizer, with nothing else in memory: the first, plain ones, one with statistics, a later refresh. */

import type { Answer, Request, StepKind } from './child.ts';

export type WholeStep = { readonly what: string; readonly answer: Answer };

const PLAN: readonly (readonly [what: string, kind: StepKind])[] = [
  ['first step', 'refresh'],
  ['step', 'plain'],
  ['step', 'plain'],
  ['with statistics', 'statistics'],
  ['with a refresh', 'refresh'],
];

const seconds = (milliseconds: number) => `${(milliseconds / 1000).toFixed(1)} s`;

/** Makes the steps one by one, and says after each what it took: time, phases, the largest resident memory so far. */
export async function wholeSteps(
  ask: (request: Request) => Promise<Answer>,
  ofAdam: boolean,
  say: (text: string) => void,
): Promise<WholeStep[]> {
  const steps: WholeStep[] = [];
  for (const [i, [what, kind]] of PLAN.entries()) {
    // To Adam all steps are alike.
    if (ofAdam && kind === 'statistics') break;
    const answer = await ask({ steps: kind, count: 1 });
    steps.push({ what, answer });
    const { wall, cpu, phases, peak, loss } = answer;
    const parts = Object.entries(phases ?? {}).map(([phase, ms]) => `, ${phase} ${seconds(ms)}`);
    say(
      `  ${i + 1}, ${what}: ${seconds(wall)} (CPU time of all threads ${seconds(cpu)}${parts.join('')}), ` +
        `peak ${(peak / 1e9).toFixed(2)} GB, loss ${loss.toFixed(4)}`,
    );
  }
  return steps;
}
