/** Checks of values on the reference backend, which throws at once. */

import type { Operand } from '../backend.ts';
import { rowMajor } from '../walk.ts';

export function checkIndex(index: Operand, length: number, error: (position: number, value: number) => Error): void {
  const values = rowMajor(index);
  for (let i = 0; i < values.length; i++) if (!(values[i]! >= 0 && values[i]! < length)) throw error(i, values[i]!);
}

export function checkFinite(x: Operand, error: (position: number, value: number) => Error): void {
  const values = rowMajor(x);
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i]!)) throw error(i, values[i]!);
}
