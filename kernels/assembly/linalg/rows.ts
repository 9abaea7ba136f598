// Operations on contiguous rows of T, several at a time, so that what they share is loaded once. `ld` is the distance
// of rows in bytes.
import { lanes, madd, shift, splatAt, zero } from '../vector';

/** Element i of the row at p. */
// @ts-ignore: decorator
@inline
export function get<T>(p: usize, i: i32): T {
  return load<T>(p + (<usize>i << shift<T>()));
}

// @ts-ignore: decorator
@inline
export function put<T>(p: usize, i: i32, x: T): void {
  store<T>(p + (<usize>i << shift<T>()), x);
}

/** Bytes of n elements. */
// @ts-ignore: decorator
@inline
export function bytes<T>(n: i32): usize {
  return <usize>n << shift<T>();
}

/** Unit roundoff. */
// @ts-ignore: decorator
@inline
export function roundoff<T>(): f64 {
  return sizeof<T>() == 4 ? 5.9604644775390625e-8 : 1.1102230246251565e-16;
}

// @ts-ignore: decorator
@inline
export function sumLanes<T>(v: v128): T {
  if (sizeof<T>() == 4)
    return <T>(
      (f32x4.extract_lane(v, 0) + f32x4.extract_lane(v, 1) + (f32x4.extract_lane(v, 2) + f32x4.extract_lane(v, 3)))
    );
  return <T>(f64x2.extract_lane(v, 0) + f64x2.extract_lane(v, 1));
}

/** x·y */
export function dot<T>(n: i32, x: usize, y: usize): T {
  let s = zero<T>();
  let t = zero<T>();
  let i = 2 * lanes<T>();
  for (; i <= n; i += 2 * lanes<T>()) {
    s = madd<T>(v128.load(x), v128.load(y), s);
    t = madd<T>(v128.load(x, 16), v128.load(y, 16), t);
    x += 32;
    y += 32;
  }
  let sum = sumLanes<T>(v128.add<T>(s, t));
  for (i -= 2 * lanes<T>(); i < n; i++) {
    sum += load<T>(x) * load<T>(y);
    x += sizeof<T>();
    y += sizeof<T>();
  }
  return sum;
}

/** x ← c x */
export function scale<T>(n: i32, c: T, x: usize): void {
  const by = v128.splat<T>(c);
  for (; n >= lanes<T>(); n -= lanes<T>()) {
    v128.store(x, v128.mul<T>(by, v128.load(x)));
    x += 16;
  }
  for (; n > 0; n--) {
    store<T>(x, c * load<T>(x));
    x += sizeof<T>();
  }
}

/** x ← x / c */
export function divide<T>(n: i32, c: T, x: usize): void {
  const by = v128.splat<T>(c);
  for (; n >= lanes<T>(); n -= lanes<T>()) {
    v128.store(x, v128.div<T>(v128.load(x), by));
    x += 16;
  }
  for (; n > 0; n--) {
    store<T>(x, load<T>(x) / c);
    x += sizeof<T>();
  }
}

/** y ← y + c x */
export function axpy<T>(n: i32, c: T, x: usize, y: usize): void {
  const by = v128.splat<T>(c);
  for (; n >= lanes<T>(); n -= lanes<T>()) {
    v128.store(y, madd<T>(by, v128.load(x), v128.load(y)));
    x += 16;
    y += 16;
  }
  for (; n > 0; n--) {
    store<T>(y, load<T>(y) + c * load<T>(x));
    x += sizeof<T>();
    y += sizeof<T>();
  }
}

/** y ← −x */
export function negated<T>(n: i32, x: usize, y: usize): void {
  for (; n >= lanes<T>(); n -= lanes<T>()) {
    v128.store(y, v128.neg<T>(v128.load(x)));
    x += 16;
    y += 16;
  }
  for (; n > 0; n--) {
    store<T>(y, -load<T>(x));
    x += sizeof<T>();
    y += sizeof<T>();
  }
}

/** Rows x, y ← c x + s y, c y − s x. */
export function rotate<T>(n: i32, x: usize, y: usize, c: T, s: T): void {
  const C = v128.splat<T>(c);
  const S = v128.splat<T>(s);
  for (; n >= lanes<T>(); n -= lanes<T>()) {
    const a = v128.load(x);
    const b = v128.load(y);
    v128.store(x, v128.add<T>(v128.mul<T>(C, a), v128.mul<T>(S, b)));
    v128.store(y, v128.sub<T>(v128.mul<T>(C, b), v128.mul<T>(S, a)));
    x += 16;
    y += 16;
  }
  for (; n > 0; n--) {
    const a = load<T>(x);
    const b = load<T>(y);
    store<T>(x, c * a + s * b);
    store<T>(y, c * b - s * a);
    x += sizeof<T>();
    y += sizeof<T>();
  }
}

/** out[l] ← (row l of a)·x for `rows` rows of n elements. */
export function dots<T>(rows: i32, n: i32, a: usize, ld: usize, x: usize, out: usize): void {
  for (; rows >= 4; rows -= 4) {
    let p = x;
    let a0 = a;
    let a1 = a0 + ld;
    let a2 = a1 + ld;
    let a3 = a2 + ld;
    let s0 = zero<T>();
    let s1 = zero<T>();
    let s2 = zero<T>();
    let s3 = zero<T>();
    let i = lanes<T>();
    for (; i <= n; i += lanes<T>()) {
      const v = v128.load(p);
      s0 = madd<T>(v, v128.load(a0), s0);
      s1 = madd<T>(v, v128.load(a1), s1);
      s2 = madd<T>(v, v128.load(a2), s2);
      s3 = madd<T>(v, v128.load(a3), s3);
      p += 16;
      a0 += 16;
      a1 += 16;
      a2 += 16;
      a3 += 16;
    }
    let d0 = sumLanes<T>(s0);
    let d1 = sumLanes<T>(s1);
    let d2 = sumLanes<T>(s2);
    let d3 = sumLanes<T>(s3);
    for (i -= lanes<T>(); i < n; i++) {
      const e = load<T>(p);
      d0 += e * load<T>(a0);
      d1 += e * load<T>(a1);
      d2 += e * load<T>(a2);
      d3 += e * load<T>(a3);
      p += sizeof<T>();
      a0 += sizeof<T>();
      a1 += sizeof<T>();
      a2 += sizeof<T>();
      a3 += sizeof<T>();
    }
    store<T>(out, d0);
    store<T>(out, d1, sizeof<T>());
    store<T>(out, d2, 2 * sizeof<T>());
    store<T>(out, d3, 3 * sizeof<T>());
    out += 4 * sizeof<T>();
    a += 4 * ld;
  }
  for (; rows > 0; rows--) {
    store<T>(out, dot<T>(n, a, x));
    out += sizeof<T>();
    a += ld;
  }
}

/** y ← y + Σ c[l] (row l of a) over `rows` rows; the c lie `step` bytes apart. */
export function combine<T>(rows: i32, n: i32, a: usize, ld: usize, c: usize, step: usize, y: usize): void {
  for (; rows >= 4; rows -= 4) {
    const c0 = splatAt<T>(c);
    const c1 = splatAt<T>(c + step);
    const c2 = splatAt<T>(c + 2 * step);
    const c3 = splatAt<T>(c + 3 * step);
    let p = y;
    let a0 = a;
    let a1 = a0 + ld;
    let a2 = a1 + ld;
    let a3 = a2 + ld;
    let i = lanes<T>();
    for (; i <= n; i += lanes<T>()) {
      const u = madd<T>(c1, v128.load(a1), madd<T>(c0, v128.load(a0), v128.load(p)));
      v128.store(p, madd<T>(c3, v128.load(a3), madd<T>(c2, v128.load(a2), u)));
      p += 16;
      a0 += 16;
      a1 += 16;
      a2 += 16;
      a3 += 16;
    }
    for (i -= lanes<T>(); i < n; i++) {
      const u = load<T>(p) + load<T>(c) * load<T>(a0) + load<T>(c + step) * load<T>(a1);
      store<T>(p, u + load<T>(c + 2 * step) * load<T>(a2) + load<T>(c + 3 * step) * load<T>(a3));
      p += sizeof<T>();
      a0 += sizeof<T>();
      a1 += sizeof<T>();
      a2 += sizeof<T>();
      a3 += sizeof<T>();
    }
    c += 4 * step;
    a += 4 * ld;
  }
  for (; rows > 0; rows--) {
    axpy<T>(n, load<T>(c), a, y);
    c += step;
    a += ld;
  }
}

/** A line of the cache each of so many rows: powers of two fall on the same eight ways. */
const TILE: i32 = 8;

/** to [n, m] ← from [m, n]ᵀ; distances of rows in bytes. */
export function transpose<T>(m: i32, n: i32, from: usize, fr: usize, to: usize, tr: usize): void {
  for (let i0 = 0; i0 < m; i0 += TILE)
    for (let j0 = 0; j0 < n; j0 += TILE)
      for (let j = j0; j < min(j0 + TILE, n); j++) {
        let p = from + <usize>i0 * fr + bytes<T>(j);
        let q = to + <usize>j * tr + bytes<T>(i0);
        for (let i = i0; i < min(i0 + TILE, m); i++) {
          store<T>(q, load<T>(p));
          p += fr;
          q += sizeof<T>();
        }
      }
}
