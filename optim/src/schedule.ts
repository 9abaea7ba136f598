/** Learning rate schedules: rules that give the rate at a step, and what applies them to an optimizer. */

import type { StateDict } from '@otimes/core';
import {
  aBoolean,
  aCount,
  aFunction,
  aNumber,
  checkArgument,
  checkOptions,
  checkRange,
  inspect,
  isPlainObject,
  type Kind,
  oneOf,
  received,
} from '@otimes/core/extend';
import type { Optimizer } from './optimizer.ts';
import { StateReader, scalar } from './state-dict.ts';

/** The rate at step `t` = 0, 1, …, from the rate `base` that the optimizer was made with. */
export type LrRule = (t: number, base: number) => number;

export const hasLr: Kind = {
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

/** The rate times `gamma` after every step, as torch's ExponentialLR. */
export function exponentialLr(o: { gamma: number }): LrRule {
  checkArgument('exponentialLr', 'options', o, someOptions);
  checkOptions('exponentialLr', o, { gamma: aNumber });
  const { gamma } = o;
  checkRange('exponentialLr', 'gamma', gamma, 0, Infinity);
  return (t, base) => base * gamma ** t;
}

/** The rate times `gamma` (default 0.1) at each of the steps `milestones`, which ascend, as torch's MultiStepLR. */
export function multiStepLr(o: { milestones: readonly number[]; gamma?: number }): LrRule {
  checkArgument('multiStepLr', 'options', o, someOptions);
  checkOptions('multiStepLr', o, { milestones: someSteps, gamma: aNumber });
  checkArgument('multiStepLr', 'milestones', o.milestones, someSteps);
  const { milestones, gamma = 0.1 } = { ...o, milestones: [...o.milestones] };
  return (t, base) => base * gamma ** milestones.filter(step => step <= t).length;
}

const someSteps: Kind = {
  expected: 'steps that ascend, such as [30, 80]',
  is: v => Array.isArray(v) && v.every((n, i) => Number.isInteger(n) && n >= 0 && (i === 0 || v[i - 1] <= n)),
};

/** base · (1 − t / steps)^power, and 0 from there on, as torch's PolynomialLR; `power` defaults to 1, `steps` to 5. */
export function polynomialLr(o: { steps?: number; power?: number } = {}): LrRule {
  checkOptions('polynomialLr', o, { steps: aCount, power: aNumber });
  const { steps = 5, power = 1 } = o;
  checkRange('polynomialLr', 'power', power, 0, Infinity);
  return (t, base) => (t >= steps ? 0 : base * (1 - t / steps) ** power);
}

/**
 * Half a cosine from the rate down to `etaMin` (default 0) over `t0` steps, then from the rate again over `t0 · tMult` steps, and so on
 * (SGDR; Loshchilov & Hutter 2017, equation 5), as torch's CosineAnnealingWarmRestarts. `tMult` is an integer ≥ 1, by default 1.
 */
export function cosineRestartsLr(o: { t0: number; tMult?: number; etaMin?: number }): LrRule {
  checkArgument('cosineRestartsLr', 'options', o, someOptions);
  checkOptions('cosineRestartsLr', o, { t0: aCount, tMult: aCount, etaMin: aNumber });
  const { t0, tMult = 1, etaMin = 0 } = o;
  checkArgument('cosineRestartsLr', 't0', t0, aCount);
  return (t, base) => {
    let [start, length] = [0, t0];
    if (tMult === 1) start = Math.floor(t / t0) * t0;
    else
      while (t >= start + length) {
        start += length;
        length *= tMult;
      }
    return etaMin + ((base - etaMin) * (1 + Math.cos((Math.PI * (t - start)) / length))) / 2;
  };
}

/** Options of `oneCycleLr`. */
export type OneCycleOptions = {
  /** The highest rate. */
  maxLr: number;
  /** The steps of the whole cycle. */
  totalSteps: number;
  /** The part of it in which the rate rises; default 0.3. */
  pctStart?: number;
  /** Along half a cosine (default) or a straight line. */
  annealStrategy?: 'cos' | 'linear';
  /** The first rate is maxLr over this; default 25. */
  divFactor?: number;
  /** The last rate is the first one over this; default 1e4. */
  finalDivFactor?: number;
  /** Falls to the first rate as fast as it rose, and then to the last one; default false. */
  threePhase?: boolean;
};

/**
 * From maxLr / divFactor up to maxLr and down to nearly 0 in one cycle (Smith & Topin 2018), as torch's OneCycleLR. The rate of the
 * optimizer does not matter. Momentum is not cycled. A RangeError beyond `totalSteps`.
 */
export function oneCycleLr(o: OneCycleOptions): LrRule {
  checkArgument('oneCycleLr', 'options', o, someOptions);
  checkOptions<OneCycleOptions>('oneCycleLr', o, {
    maxLr: aNumber,
    totalSteps: aCount,
    pctStart: aNumber,
    annealStrategy: oneOf('cos', 'linear'),
    divFactor: aNumber,
    finalDivFactor: aNumber,
    threePhase: aBoolean,
  });
  const { maxLr, totalSteps, pctStart = 0.3, annealStrategy = 'cos', divFactor = 25, finalDivFactor = 1e4 } = o;
  checkRange('oneCycleLr', 'maxLr', maxLr, 0, Infinity);
  checkArgument('oneCycleLr', 'totalSteps', totalSteps, aCount);
  if (!(pctStart >= 0 && pctStart <= 1))
    throw new RangeError(`oneCycleLr: expected pctStart in [0, 1], got ${pctStart}`);
  for (const [name, value] of Object.entries({ divFactor, finalDivFactor }))
    if (!(value > 0)) throw new RangeError(`oneCycleLr: expected ${name} above 0, got ${value}`);
  const first = maxLr / divFactor;
  const [top, last] = [pctStart * totalSteps - 1, totalSteps - 1];
  const falls = [{ end: last, to: first / finalDivFactor }];
  if (o.threePhase) falls.unshift({ end: 2 * pctStart * totalSteps - 2, to: first });
  const phases = [{ end: top, to: maxLr }, ...falls];
  const curve = annealStrategy === 'cos' ? (s: number) => (1 - Math.cos(Math.PI * s)) / 2 : (s: number) => s;
  return t => {
    if (t > totalSteps) throw new RangeError(`oneCycleLr: step ${t} is beyond the ${totalSteps} of the cycle`);
    let [start, from] = [0, first];
    // After the last step the rate stays; by the curve it would be below 0, or rise again.
    const at = Math.min(t, last);
    for (const [i, { end, to }] of phases.entries()) {
      // A phase of no length, the warmup of a tenth of 10 steps say, is at its end.
      if (at <= end || i === phases.length - 1)
        return end === start ? to : from + (to - from) * curve((at - start) / (end - start));
      [start, from] = [end, to];
    }
    return from;
  };
}

/**
 * Rules one after the other: each for its `steps`, counted from 0, the last one for ever. A part of PyTorch's SequentialLR; `warmupLr`
 * is the usual first one.
 */
export function sequentialLr(rules: readonly { rule: LrRule; steps?: number }[]): LrRule {
  checkArgument('sequentialLr', 'rules', rules, someRules);
  const parts = rules.map(({ rule, steps = Infinity }) => ({ rule, steps }));
  return (t, base) => {
    let from = 0;
    for (const { rule, steps } of parts.slice(0, -1)) {
      if (t < from + steps) return rule(t - from, base);
      from += steps;
    }
    return parts.at(-1)!.rule(t - from, base);
  };
}

const someRules: Kind = {
  expected: 'a list of { rule, steps }, of which the last one may leave out steps',
  is: v =>
    Array.isArray(v) &&
    v.length > 0 &&
    v.every((one, i) => {
      if (!isPlainObject(one) || typeof one.rule !== 'function') return false;
      return (i === v.length - 1 && one.steps === undefined) || (Number.isInteger(one.steps) && Number(one.steps) > 0);
    }),
};

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
