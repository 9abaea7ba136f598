/**
 * The variant `simd` of a module, made from `relaxed`: every fused multiply-add becomes a product and a sum, and nothing
 * else differs, so no second binary is needed. The third operand of an addition waits in a local of its own meanwhile.
 */

import { Reader } from './leb128.ts';

const [TYPES, FUNCTIONS, CODE] = [1, 3, 10];
const V128 = 0x7b;
const [SET, GET] = [0x21, 0x20];
/** Second byte of relaxed_madd (0xfd, this, 0x02) → second bytes of mul and add (0xfd, this, 0x01); f32x4, f64x2. */
const PLAIN = new Map([
  [0x85, [0xe6, 0xe4]],
  [0x87, [0xf2, 0xf0]],
] as const);

/** An unsigned integer in LEB128. */
function encoded(value: number): number[] {
  const bytes: number[] = [];
  for (; value > 127; value >>>= 7) bytes.push((value & 127) | 128);
  return [...bytes, value];
}

/**
 * The module without fused operations. NOTE: it looks for their bytes, not for instructions; build.mjs makes sure that these
 * bytes stand nowhere else.
 */
export function unfused(bytes: Uint8Array): Uint8Array {
  const out: number[] = [...bytes.subarray(0, 8)];
  const reader = new Reader(bytes, 8);
  const number = () => reader.number();
  const list = <T>(read: () => T): T[] => Array.from({ length: number() }, read);
  const skip = (count: number): void => {
    reader.at += count;
  };
  /** Parameters of each type, and the type of each function. */
  let parameters: number[] = [];
  let types: number[] = [];
  const body = (index: number): number[] => {
    const end = number() + reader.at;
    const groups = list(() => [number(), reader.byte()] as const);
    const local = encoded(groups.reduce((sum, [count]) => sum + count, parameters[types[index]!]!));
    const code: number[] = [];
    while (reader.at < end) {
      const { at } = reader;
      const plain = bytes[at] === 0xfd && bytes[at + 2] === 0x02 ? PLAIN.get(bytes[at + 1] as 0x85) : undefined;
      if (plain === undefined) code.push(reader.byte());
      else {
        code.push(SET, ...local, 0xfd, plain[0], 0x01, GET, ...local, 0xfd, plain[1], 0x01);
        skip(3);
      }
    }
    const locals = [...groups, [1, V128] as const].flatMap(([count, type]) => [...encoded(count), type]);
    const whole = [...encoded(groups.length + 1), ...locals];
    return [...encoded(whole.length + code.length), ...whole, ...code];
  };
  while (reader.at < bytes.length) {
    const id = reader.byte();
    const end = number() + reader.at;
    const start = reader.at;
    let content: ArrayLike<number> = bytes.subarray(start, end);
    if (id === TYPES)
      parameters = list(() => {
        skip(1);
        const count = number();
        skip(count);
        skip(number());
        return count;
      });
    else if (id === FUNCTIONS) types = list(number);
    else if (id === CODE) {
      let index = 0;
      const bodies = list(() => body(index++));
      content = encoded(bodies.length);
      for (const one of bodies) for (const byte of one) (content as number[]).push(byte);
    }
    if (reader.at !== start && reader.at !== end)
      throw new TypeError('unfused: expected a module that build.mjs has made');
    reader.at = end;
    out.push(id, ...encoded(content.length));
    for (let i = 0; i < content.length; i++) out.push(content[i]!);
  }
  return Uint8Array.from(out);
}
