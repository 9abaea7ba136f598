// Reductions of a contiguous x [outer, length, inner] over its middle axis, into out [outer, inner]: `inner` is 1 for the
// last axis, `outer` is 1 for the first. Sums of floats run in f64 and are rounded once. Where a parameter `step` is not 0, x
// and out are some columns of wider arrays: so threads share the work.
import { bytesOf, first, high, storeWide, sumWide, wide } from './elementwise-lanes';
import { lanes } from './vector';

// --- sums -----------------------------------------------------------------------------------------------------------

/** Σ x over n contiguous floats. */
// @ts-ignore: decorator
@inline
export function sumRow<T>(n: i32, x: usize): f64 {
  let s0 = f64x2.splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  for (; n >= 8; n -= 8, x += bytesOf<T>(8)) {
    s0 = f64x2.add(s0, wide<T>(x, 0));
    s1 = f64x2.add(s1, wide<T>(x, 1));
    s2 = f64x2.add(s2, wide<T>(x, 2));
    s3 = f64x2.add(s3, wide<T>(x, 3));
  }
  let sum = sumWide(f64x2.add(f64x2.add(s0, s1), f64x2.add(s2, s3)));
  for (; n > 0; n--, x += sizeof<T>()) sum += <f64>load<T>(x);
  return sum;
}

/** Σ x over n contiguous int32, modulo 2³². */
// @ts-ignore: decorator
@inline
function sumRowInt(n: i32, x: usize): i32 {
  let s = i32x4.splat(0);
  for (; n >= 4; n -= 4, x += 16) s = i32x4.add(s, v128.load(x));
  s = i32x4.add(s, high(s));
  let sum = i32x4.extract_lane(s, 0) + i32x4.extract_lane(s, 1);
  for (; n > 0; n--, x += 4) sum += load<i32>(x);
  return sum;
}

/** The sums of `inner` columns, eight side by side at a time. */
// @ts-ignore: decorator
@inline
function sumColumns<T>(length: i32, inner: i32, x: usize, out: usize, row: usize): void {
  for (; inner >= 8; inner -= 8, x += bytesOf<T>(8), out += bytesOf<T>(8)) {
    let p = x;
    if (isInteger<T>()) {
      let s0 = i32x4.splat(0);
      let s1 = s0;
      for (let n = length; n > 0; n--, p += row) {
        s0 = i32x4.add(s0, v128.load(p));
        s1 = i32x4.add(s1, v128.load(p, 16));
      }
      v128.store(out, s0);
      v128.store(out, s1, 16);
      continue;
    }
    let s0 = f64x2.splat(0);
    let s1 = s0;
    let s2 = s0;
    let s3 = s0;
    for (let n = length; n > 0; n--, p += row) {
      s0 = f64x2.add(s0, wide<T>(p, 0));
      s1 = f64x2.add(s1, wide<T>(p, 1));
      s2 = f64x2.add(s2, wide<T>(p, 2));
      s3 = f64x2.add(s3, wide<T>(p, 3));
    }
    storeWide<T>(out, s0, s1);
    storeWide<T>(out + bytesOf<T>(4), s2, s3);
  }
  for (; inner > 0; inner--, x += sizeof<T>(), out += sizeof<T>()) {
    let p = x;
    let sum: f64 = 0;
    let sumInt = 0;
    for (let n = length; n > 0; n--, p += row)
      if (isInteger<T>()) sumInt += load<i32>(p);
      else sum += <f64>load<T>(p);
    store<T>(out, isInteger<T>() ? <T>sumInt : <T>sum);
  }
}

/** Integers are summed modulo 2³². `step`: elements from row to row of x and of out, 0 for `inner`. */
export function sum<T>(outer: i32, length: i32, inner: i32, x: usize, out: usize, step: i32): void {
  if (step == 0) step = inner;
  for (; outer > 0; outer--, x += bytesOf<T>(length * step), out += bytesOf<T>(step)) {
    if (step != 1) sumColumns<T>(length, inner, x, out, bytesOf<T>(step));
    else if (isInteger<T>()) store<i32>(out, sumRowInt(length, x));
    else store<T>(out, <T>sumRow<T>(length, x));
  }
}

/**
 * out[c] ← Σ x[a, c, b] over a and b: the gradient of what was added to every channel. `step`: elements from one a to the
 * next, 0 for channels · inner.
 */
export function sumChannels<T>(outer: i32, channels: i32, inner: i32, x: usize, out: usize, step: i32): void {
  const next = bytesOf<T>(step ? step : channels * inner);
  for (; channels > 0; channels--, x += bytesOf<T>(inner), out += sizeof<T>()) {
    let sum: f64 = 0;
    let p = x;
    for (let n = outer; n > 0; n--, p += next) sum += sumRow<T>(inner, p);
    store<T>(out, <T>sum);
  }
}

// --- extrema --------------------------------------------------------------------------------------------------------

/** The larger (smaller) one in every lane; NaN wins, and 0 over −0 (−0 over 0). */
// @ts-ignore: decorator
@inline
function better<T>(a: v128, b: v128, larger: bool): v128 {
  return larger ? v128.max<T>(a, b) : v128.min<T>(a, b);
}

// @ts-ignore: decorator
@inline
function worst<T>(larger: bool): T {
  if (isInteger<T>()) return larger ? i32.MIN_VALUE : i32.MAX_VALUE;
  return <T>(larger ? -Infinity : Infinity);
}

/** The largest (smallest) of n contiguous elements. */
// @ts-ignore: decorator
@inline
export function extremeOfRow<T>(n: i32, x: usize, larger: bool): T {
  let m0 = v128.splat<T>(worst<T>(larger));
  let m1 = m0;
  for (; n >= 2 * lanes<T>(); n -= 2 * lanes<T>(), x += 32) {
    m0 = better<T>(m0, v128.load(x), larger);
    m1 = better<T>(m1, v128.load(x, 16), larger);
  }
  m0 = better<T>(m0, m1, larger);
  for (; n > 0; n--, x += sizeof<T>())
    m0 = better<T>(m0, sizeof<T>() == 4 ? v128.load32_splat(x) : v128.load64_splat(x), larger);
  m0 = better<T>(m0, high(m0), larger);
  if (sizeof<T>() == 4) m0 = better<T>(m0, v128.shuffle<i32>(m0, m0, 1, 1, 1, 1), larger);
  return first<T>(m0);
}

// @ts-ignore: decorator
@inline
function extreme<T>(outer: i32, length: i32, inner: i32, x: usize, out: usize, larger: bool): void {
  const row = bytesOf<T>(inner);
  for (; outer > 0; outer--) {
    if (inner == 1) {
      store<T>(out, extremeOfRow<T>(length, x, larger));
      x += bytesOf<T>(length);
      out += sizeof<T>();
      continue;
    }
    let j = inner;
    for (; j > 0; ) {
      const vector = j >= lanes<T>();
      let m = v128.splat<T>(worst<T>(larger));
      let p = x;
      for (let n = length; n > 0; n--, p += row) {
        const v = vector ? v128.load(p) : sizeof<T>() == 4 ? v128.load32_splat(p) : v128.load64_splat(p);
        m = better<T>(m, v, larger);
      }
      if (vector) v128.store(out, m);
      else store<T>(out, first<T>(m));
      const done = vector ? lanes<T>() : 1;
      j -= done;
      x += bytesOf<T>(done);
      out += bytesOf<T>(done);
    }
    x += bytesOf<T>((length - 1) * inner);
  }
}

export function max<T>(outer: i32, length: i32, inner: i32, x: usize, out: usize): void {
  extreme<T>(outer, length, inner, x, out, true);
}

export function min<T>(outer: i32, length: i32, inner: i32, x: usize, out: usize): void {
  extreme<T>(outer, length, inner, x, out, false);
}

/** The index of the first element that equals `m`, or, where m is NaN, of the first NaN. */
// @ts-ignore: decorator
@inline
function indexOf<T>(x: usize, m: T): i32 {
  let i = 0;
  if (isFloat<T>() && m != m) {
    while (load<T>(x) == load<T>(x)) {
      x += sizeof<T>();
      i++;
    }
    return i;
  }
  while (load<T>(x) != m) {
    x += sizeof<T>();
    i++;
  }
  return i;
}

// @ts-ignore: decorator
@inline
function argExtreme<T>(outer: i32, length: i32, inner: i32, x: usize, out: usize, larger: bool): void {
  for (; outer > 0; outer--, x += bytesOf<T>(length * inner)) {
    if (inner == 1) {
      store<i32>(out, indexOf<T>(x, extremeOfRow<T>(length, x, larger)));
      out += 4;
      continue;
    }
    for (let j = 0; j < inner; j++, out += 4) {
      let p = x + bytesOf<T>(j);
      let champion = load<T>(p);
      let best = 0;
      for (let i = 0; i < length; i++, p += bytesOf<T>(inner)) {
        const value = load<T>(p);
        // Only a NaN differs from itself, and the first one stays.
        if (value != value ? champion == champion : larger ? value > champion : value < champion) {
          champion = value;
          best = i;
        }
      }
      store<i32>(out, best);
    }
  }
}

/** int32 indices of the first largest elements; NaN counts as largest. */
export function argmax<T>(outer: i32, length: i32, inner: i32, x: usize, out: usize): void {
  argExtreme<T>(outer, length, inner, x, out, true);
}

/** int32 indices of the first smallest elements; NaN counts as smallest. */
export function argmin<T>(outer: i32, length: i32, inner: i32, x: usize, out: usize): void {
  argExtreme<T>(outer, length, inner, x, out, false);
}
