/**
 * Questions about the values of tensors. On most devices the answer is there at once. A device that is read with await (one
 * that has `readAsync`) checks on its own, and the next read tells what failed; see `Backend.checkIndex`.
 */

import type { TypedArray } from './dtype.ts';
import { type BadValue, checkEach } from './errors.ts';
import type { Tensor } from './tensor.ts';

/** Whether the values of `x` can be read with await alone. */
export const readsLater = (x: Tensor): boolean => x.storage.backend.readAsync !== undefined;

/** Throws `error` for the first element that is NaN or infinite; where `x` is read with await, the next read rejects with it. */
export function checkFinite(x: Tensor, error: BadValue): void {
  const { backend } = x.storage;
  if (backend.checkFinite !== undefined) backend.checkFinite(x, error);
  else checkEach(backend.read(x), Number.isFinite, error);
}

/** The same for int32 values that are not in 0 … length − 1. */
export function checkInRange(x: Tensor, length: number, error: BadValue): void {
  const { backend } = x.storage;
  if (backend.checkIndex !== undefined) backend.checkIndex(x, length, error);
  else checkEach(backend.read(x), value => value >= 0 && value < length, error);
}

/**
 * Where `x` is read with await and a check that was entered before fails: runs `undo` when that is told. Elsewhere a check that fails
 * throws at once, and there is nothing to undo.
 */
export function onFailure(x: Tensor, undo: () => void): void {
  x.storage.backend.onFailure?.(undo);
}

/**
 * On a device that is read with await: from here on nothing is written in place there where the element of `found` is not 0; with null
 * that ends. See `Backend.skipIf`.
 */
export function skipIf(x: Tensor, found: Tensor | null): void {
  x.storage.backend.skipIf?.(found);
}

/** Whether the device of `x` has that. */
export const canSkip = (x: Tensor): boolean => x.storage.backend.skipIf !== undefined;

/** See `Backend.caughtUp`: of the device of `x`. */
export const caughtUp = (x: Tensor): Promise<void> | undefined => x.storage.backend.caughtUp?.();

/** The elements, as `data()` gives them. It rejects after a check that failed too, but leaves that for a read of the program to tell. */
export async function peekData(x: Tensor): Promise<TypedArray> {
  const { backend } = x.storage;
  return backend.readAsync === undefined ? backend.read(x) : backend.readAsync(x, true);
}
