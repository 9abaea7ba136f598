/** Quantiles and medians, for the timing of runs and for reports. */

/** The q-quantile of sorted values, linear between neighbours (Hyndman & Fan's type 7); NaN of none. Neighbours that are equal, both infinite too, give that. */
export function quantile(sorted: ArrayLike<number>, q: number): number {
  const position = q * (sorted.length - 1);
  const [low, high] = [sorted[Math.floor(position)] ?? Number.NaN, sorted[Math.ceil(position)] ?? Number.NaN];
  return low === high ? low : low + (position % 1) * (high - low);
}

export const ascending = (values: readonly number[]): Float64Array => Float64Array.from(values).sort();

/** The middle value, or the mean of both middle ones; NaN of none. Infinity counts as the largest. */
export const median = (values: readonly number[]): number => quantile(ascending(values), 0.5);
