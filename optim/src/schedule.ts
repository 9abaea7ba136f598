/** Learning rate schedules: rules that give the rate at a step, and what applies them to an optimizer. */

import type { StateDict } from '@otimes/core';
import {
  aCount,
  aFunction,
  aNumber,
  checkArgument,
  checkOptions,
  inspect,
  isPlainObject,
  type Kind,
  received,
} from '@otimes/core/extend';
import type { Optimizer } from './optimizer.ts';
import { StateReader, scalar } from './state-dict.ts';

/** The rate at step `t` = 0, 1, …, from the rate `base` that the optimizer was made with. */
export type LrRule = (t: number, base: number) => number;

const hasLr: Kind = {
  expected: 'an optimizer, with a rate lr',
  is: v => typeof v === 'object' && v !== null && 'lr' in v && typeof v.lr === 'number',
};
/** Options of which one is needed, so that leaving all out is no choice. */
const someOptions: Kind = { expected: 'an object of options', is: isPlainObject };

/** The same rate at every step. */
export function constantLr(): LrRule {
  return (_, base) => base;
}

/** The rate times `gamma` (default 0.1) after every `stepSize` steps, as torch's StepLR. */
export function stepLr(o: { stepSize: number; gamma?: number }): LrRule {
  checkArgument('stepLr', 'options', o, someOptions);
  checkOptions('stepLr', o, { stepSize: aCount, gamma: aNumber });
  const { stepSize, gamma = 0.1 } = o;
  checkArgument('stepLr', 'stepSize', stepSize, aCount);
  return (t, base) => base * gamma ** Math.floor(t / stepSize);
}

/**
 * Half a cosine from the rate down to `etaMin` (default 0) over `tMax` steps (Loshchilov & Hutter 2017), as torch's
 * CosineAnnealingLR: beyond `tMax` it rises again.
 */
export function cosineLr(o: { tMax: number; etaMin?: number }): LrRule {
  checkArgument('cosineLr', 'options', o, someOptions);
  checkOptions('cosineLr', o, { tMax: aCount, etaMin: aNumber });
  const { tMax, etaMin = 0 } = o;
  checkArgument('cosineLr', 'tMax', tMax, aCount);
  return (t, base) => etaMin + ((base - etaMin) * (1 + Math.cos((Math.PI * t) / tMax))) / 2;
}

/**
 * A straight line from `startFactor` (default 1/3) times the rate up to the rate over `steps` steps (default 5), as
 * torch's LinearLR, and from there `after` (default `constantLr()`), which counts from 0.
 */
export function warmupLr(o: { steps?: number; startFactor?: number; after?: LrRule } = {}): LrRule {
  checkOptions('warmupLr', o, { steps: aCount, startFactor: aNumber, after: aFunction });
  const { steps = 5, startFactor = 1 / 3, after = constantLr() } = o;
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
    checkArgument('Schedule', 'optimizer', optimizer, hasLr);
    checkArgument('Schedule', 'rule', rule, aFunction);
    this.#optimizer = optimizer;
    this.#rule = rule;
    this.#base = optimizer.lr;
    this.#goTo(0, optimizer.lr);
  }

  /** The rate now. */
  get lr(): number {
    return this.#rule(this.#t, this.#base);
  }

  step(): void {
    this.#goTo(this.#t + 1, this.#base);
  }

  /** All or nothing: a rule that throws, or gives no rate, leaves schedule and optimizer as they were. */
  #goTo(t: number, base: number): void {
    const lr: unknown = this.#rule(t, base);
    if (!(typeof lr === 'number' && lr >= 0 && lr < Infinity))
      throw new RangeError(`Schedule: expected the rule to give a rate ≥ 0 at step ${t}, got ${received(lr)}`);
    this.#optimizer.lr = lr;
    this.#t = t;
    this.#base = base;
  }

  toString(): string {
    return `Schedule(step ${this.#t}, lr ${this.lr})`;
  }

  [inspect](): string {
    return this.toString();
  }

  stateDict(): StateDict {
    return { step: scalar(this.#t), base: scalar(this.#base) };
  }

  /** Goes on from such a state: the optimizer gets the rate of that step. */
  loadStateDict(state: StateDict): void {
    const reader = new StateReader('Schedule', state);
    const [t, base] = [reader.count('step'), reader.rate('base')];
    reader.finish();
    this.#goTo(t, base);
  }
}
