/** Learning rate schedules: rules that give the rate at a step, and what applies them to an optimizer. */

import type { StateDict } from '@otimes/core';
import type { Optimizer } from './optimizer.ts';
import { StateReader, scalar } from './state-dict.ts';

/** The rate at step `t` = 0, 1, …, from the rate `base` that the optimizer was made with. */
export type LrRule = (t: number, base: number) => number;

function checkSteps(name: string, option: string, value: number): void {
  if (!Number.isInteger(value) || value < 1)
    throw new RangeError(`${name}: expected ${option} to be an integer ≥ 1, got ${value}`);
}

/** The same rate at every step. */
export function constantLr(): LrRule {
  return (_, base) => base;
}

/** The rate times `gamma` (default 0.1) after every `stepSize` steps, as torch's StepLR. */
export function stepLr({ stepSize, gamma = 0.1 }: { stepSize: number; gamma?: number }): LrRule {
  checkSteps('stepLr', 'stepSize', stepSize);
  return (t, base) => base * gamma ** Math.floor(t / stepSize);
}

/**
 * Half a cosine from the rate down to `etaMin` (default 0) over `tMax` steps (Loshchilov & Hutter 2017), as torch's
 * CosineAnnealingLR: beyond `tMax` it rises again.
 */
export function cosineLr({ tMax, etaMin = 0 }: { tMax: number; etaMin?: number }): LrRule {
  checkSteps('cosineLr', 'tMax', tMax);
  return (t, base) => etaMin + ((base - etaMin) * (1 + Math.cos((Math.PI * t) / tMax))) / 2;
}

/**
 * A straight line from `startFactor` (default 1/3) times the rate up to the rate over `steps` steps (default 5), as
 * torch's LinearLR, and from there `after` (default `constantLr()`), which counts from 0.
 */
export function warmupLr({
  steps = 5,
  startFactor = 1 / 3,
  after = constantLr(),
}: {
  steps?: number;
  startFactor?: number;
  after?: LrRule;
} = {}): LrRule {
  checkSteps('warmupLr', 'steps', steps);
  if (!(startFactor >= 0 && startFactor <= 1))
    throw new RangeError(`warmupLr: expected startFactor in [0, 1], got ${startFactor}`);
  return (t, base) => (t < steps ? base * (startFactor + ((1 - startFactor) * t) / steps) : after(t - steps, base));
}

/** Sets `optimizer.lr` by a rule: at once for step 0, then once a `step()`, which is called after the optimizer's. */
export class Schedule {
  readonly #optimizer: Pick<Optimizer, 'lr'>;
  readonly #rule: LrRule;
  #base: number;
  #t = 0;

  constructor(optimizer: Pick<Optimizer, 'lr'>, rule: LrRule) {
    this.#optimizer = optimizer;
    this.#rule = rule;
    this.#base = optimizer.lr;
    this.#apply();
  }

  /** The rate now. */
  get lr(): number {
    return this.#rule(this.#t, this.#base);
  }

  step(): void {
    this.#t++;
    this.#apply();
  }

  #apply(): void {
    this.#optimizer.lr = this.lr;
  }

  stateDict(): StateDict {
    return { step: scalar(this.#t), base: scalar(this.#base) };
  }

  /** Goes on from such a state: the optimizer gets the rate of that step. */
  loadStateDict(state: StateDict): void {
    const reader = new StateReader('Schedule', state);
    const [t, base] = [reader.number('step'), reader.number('base')];
    reader.finish();
    this.#t = t;
    this.#base = base;
    this.#apply();
  }
}
