/** A learning rate that falls when a measure stops improving. */

import type { StateDict } from '@otimes/core';
import { aNumber, anInteger, checkArgument, checkOptions, checkRange, inspect, oneOf } from '@otimes/core/extend';
import type { Optimizer } from './optimizer.ts';
import { hasLr } from './schedule.ts';
import { StateReader, scalar } from './state-dict.ts';

export type PlateauOptions = {
  /** Whether the measure should fall (default) or rise. */
  mode?: 'min' | 'max';
  /** What the rate is multiplied by; default 0.1, below 1. */
  factor?: number;
  /** Calls without an improvement that are borne; the next one lowers the rate. Default 10. */
  patience?: number;
  /** How much better than the best is an improvement; default 1e-4. */
  threshold?: number;
  /** Whether that is a part of the best (default) or a difference. */
  thresholdMode?: 'rel' | 'abs';
  /** Calls after a fall in which none counts as bad; default 0. */
  cooldown?: number;
  /** The least rate; default 0. */
  minLr?: number;
  /** A fall by no more than this is left out; default 1e-8. */
  eps?: number;
};

type Options = Required<PlateauOptions>;
const DEFAULTS: Options = {
  mode: 'min',
  factor: 0.1,
  patience: 10,
  threshold: 1e-4,
  thresholdMode: 'rel',
  cooldown: 0,
  minLr: 0,
  eps: 1e-8,
};

/**
 * Multiplies `optimizer.lr` by `factor` when `patience` calls of `step(measure)` in a row have brought no improvement, as torch's
 * ReduceLROnPlateau. The measure is a number, the loss of validation say, once an epoch. NaN is no improvement.
 */
export class ReduceLrOnPlateau {
  static readonly builtIn: string = 'ReduceLrOnPlateau';
  readonly #optimizer: Pick<Optimizer, 'lr'>;
  readonly #o: Options;
  #best: number;
  #bad = 0;
  #cooling = 0;

  constructor(optimizer: Pick<Optimizer, 'lr'>, options: PlateauOptions = {}) {
    const name = 'ReduceLrOnPlateau';
    checkArgument(name, 'optimizer', optimizer, hasLr);
    checkOptions<PlateauOptions>(name, options, {
      mode: oneOf('min', 'max'),
      factor: aNumber,
      patience: anInteger,
      threshold: aNumber,
      thresholdMode: oneOf('rel', 'abs'),
      cooldown: anInteger,
      minLr: aNumber,
      eps: aNumber,
    });
    const o = { ...DEFAULTS, ...options };
    checkRange(name, 'factor', o.factor, 0, 1);
    for (const key of ['patience', 'threshold', 'cooldown', 'minLr', 'eps'] as const)
      checkRange(name, key, o[key], 0, Infinity);
    this.#optimizer = optimizer;
    this.#o = o;
    this.#best = o.mode === 'min' ? Infinity : -Infinity;
  }

  /** The best measure so far; ±∞ before the first. */
  get best(): number {
    return this.#best;
  }

  /** Looks at the next measure; call it after the optimizer's steps of an epoch. */
  step(measure: number): void {
    checkArgument('ReduceLrOnPlateau.step', 'the measure', measure, aMeasure);
    const { factor, patience, cooldown, minLr, eps } = this.#o;
    const isBetter = this.#isBetter(measure);
    if (isBetter) this.#best = measure;
    this.#bad = isBetter ? 0 : this.#bad + 1;
    if (this.#cooling > 0) {
      this.#cooling--;
      this.#bad = 0;
    }
    if (this.#bad <= patience) return;
    const { lr } = this.#optimizer;
    const next = Math.max(lr * factor, minLr);
    if (lr - next > eps) this.#optimizer.lr = next;
    this.#cooling = cooldown;
    this.#bad = 0;
  }

  #isBetter(measure: number): boolean {
    const { mode, threshold, thresholdMode } = this.#o;
    const best = this.#best;
    if (mode === 'min') return measure < (thresholdMode === 'rel' ? best * (1 - threshold) : best - threshold);
    return measure > (thresholdMode === 'rel' ? best * (1 + threshold) : best + threshold);
  }

  /** With the rate of the optimizer, which depends on what was measured. */
  stateDict(): StateDict {
    const state: StateDict = {
      bad: scalar(this.#bad),
      cooling: scalar(this.#cooling),
      lr: scalar(this.#optimizer.lr),
    };
    if (Number.isFinite(this.#best)) state.best = scalar(this.#best);
    return state;
  }

  loadStateDict(state: StateDict): void {
    const reader = new StateReader('ReduceLrOnPlateau', state);
    const [bad, cooling, lr] = [reader.count('bad'), reader.count('cooling'), reader.rate('lr')];
    const none = this.#o.mode === 'min' ? Infinity : -Infinity;
    const best = reader.has('best') ? reader.number('best') : none;
    reader.finish();
    this.#bad = bad;
    this.#cooling = cooling;
    this.#best = best;
    this.#optimizer.lr = lr;
  }

  toString(): string {
    return `ReduceLrOnPlateau(best ${this.#best}, ${this.#bad} without improvement, lr ${this.#optimizer.lr})`;
  }

  [inspect](): string {
    return this.toString();
  }
}

const aMeasure = { ...aNumber, hint: () => 'of a tensor give loss.item(), or await loss.number()' };
