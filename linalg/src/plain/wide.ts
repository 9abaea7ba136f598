// Plain TypeScript computes in float64 whatever it is given.
import type { Real } from '../ndarray.ts';

/** Runs on the array, or on a float64 copy of it that is rounded back. */
export function inFloat64<R>(a: Real, run: (wide: Float64Array) => R): R {
  if (a instanceof Float64Array) return run(a);
  const wide = new Float64Array(a);
  const result = run(wide);
  a.set(wide);
  return result;
}
