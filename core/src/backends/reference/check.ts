/** Checks of values on the reference backend, which throws at once. */

import { type BadValue, checkEach } from '../../errors.ts';
import type { Operand } from '../backend.ts';
import { rowMajor } from '../walk.ts';

export function checkIndex(index: Operand, length: number, error: BadValue): void {
  checkEach(rowMajor(index), value => value >= 0 && value < length, error);
}

export function checkFinite(x: Operand, error: BadValue): void {
  checkEach(rowMajor(x), Number.isFinite, error);
}
