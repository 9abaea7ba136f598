/** Checks of values on the `wasm` backend, which throw at once. */

import type { BadValue } from '../../errors.ts';
import { sizeOf } from '../../shape.ts';
import type { Operand } from '../backend.ts';
import * as reference from '../reference/check.ts';
import type { Context } from './context.ts';
import { rowMajor } from './memory.ts';
import { addressOf, inMemory } from './region.ts';

export function checkIndex(c: Context, index: Operand, length: number, error: BadValue): void {
  if (!inMemory(index)) return reference.checkIndex(index, length, error);
  const source = rowMajor(c, index);
  complain(source, c.other.firstOutside.int32!(sizeOf(index.shape), length, addressOf(source)), error);
}

export function checkFinite(c: Context, x: Operand, error: BadValue): void {
  const run = c.other.firstNotFinite[x.dtype];
  // Integers and booleans are finite.
  if (run === undefined) return;
  if (!inMemory(x)) return reference.checkFinite(x, error);
  const source = rowMajor(c, x);
  complain(source, run(sizeOf(x.shape), addressOf(source)), error);
}

function complain({ storage, offset }: Operand, position: number, error: BadValue): void {
  if (position >= 0) throw error(position, storage.array[offset + position]!);
}
