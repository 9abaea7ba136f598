/**
 * The same kernels over a memory that threads share. A module says in its import whether it wants a shared memory; the
 * kernels use no atomics, so a flag is all that differs and no second binary is needed.
 */

import { Reader } from './leb128.ts';

const IMPORT_SECTION = 2;
const [FUNCTION, MEMORY] = [0, 2];
const HAS_MAXIMUM = 1;
const SHARED = 2;

/** A copy of the module whose imported memory is shared: it must have a maximum, and only functions may be imported before it. */
export function sharedVariant(bytes: Uint8Array): Uint8Array {
  const out = Uint8Array.from(bytes);
  const reader = new Reader(out, 8);
  while (reader.at < out.length) {
    const id = reader.byte();
    const length = reader.number();
    if (id !== IMPORT_SECTION) {
      reader.at += length;
      continue;
    }
    for (let imports = reader.number(); imports > 0; imports--) {
      for (const _ of ['the name of the module', 'and of the field']) {
        const size = reader.number();
        reader.at += size;
      }
      const { at } = reader;
      if (out[at] === MEMORY && out[at + 1] === HAS_MAXIMUM) {
        out[at + 1] = HAS_MAXIMUM | SHARED;
        return out;
      }
      if (reader.byte() !== FUNCTION) break;
      reader.number(); // its type
    }
    break;
  }
  throw new TypeError('sharedVariant: expected a module that imports functions at most, and a memory with a maximum');
}
