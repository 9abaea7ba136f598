/**
 * The numbers of a report: times to a target over seeds, some of which never got there, and ratios of two contenders paired by
 * seed. A miss is censored: it took longer than its budget, how much longer nobody knows. It counts as +∞ in medians and bounds a
 * ratio from one side; no mean has it.
 */

import { Generator } from '@otimes/core';
import { median, quantile } from '../quantile.ts';

/** A time to the target in any unit; of a miss the budget that was not enough. */
export type Time = { readonly value: number; readonly missed: boolean };

export type Spread = {
  readonly n: number;
  readonly misses: number;
  /** With misses as Infinity, as `min` and `max`. NaN where n is 0. */
  readonly median: number;
  readonly min: number;
  readonly max: number;
  /** Mean and standard deviation (n − 1) of 3 values or more; null for fewer, and where one is a miss. */
  readonly mean: number | null;
  readonly sd: number | null;
};

export function spread(times: readonly Time[]): Spread {
  const values = times.map(({ value, missed }) => (missed ? Infinity : value));
  const misses = times.filter(({ missed }) => missed).length;
  const n = values.length;
  const base = {
    n,
    misses,
    median: median(values),
    min: n === 0 ? Number.NaN : Math.min(...values),
    max: n === 0 ? Number.NaN : Math.max(...values),
  };
  if (n < 3 || misses > 0) return { ...base, mean: null, sd: null };
  const mean = values.reduce((sum, value) => sum + value, 0) / n;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { ...base, mean, sd: Math.sqrt(squares / (n - 1)) };
}

/** `spread` of what cannot be missed: accuracies, bytes. */
export const spreadOf = (values: readonly number[]): Spread => spread(values.map(value => ({ value, missed: false })));

/** Two contenders with the same seed: initial weights and batches are the same. */
export type Pair = { readonly a: Time; readonly b: Time };

export type Ratio = {
  readonly n: number;
  /** The geometric mean of a/b over the seeds, with the budget for what was missed; null where that bounds nothing, or n is 0. */
  readonly value: number | null;
  /** What misses make of it: a's a lower bound, b's an upper bound; of both nothing. */
  readonly bound: 'exact' | 'at least' | 'at most' | 'unknown';
  /** By bootstrap over seeds; its end is 0 or Infinity where the ratio has a bound alone. Null for one seed, and where there is no value. */
  readonly interval: readonly [number, number] | null;
};

/** What a step of a and of b cost in each round of the timing; rounds of the same place were made at about the same time. */
export type Rounds = { readonly a: readonly number[]; readonly b: readonly number[] };

export type RatioOptions = {
  /**
   * Where times are steps times the median of these: rounds are drawn anew as well, so that the interval has their uncertainty. Default
   * none: times are taken as exact.
   */
  readonly rounds?: Rounds;
  /** Defaults to 10,000. */
  readonly resamples?: number;
  /** Of the resamples; defaults to 0. */
  readonly seed?: number;
  /** Defaults to .95. */
  readonly level?: number;
};

/** As many draws of rounds as there are, each for several resamples of seeds. */
const DRAWS = 1000;

/** Logarithms of how much larger than that of all rounds the ratio of medians is, where rounds are drawn with replacement, pairs together. */
function timingErrors({ a, b }: Rounds, seed: number, count: number): Float64Array {
  const n = a.length;
  const rng = new Generator(seed);
  const all = Math.log(median(a) / median(b));
  return Float64Array.from({ length: count }, () => {
    const drawn = Array.from({ length: n }, () => rng.integer(0, n));
    return Math.log(median(drawn.map(i => a[i]!)) / median(drawn.map(i => b[i]!))) - all;
  });
}

/** The 95 % interval of the ratio of what a step costs; null without rounds, or where both were measured as one. */
export function roundsInterval(rounds: Rounds): readonly [number, number] | null {
  const { a, b } = rounds;
  if (a.length === 0 || a.length !== b.length || a.every((x, i) => x === b[i])) return null;
  const errors = timingErrors(rounds, 1, DRAWS).sort();
  const ratio = median(a) / median(b);
  return [ratio * Math.exp(quantile(errors, 0.025)), ratio * Math.exp(quantile(errors, 0.975))];
}

/**
 * The geometric mean of a/b with its percentile bootstrap interval (Efron & Tibshirani 1993, §13.3): seeds are drawn with
 * replacement, pairs stay together. With n as small as 5 such an interval is too narrow: it covers less than its level says.
 */
export function pairedRatio(pairs: readonly Pair[], o: RatioOptions = {}): Ratio {
  const n = pairs.length;
  const missed = { a: pairs.some(({ a }) => a.missed), b: pairs.some(({ b }) => b.missed) };
  if (n === 0 || (missed.a && missed.b)) return { n, value: null, bound: 'unknown', interval: null };
  const bound = missed.a ? 'at least' : missed.b ? 'at most' : 'exact';
  const logs = pairs.map(({ a, b }) => Math.log(a.value / b.value));
  const value = Math.exp(logs.reduce((sum, log) => sum + log, 0) / n);
  if (n === 1) return { n, value, bound, interval: null };
  const { resamples = 10_000, seed = 0, level = 0.95, rounds } = o;
  const rng = new Generator(seed);
  const paired = rounds !== undefined && rounds.a.length > 0 && rounds.a.length === rounds.b.length;
  // Of a generator of their own, so that seeds are drawn as without them.
  const errors = paired ? timingErrors(rounds, seed + 1, Math.min(DRAWS, resamples)) : [0];
  const means = Float64Array.from({ length: resamples }, (_, k) => {
    let sum = 0;
    for (let i = 0; i < n; i++) sum += logs[rng.integer(0, n)]!;
    return sum / n + errors[k % errors.length]!;
  }).sort();
  const [low, high] = [(1 - level) / 2, (1 + level) / 2].map(q => Math.exp(quantile(means, q))) as [number, number];
  return { n, value, bound, interval: [bound === 'at most' ? 0 : low, bound === 'at least' ? Infinity : high] };
}

/** Whether a ratio's interval leaves 1 out: which side it lies on, 'neither' if it does not or there is none. */
export function sideOf({ interval }: Ratio): 'below' | 'above' | 'neither' {
  if (interval === null) return 'neither';
  return interval[1] < 1 ? 'below' : interval[0] > 1 ? 'above' : 'neither';
}

export type Wins = {
  /** Seeds in which a took less time than b; a miss loses to what is no miss. */
  readonly won: number;
  readonly lost: number;
  /** Equal times, and seeds that both missed. */
  readonly tied: number;
  /** Of the sign test, two-sided; ties are left out. */
  readonly p: number;
};

export function wins(pairs: readonly Pair[]): Wins {
  const order = pairs.map(({ a, b }) => {
    if (a.missed || b.missed) return Number(a.missed) - Number(b.missed);
    return Math.sign(a.value - b.value);
  });
  const count = (sign: number) => order.filter(x => x === sign).length;
  const [won, lost] = [count(-1), count(1)];
  return { won, lost, tied: order.length - won - lost, p: signTest(won, lost) };
}

/** Exact and two-sided: how likely so uneven a count, or one more uneven, is for a fair coin. 1 of no throws. */
export function signTest(won: number, lost: number): number {
  const n = won + lost;
  // C(n, k) / 2ⁿ, one from the other.
  let [term, tail] = [0.5 ** n, 0];
  for (let k = 0; k <= Math.min(won, lost); k++) {
    tail += term;
    term *= (n - k) / (k + 1);
  }
  return Math.min(1, 2 * tail);
}

/** What the sign test says where all of n seeds are won: it cannot go lower. */
export const smallestP = (n: number): number => signTest(n, 0);
