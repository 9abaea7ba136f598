/**
 * Random choices for one picture. They follow from the key of the epoch and the index of the picture in its source alone: not
 * from the batch that the picture is in, from what was drawn for others, or from the thread that reads it.
 */

import { Generator } from '@otimes/core';
import type { EpochKey } from '../epochs.ts';

/** The generator of picture `index` in the epoch with this key. Different pictures of an epoch have different generators. */
export function pictureGenerator([low, high]: EpochKey, index: number): Generator {
  // For each key the first word is a permutation of the indices.
  const first = mixed(low ^ mixed(index));
  const second = mixed(high + Math.imul(index, 0x9e3779b9)) >>> 11;
  return new Generator(second * 4294967296 + first);
}

/** A permutation of the integers of 32 bits in which every bit depends on all: the end of MurmurHash3 (Appleby 2011). */
function mixed(x: number): number {
  let z = x | 0;
  z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
  z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
  return (z ^ (z >>> 16)) >>> 0;
}
