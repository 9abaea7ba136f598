/**
 * A decoder of LZMA, the dictionary coder with adaptive probabilities of 7-Zip, after its public specification
 * ("LZMA specification", Igor Pavlov): what build.mjs packs comes back from it. The two variants of a module differ so
 * little that packed one after the other the second costs a quarter of the first. A module of its own, with its own
 * memory, since it must run before the others exist; in TypeScript, whose first run is slow, it took three times as long.
 *
 * NOTE: properties are those that build.mjs checks for, lc = 3, lp = 0, pb = 2, so the header's are not read.
 */

/** Bytes before the coded ones: properties, size of the dictionary, size of the content; and a zero. */
const HEADER: usize = 14;

// Probabilities are u16 from address 0, of a zero in 2048ths. Where those of each decision begin, counted in u16: at 16 ·
// state + position % 4, at the state, at the root of a tree.
const MATCH: i32 = 0;
const REPEAT_0_LONG: i32 = MATCH + 12 * 16;
const REPEAT: i32 = REPEAT_0_LONG + 12 * 16;
const REPEAT_BEYOND_0: i32 = REPEAT + 12;
const REPEAT_BEYOND_1: i32 = REPEAT + 24;
const REPEAT_BEYOND_2: i32 = REPEAT + 36;
const SLOT: i32 = REPEAT + 48;
const DISTANCE: i32 = SLOT + 4 * 64;
const ALIGN: i32 = DISTANCE + 115;
const LENGTH: i32 = ALIGN + 16;
const REPEAT_LENGTH: i32 = LENGTH + 2 + 2 * 4 * 8 + 256;
const LITERAL: i32 = REPEAT_LENGTH + 2 + 2 * 4 * 8 + 256;
const PROBABILITIES: i32 = LITERAL + 8 * 0x300;

let at: usize;
let range: u32;
let code: u32;

function refill(): void {
  if (range >= 1 << 24) return;
  range <<= 8;
  code = (code << 8) | load<u8>(at++);
}

function bit(i: i32): i32 {
  const address = <usize>i << 1;
  const p: u32 = load<u16>(address);
  const bound = (range >> 11) * p;
  const one = code >= bound;
  if (one) {
    range -= bound;
    code -= bound;
    store<u16>(address, p - (p >> 5));
  } else {
    range = bound;
    store<u16>(address, p + ((2048 - p) >> 5));
  }
  refill();
  return <i32>one;
}

/** `count` bits that no probability is kept of. */
function even(count: i32): i32 {
  let value = 0;
  for (; count > 0; count--) {
    range >>= 1;
    const one = code >= range;
    if (one) code -= range;
    value = (value << 1) | <i32>one;
    refill();
  }
  return value;
}

/** `count` bits, highest first, each with a probability that depends on those before. */
function tree(root: i32, count: i32): i32 {
  let node = 1;
  for (let i = 0; i < count; i++) node = (node << 1) | bit(root + node);
  return node - (1 << count);
}

/** The same, lowest first. */
function reverse(root: i32, count: i32): i32 {
  let node = 1, value = 0;
  for (let i = 0; i < count; i++) {
    const b = bit(root + node);
    node = (node << 1) | b;
    value |= b << i;
  }
  return value;
}

function length(root: i32, position: i32): i32 {
  if (!bit(root)) return 2 + tree(root + 2 + 8 * position, 3);
  if (!bit(root + 1)) return 10 + tree(root + 34 + 8 * position, 3);
  return 18 + tree(root + 66, 8);
}

/** How far back, less one; lengths have their own slots up to 5. */
function distance(length: i32): i32 {
  const slot = tree(SLOT + 64 * min(length - 2, 3), 6);
  if (slot < 4) return slot;
  const bits = (slot >> 1) - 1;
  const from = (2 | (slot & 1)) << bits;
  return slot < 14 ? from + reverse(DISTANCE + from - slot, bits) : from + (even(bits - 4) << 4) + reverse(ALIGN, 4);
}

/** A byte of which those before it tell a part; `expected` would have continued a match that ended, so it is another. */
function literal(before: i32, mismatched: bool, expected: i32): i32 {
  const root = LITERAL + 0x300 * (before >> 5);
  let node = 1;
  for (let same = mismatched; same && node < 256; expected <<= 1) {
    const e = (expected >> 7) & 1;
    const b = bit(root + 256 * (1 + e) + node);
    node = (node << 1) | b;
    same = b == e;
  }
  while (node < 256) node = (node << 1) | bit(root + node);
  return node;
}

/** Bytes from address 0 that the decoder itself needs. */
export const own: usize = 2 * PROBABILITIES;

/** Writes the first `size` bytes of what is packed at `from` to `out`. */
export function unpack(from: usize, out: usize, size: i32): void {
  for (let i: usize = 0; i < own; i += 2) store<u16>(i, 1024);
  range = -1;
  code = bswap<u32>(load<u32>(from + HEADER));
  at = from + HEADER + 4;
  /** What came last, in 12 cases: below 7 it was a literal. */
  let state = 0;
  // The last four distances, less one.
  let d0 = 0, d1 = 0, d2 = 0, d3 = 0;
  for (let n = 0; n < size; ) {
    const position = n & 3;
    const p = out + n;
    if (!bit(MATCH + 16 * state + position)) {
      store<u8>(p, literal(n > 0 ? load<u8>(p - 1) : 0, state >= 7, load<u8>(p - d0 - 1)));
      n++;
      state = state < 4 ? 0 : state < 10 ? state - 3 : state - 6;
      continue;
    }
    let count = 1;
    if (!bit(REPEAT + state)) {
      count = length(LENGTH, position);
      d3 = d2, d2 = d1, d1 = d0;
      d0 = distance(count);
      state = state < 7 ? 7 : 10;
    } else {
      let long = true;
      if (!bit(REPEAT_BEYOND_0 + state)) long = <bool>bit(REPEAT_0_LONG + 16 * state + position);
      else {
        let d = d1;
        if (bit(REPEAT_BEYOND_1 + state)) {
          d = d2;
          if (bit(REPEAT_BEYOND_2 + state)) d = d3, d3 = d2;
          d2 = d1;
        }
        d1 = d0, d0 = d;
      }
      if (long) count = length(REPEAT_LENGTH, position);
      state = state < 7 ? (long ? 8 : 9) : 11;
    }
    for (const end = min(n + count, size); n < end; n++) store<u8>(out + n, load<u8>(out + n - d0 - 1));
  }
}

// --- modules, arranged for packing ----------------------------------------------------------------------------------------

// Where the next byte is read, where the next index of a local is, and where the next byte is written.
let source: usize;
let locals: usize;
let target: usize;

function copy(count: u32): void {
  for (; count > 0; count--) store<u8>(target++, load<u8>(source++));
}

/** Copies an unsigned integer in LEB128 of at most 4 bytes. */
function number(): u32 {
  let value: u32 = 0, shift: u32 = 0, byte: u32 = 0;
  do {
    byte = load<u8>(source);
    value |= (byte & 127) << shift;
    shift += 7;
    copy(1);
  } while (byte > 127);
  return value;
}

function numbers(count: u32): void {
  for (; count > 0; count--) number();
}

/** Copies what follows the byte of an instruction. */
function operands(op: u32): void {
  if (op == 0xfd) {
    const vector = number();
    if (vector - 21 < 14) copy(1); // lanes
    else if (vector - 12 < 2) copy(16);
    else if (vector < 12 || vector - 84 < 10) numbers(vector - 84 < 8 ? 3 : 2); // addresses, and a lane
  } else if (op - 0x28 < 23) numbers(2);
  else if (op == 0xfc) {
    const bulk = number();
    if (bulk > 9) numbers(12 - bulk); // copies and fills
  }
  else if (op == 0x0e) numbers(number() + 1); // a table of branches
  else if (op == 0x43) copy(4);
  else if (op == 0x44) copy(8);
  else if (op - 2 < 3 || op - 0x0c < 2 || op == 0x10 || op - 0x23 < 2 || op == 0x41 || op == 0x42) number();
}

/**
 * Writes the module to `out` that build.mjs has arranged (kernels/arrange.mjs); returns where it ends. The indices of locals
 * stand behind all the rest, since what follows them depends less on them than on what stands before; and functions do not
 * tell their lengths, which are written with 3 bytes each.
 */
export function restore(from: usize, out: usize): usize {
  target = out;
  source = from + 12;
  locals = from + load<u32>(from);
  const end = locals;
  copy(load<u32>(from + 4));
  const last = out + load<u32>(from + 8);
  while (target < last) {
    const body = target;
    target += 3;
    for (let groups = number(); groups > 0; groups--) numbers(2);
    // Blocks that are open; the last `end` closes the function.
    for (let open = 1; open > 0; ) {
      const op: u32 = load<u8>(source);
      copy(1);
      if (op - 2 < 3) open++;
      else if (op == 0x0b) open--;
      if (op - 0x20 < 3) {
        do store<u8>(target++, load<u8>(locals)); while (load<u8>(locals++) > 127);
      } else operands(op);
    }
    const length = <u32>(target - body) - 3;
    store<u16>(body, length & 127 | (length << 1 & 0x7f00) | 0x8080);
    store<u8>(body + 2, length >> 14);
  }
  copy(<u32>(end - source));
  return target;
}
