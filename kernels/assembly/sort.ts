// Positions in order of elements: all by radix sort, or the first few by insertion. Elements become unsigned integers of their
// size whose order is theirs, with NaN above all others and −0 equal to 0.

/** The key of the element at p: for f32 and i32 in the lower 32 bits. `flip` has all bits of the key set for descending order. */
// @ts-ignore: decorator
@inline
function keyAt<T>(p: usize, flip: u64): u64 {
  if (isInteger<T>()) return <u64>(load<u32>(p) ^ 0x80000000 ^ <u32>flip);
  if (sizeof<T>() == 4) {
    const x = load<f32>(p);
    let bits: u32 = x == 0 ? 0 : load<u32>(p);
    bits = bits >> 31 ? ~bits : bits | 0x80000000;
    if (x != x) bits = 0xffffffff;
    return <u64>(bits ^ <u32>flip);
  }
  const x = load<f64>(p);
  let bits: u64 = x == 0 ? 0 : load<u64>(p);
  bits = bits >> 63 ? ~bits : bits | 0x8000000000000000;
  if (x != x) bits = 0xffffffffffffffff;
  return bits ^ flip;
}

/** Bytes of a key in memory. */
// @ts-ignore: decorator
@inline
function keySize<T>(): usize {
  return sizeof<T>() == 8 ? 8 : 4;
}

// @ts-ignore: decorator
@inline
function loadKey<T>(p: usize, i: usize): u64 {
  return sizeof<T>() == 8 ? load<u64>(p + i * 8) : <u64>load<u32>(p + i * 4);
}

// @ts-ignore: decorator
@inline
function storeKey<T>(p: usize, i: usize, key: u64): void {
  if (sizeof<T>() == 8) store<u64>(p + i * 8, key);
  else store<u32>(p + i * 4, <u32>key);
}

/** Bits of a digit of the radix sort. */
// @ts-ignore: decorator
@inline
const DIGIT: i32 = 11;

export function sortWork<T>(n: i32): f64 {
  const passes = (<i32>keySize<T>() * 8 + DIGIT - 1) / DIGIT;
  return 2 * <f64>n * <f64>(keySize<T>() + 4) + <f64>((passes * 4) << DIGIT);
}

/** Rows up to this long are sorted by insertion. */
// @ts-ignore: decorator
@inline
const SHORT: i32 = 48;

export function argsort<T>(outer: i32, length: i32, inner: i32, x: usize, descending: i32, out: usize, work: usize): void {
  const flip: u64 = descending ? 0xffffffffffffffff : 0;
  const n = <usize>length;
  const step = <usize>inner * sizeof<T>();
  for (let o = 0; o < outer; o++)
    for (let j = 0; j < inner; j++) {
      const from = x + ((<usize>o * n) * <usize>inner + <usize>j) * sizeof<T>();
      const to = out + ((<usize>o * n) * <usize>inner + <usize>j) * 4;
      if (length <= SHORT) insert<T>(n, from, step, flip, to, <usize>inner * 4, work);
      else radix<T>(n, from, step, flip, to, <usize>inner * 4, work);
    }
}

function insert<T>(n: usize, from: usize, step: usize, flip: u64, to: usize, toStep: usize, work: usize): void {
  for (let i: usize = 0; i < n; i++) {
    const key = keyAt<T>(from + i * step, flip);
    let at = i;
    while (at > 0 && loadKey<T>(work, at - 1) > key) {
      storeKey<T>(work, at, loadKey<T>(work, at - 1));
      store<i32>(to + at * toStep, load<i32>(to + (at - 1) * toStep));
      at--;
    }
    storeKey<T>(work, at, key);
    store<i32>(to + at * toStep, <i32>i);
  }
}

/** By digits from the lowest on, each pass stable. Digits that all keys share take no pass. */
function radix<T>(n: usize, from: usize, step: usize, flip: u64, to: usize, toStep: usize, work: usize): void {
  const bits = <i32>(keySize<T>() * 8);
  let keys = work;
  let others = keys + n * keySize<T>();
  let places = others + n * keySize<T>();
  let otherPlaces = places + n * 4;
  const counts = otherPlaces + n * 4;
  const buckets: usize = 1 << DIGIT;
  const passes = <usize>((bits + DIGIT - 1) / DIGIT);
  memory.fill(counts, 0, passes * buckets * 4);
  for (let i: usize = 0; i < n; i++) {
    const key = keyAt<T>(from + i * step, flip);
    storeKey<T>(keys, i, key);
    store<i32>(places + i * 4, <i32>i);
    for (let pass: usize = 0; pass < passes; pass++) {
      const at = counts + (pass * buckets + <usize>((key >> <u64>(pass * DIGIT)) & <u64>(buckets - 1))) * 4;
      store<u32>(at, load<u32>(at) + 1);
    }
  }
  for (let pass: usize = 0; pass < passes; pass++) {
    const shift = <u64>(pass * DIGIT);
    const table = counts + pass * buckets * 4;
    const first = table + <usize>((loadKey<T>(keys, 0) >> shift) & <u64>(buckets - 1)) * 4;
    if (<usize>load<u32>(first) == n) continue;
    let sum: u32 = 0;
    for (let b: usize = 0; b < buckets; b++) {
      const count = load<u32>(table + b * 4);
      store<u32>(table + b * 4, sum);
      sum += count;
    }
    for (let i: usize = 0; i < n; i++) {
      const key = loadKey<T>(keys, i);
      const at = table + <usize>((key >> shift) & <u64>(buckets - 1)) * 4;
      const place = <usize>load<u32>(at);
      store<u32>(at, <u32>place + 1);
      storeKey<T>(others, place, key);
      store<i32>(otherPlaces + place * 4, load<i32>(places + i * 4));
    }
    let swapped = keys;
    keys = others;
    others = swapped;
    swapped = places;
    places = otherPlaces;
    otherPlaces = swapped;
  }
  for (let i: usize = 0; i < n; i++) store<i32>(to + i * toStep, load<i32>(places + i * 4));
}

/** Whether a key from a place stands behind another. */
// @ts-ignore: decorator
@inline
function isBehind(key: u64, place: i32, other: u64, otherPlace: i32): bool {
  return key > other || (key == other && place > otherPlace);
}

/** Puts a key into the heap of n from node `at` down: the one behind all others stands at the root. */
function sink<T>(keys: usize, places: usize, n: usize, at: usize, key: u64, place: i32): void {
  for (;;) {
    let child: usize = 2 * at + 1;
    if (child >= n) break;
    const next = child + 1;
    if (
      next < n &&
      isBehind(
        loadKey<T>(keys, next),
        load<i32>(places + next * 4),
        loadKey<T>(keys, child),
        load<i32>(places + child * 4),
      )
    )
      child = next;
    const childKey = loadKey<T>(keys, child);
    const childPlace = load<i32>(places + child * 4);
    if (!isBehind(childKey, childPlace, key, place)) break;
    storeKey<T>(keys, at, childKey);
    store<i32>(places + at * 4, childPlace);
    at = child;
  }
  storeKey<T>(keys, at, key);
  store<i32>(places + at * 4, place);
}

/** A heap of the first k, in which a better one takes the place of the worst; then that heap in order. */
export function topk<T>(
  outer: i32,
  length: i32,
  inner: i32,
  k: i32,
  x: usize,
  largest: i32,
  out: usize,
  work: usize,
): void {
  const flip: u64 = largest ? 0xffffffffffffffff : 0;
  const count = <usize>k;
  const step = <usize>inner * sizeof<T>();
  const places = work + count * 8;
  for (let o = 0; o < outer; o++)
    for (let j = 0; j < inner; j++) {
      let from = x + (<usize>o * <usize>length * <usize>inner + <usize>j) * sizeof<T>();
      const to = out + (<usize>o * count * <usize>inner + <usize>j) * 4;
      for (let i = 0; i < k; i++, from += step) {
        storeKey<T>(work, i, keyAt<T>(from, flip));
        store<i32>(places + <usize>i * 4, i);
      }
      for (let i = k / 2 - 1; i >= 0; i--)
        sink<T>(work, places, count, i, loadKey<T>(work, i), load<i32>(places + <usize>i * 4));
      let worst = loadKey<T>(work, 0);
      for (let i = k; i < length; i++, from += step) {
        const key = keyAt<T>(from, flip);
        // Of equals the first ones stay.
        if (key >= worst) continue;
        sink<T>(work, places, count, 0, key, i);
        worst = loadKey<T>(work, 0);
      }
      for (let n = count; n > 0; n--) {
        store<i32>(to + (n - 1) * <usize>inner * 4, load<i32>(places));
        sink<T>(work, places, n - 1, 0, loadKey<T>(work, n - 1), load<i32>(places + (n - 1) * 4));
      }
    }
}
