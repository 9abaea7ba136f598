/** Numbers and times in lines for people. */

import type { Metric, Setting } from './experiment.ts';

/** A share in per cent, to two decimals: halves of what is meant go up, whatever binary fractions make of them. */
export const shareInPercent = (share: number): number => Math.round(Number((1e4 * share).toPrecision(12))) / 100;

/** A value of a metric: shares in per cent. */
export const metricText = ({ unit }: Pick<Metric, 'unit'>, value: number): string =>
  unit === 'share' ? `${shareInPercent(value).toFixed(2)} %` : `${Number(value.toPrecision(4))}`;

/** `lr 0.01, damping 0.003`. */
export const settingText = (setting: Setting): string =>
  Object.entries(setting)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ') || 'no settings';

/** `45 s`, `12 min`, `2 h 5 min`. */
export function durationText(seconds: number): string {
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
