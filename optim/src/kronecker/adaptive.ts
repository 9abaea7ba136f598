/**
 * Damping that follows how well the curvature predicts the loss: the Levenberg–Marquardt rule of Martens & Grosse (2015), §6.5.
 * Nothing here keeps state: λ is the optimizer's.
 */

import { aCount, aNumber, checkOptions, checkRange, type Kind } from '@otimes/core/extend';

/** What changes λ: `adaptiveDamping()`, or an object of the program. */
export interface DampingControl {
  /** The first λ, > 0. */
  readonly start: number;
  /** Losses are asked for after every so many steps, the first included. */
  readonly every: number;
  /**
   * The next λ, finite and > 0.
   *
   * @param damping λ now
   * @param ratio ρ, what the loss has fallen by over what the quadratic model of the step predicts; −∞ for a loss that is not finite
   */
  next(damping: number, ratio: number): number;
}

export type AdaptiveDampingOptions = {
  /** The first λ; default 0.003. */
  start?: number;
  /** T: losses are asked for after every so many steps. Default 5. */
  every?: number;
  /** λ changes by this a step, so by its `every`-th power each time. In (0, 1); default 19/20. */
  decay?: number;
  /** λ stays in [min, max]; default 1e-8 and 1e3. */
  min?: number;
  max?: number;
};

/**
 * For the option `damping` of KFAC and EKFAC, which then ask for losses: see `KFAC.observeLoss`. λ ← ω λ where ρ > 3/4, and λ / ω where
 * ρ < 1/4, with ω = decay^every (Martens & Grosse 2015, §6.5).
 */
export function adaptiveDamping(o: AdaptiveDampingOptions = {}): DampingControl & Required<AdaptiveDampingOptions> {
  const name = 'adaptiveDamping';
  checkOptions<AdaptiveDampingOptions>(name, o, {
    start: aNumber,
    every: aCount,
    decay: aNumber,
    min: aNumber,
    max: aNumber,
  });
  const { start = 3e-3, every = 5, decay = 19 / 20, min = 1e-8, max = 1e3 } = o;
  for (const [option, value] of Object.entries({ min, decay }))
    if (!(value > 0)) throw new RangeError(`${name}: expected ${option} > 0, got ${value}`);
  checkRange(name, 'decay', decay, 0, 1);
  if (!(min <= start && start <= max && max < Infinity))
    throw new RangeError(`${name}: expected min ≤ start ≤ max, and a finite max, got ${min}, ${start} and ${max}`);
  const omega = decay ** every;
  const next = (damping: number, ratio: number): number => {
    if (ratio > 3 / 4) return Math.max(min, omega * damping);
    return ratio < 1 / 4 ? Math.min(max, damping / omega) : damping;
  };
  return { start, every, decay, min, max, next };
}

/** λ > 0, or what changes it. */
export const aDamping: Kind = {
  expected: 'a number, or a control such as adaptiveDamping()',
  is: v => aNumber.is(v) || isControl(v),
};

export function isControl(value: unknown): value is DampingControl {
  return typeof value === 'object' && value !== null && typeof Reflect.get(value, 'next') === 'function';
}
