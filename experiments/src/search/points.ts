/**
 * Points that fill a unit cube evenly: Halton's sequence (1960), of which coordinate k is the radical inverse of the index in the k-th
 * prime, moved by one random vector modulo 1 (Cranley & Patterson 1976). The first d coordinates do not depend on how many there are.
 */

import { Generator, rand } from '@otimes/core';

const PRIMES = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29] as const;

/** As many coordinates as points can have. */
export const MOST_DIMENSIONS: number = PRIMES.length;

/** The digits of `index` = 0, 1, … in base `base`, mirrored at the point: in [0, 1). */
export function radicalInverse(index: number, base: number): number {
  let [value, scale] = [0, 1];
  for (let rest = index; rest > 0; rest = Math.floor(rest / base)) {
    scale /= base;
    value += (rest % base) * scale;
  }
  return value;
}

/** Point `index` = 0, 1, … of the sequence of a seed: `MOST_DIMENSIONS` coordinates in [0, 1). */
export function unitPoint(seed: number, index: number): number[] {
  const shift = rand([MOST_DIMENSIONS], { rng: new Generator(seed), dtype: 'float64' }).dataSync();
  // Index 0 would be the corner of the cube, and its multiples are worse spread than the rest.
  return PRIMES.map((base, k) => (radicalInverse(index + 1, base) + shift[k]!) % 1);
}
