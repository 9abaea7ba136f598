/** How reports write numbers, the same in tables, charts and sentences. */

import type { Metric } from '../experiment.ts';
import { shareInPercent } from '../format.ts';
import type { Ratio, Spread, Wins } from './statistics.ts';

/** Between a number and its unit, so that no line ends there. */
const SPACE = '\u00a0';

/** Three significant digits: 0.0123, 1.50, 98.0, 1,230. */
export function digits(x: number, significant = 3): string {
  if (!Number.isFinite(x)) return Number.isNaN(x) ? '–' : x < 0 ? '−∞' : '∞';
  if (x === 0) return '0';
  const size = Math.abs(x);
  if (size < 1e-3 || size >= 1e9) return x.toExponential(significant - 1).replace('e+', 'e');
  if (size >= 10 ** significant) return Math.round(x).toLocaleString('en-US');
  return x.toPrecision(significant);
}

export const whole = (x: number): string => (Number.isFinite(x) ? Math.round(x).toLocaleString('en-US') : digits(x));

/** Two decimals, three digits from 10 on. */
export const times = (x: number): string => (x < 9.995 ? x.toFixed(2) : digits(x));

/** A value of a metric, rounded as it is written: shares to a hundredth of a per cent, a sample of 10,000, halves upwards. */
export const asWritten = (x: number, { unit }: Metric): number =>
  unit === 'share' ? shareInPercent(x) / 100 : Number(x.toPrecision(4));

/** 96.05 %, or the number. */
export const metricText = (x: number, { unit }: Metric): string =>
  !Number.isFinite(x) ? '–' : unit === 'share' ? `${shareInPercent(x).toFixed(2)}${SPACE}%` : digits(x, 4);

/** A difference of two values of a metric: 0.30 points of per cent, or the number. */
export const gapText = (x: number, { unit }: Metric): string =>
  unit === 'share' ? `${shareInPercent(x).toFixed(2)}${SPACE}points` : digits(x, 2);

/** Round targets need no decimals: 94 %. */
export const targetText = (x: number, { unit }: Metric): string =>
  unit === 'share' ? `${+(100 * x).toFixed(3)}${SPACE}%` : String(+x.toPrecision(6));

export const megabytes = (bytes: number): string => `${whole(bytes / 1e6)}${SPACE}MB`;

export const pText = (p: number): string => (p < 1e-4 ? '< 0.0001' : String(+p.toFixed(4)));

/** '4 of 5'; ties are told. */
export const winsText = ({ won, lost, tied }: Wins): string =>
  `${won} of ${won + lost + tied}${tied > 0 ? `, ${tied} tied` : ''}`;

const SIGN = { exact: '', 'at least': '> ', 'at most': '< ', unknown: '' } as const;

/** 0.52; > 3.10 where the budget ran out; a dash where nothing is known. */
export const ratioText = ({ value, bound }: Ratio): string => (value === null ? '–' : `${SIGN[bound]}${times(value)}`);

/** 0.45–0.60; a dash without an interval. */
export const intervalText = ({ interval }: Ratio): string =>
  interval === null ? '–' : interval.map(end => (end === Infinity ? '∞' : end === 0 ? '0' : times(end))).join('–');

/** The median; where it was missed, more than the budget. */
export const medianText = (spread: Spread, budget: number, write: (x: number) => string): string =>
  spread.n === 0 ? '–' : spread.median === Infinity ? `> ${write(budget)}` : write(spread.median);

/** 0.41–0.70, 96.1–96.4 %, or 0.41–missed; nothing for a single value. */
export function rangeText({ n, min, max }: Spread, write: (x: number) => string): string {
  if (n < 2) return '';
  if (min === Infinity) return 'all missed';
  const [low, high] = [min, max].map(end => (end === Infinity ? 'missed' : write(end))) as [string, string];
  return `${high.endsWith('%') ? low.replace(/.%$/, '') : low}–${high}`;
}

/** 0.55 ± 0.04; a dash where there is no mean. */
export const meanText = ({ mean, sd }: Spread, write: (x: number) => string): string =>
  mean === null || sd === null ? '–' : `${write(mean)} ± ${write(sd)}`;

/** 'a, b and c'. */
export const listText = (items: readonly string[]): string =>
  items.length < 2 ? items.join('') : `${items.slice(0, -1).join(', ')} and ${items.at(-1)}`;

/** '1 seed', '5 seeds', '1.5 epochs'. */
export const countText = (n: number, noun: string): string =>
  `${n.toLocaleString('en-US')} ${noun}${n === 1 ? '' : 's'}`;
