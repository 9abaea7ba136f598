/**
 * The same kernels over a memory that threads share. A module says in its import whether it wants a shared memory; the
 * kernels use no atomics, so a flag is all that differs and no second binary is needed.
 */

const IMPORT_SECTION = 2;
const MEMORY = 2;
const HAS_MAXIMUM = 1;
const SHARED = 2;

/** A copy of the module whose imported memory is shared. It must be the first import, with a maximum. */
export function sharedVariant(bytes: Uint8Array): Uint8Array {
  const out = Uint8Array.from(bytes);
  let at = 8;
  /** An unsigned integer in LEB128. */
  const number = (): number => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = out[at++]!;
      value |= (byte & 127) << shift;
      if (byte < 128) return value;
    }
  };
  const skip = (length: number): void => {
    at += length;
  };
  while (at < out.length) {
    const id = out[at++];
    const length = number();
    if (id !== IMPORT_SECTION) {
      skip(length);
      continue;
    }
    number(); // how many imports
    skip(number()); // the module's name
    skip(number()); // the field's name
    if (out[at] !== MEMORY || out[at + 1] !== HAS_MAXIMUM) break;
    out[at + 1] = HAS_MAXIMUM | SHARED;
    return out;
  }
  throw new TypeError('sharedVariant: expected a module whose first import is a memory with a maximum');
}
