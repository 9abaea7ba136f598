/**
 * Numbers that are not finite. A step checks everything that it can before it changes anything. What is left are numbers that
 * overflow on the way; where sizes show that none can, it keeps no copies, else it does (`optim/src/journal.ts`), and looks at
 * the result.
 */

import type { Tensor } from '@otimes/core';
import { type BadValue, checkFinite, readsLater } from '@otimes/core/extend';

/**
 * Numbers up to here are ordinary: of gradients; their squares, for what is kept of those; and 1/ε or 1/λ. With a learning
 * rate up to `ORDINARY_LR` a step of ordinary numbers moves a weight by less than 1e28, which no finite float32 overflows by.
 */
const ORDINARY = 1e9;
const ORDINARY_GAIN = 1e15;
const ORDINARY_LR = 1e3;

/** The largest magnitude; NaN where an element is NaN. */
export function largest(x: Tensor): number {
  if (x.size === 0) return 0;
  return Math.max(x.max().item(), -x.min().item());
}

/**
 * At least the largest magnitude, in one pass: the norm, or the largest itself where the norm is out of range. Not finite where
 * an element is not.
 */
export function magnitude(x: Tensor): number {
  const norm = x.norm().item();
  return Number.isFinite(norm) ? norm : largest(x);
}

/**
 * `magnitude`, which must be finite: throws `error` for the first element that is not. Where x is read with await the next read
 * rejects with that instead, and the size is taken for 0: no step there keeps copies.
 */
export function finiteMagnitude(x: Tensor, error: BadValue): number {
  if (readsLater(x)) {
    checkFinite(x, error);
    return 0;
  }
  const size = magnitude(x);
  if (!Number.isFinite(size)) checkFinite(x, error);
  return size;
}

/** What is wrong with the numbers of a step that changes nothing. */
export function notFinite(name: string, what: string, where: string, first = ''): RangeError {
  return new RangeError(
    `${name}: the ${what} of ${where} has NaN or infinite elements; no parameter was changed. ${first}` +
      'Look for a diverging loss or bad input in the last batch',
  );
}

/** Makes that error for the first such number, at a row-major position. */
export const foundIn =
  (name: string, what: string, where: string): BadValue =>
  (position, value) =>
    notFinite(name, what, where, `The first of them is ${value}, at position ${position}. `);

/** Whether an ordinary number of this `degree` in the gradient, 1 or 2. */
export const isOrdinary = (size: number, degree: 1 | 2 = 1): boolean => size <= ORDINARY ** degree;

/** Whether updates that are at most `gain` times an ordinary gradient can move no weight out of its range. */
export const isOrdinaryStep = (gain: number, lr: number, keep: number): boolean =>
  gain <= ORDINARY_GAIN && lr <= ORDINARY_LR && Math.abs(keep) <= 1;
