/**
 * Questions about the values of tensors. On most devices the answer is there at once. A device that is read with await (one
 * that has `readAsync`) checks on its own, and the next read tells what failed; see `Backend.checkIndex`.
 */

import type { Tensor } from './tensor.ts';

/** Whether the values of `x` can be read with await alone. */
export const readsLater = (x: Tensor): boolean => x.storage.backend.readAsync !== undefined;

/** Makes the error for a bad value at a row-major position. */
export type BadValue = (position: number, value: number) => Error;

/** Throws `error` for the first element that is NaN or infinite; where `x` is read with await, the next read rejects with it. */
export function checkFinite(x: Tensor, error: BadValue): void {
  const { backend } = x.storage;
  if (backend.checkFinite !== undefined) backend.checkFinite(x, error);
  else check(x, Number.isFinite, error);
}

/** The same for int32 values that are not in 0 … length − 1. */
export function checkInRange(x: Tensor, length: number, error: BadValue): void {
  const { backend } = x.storage;
  if (backend.checkIndex !== undefined) backend.checkIndex(x, length, error);
  else check(x, value => value >= 0 && value < length, error);
}

function check(x: Tensor, isGood: (value: number) => boolean, error: BadValue): void {
  const values = x.storage.backend.read(x);
  for (let i = 0; i < values.length; i++) if (!isGood(values[i]!)) throw error(i, values[i]!);
}
