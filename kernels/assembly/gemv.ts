// Matrix times vector where the matrix is contiguous along k: dot products, four columns at a time. (Where it is
// contiguous the other way, the product's own one-row block does as well.)
import { lanes, madd, shift, zero } from './vector';

// @ts-ignore: decorator
@inline
function sumLanes<T>(v: v128): T {
  if (sizeof<T>() == 4)
    return <T>(
      (f32x4.extract_lane(v, 0) + f32x4.extract_lane(v, 1) + (f32x4.extract_lane(v, 2) + f32x4.extract_lane(v, 3)))
    );
  return <T>(f64x2.extract_lane(v, 0) + f64x2.extract_lane(v, 1));
}

// @ts-ignore: decorator
@inline
export function finish<T>(sum: T, c: usize, from: usize, relu: bool): void {
  if (from) sum += load<T>(from);
  store<T>(c, relu ? max<T>(sum, 0) : sum);
}

/** c[j] ← x·(column j of B) (+ from[j]) for n columns; `bc` is the distance between columns, in bytes. */
export function dotRow<T>(n: i32, k: i32, x: usize, b: usize, bc: usize, c: usize, from: usize, relu: bool): void {
  const size = sizeof<T>();
  const vectors = k & ~(2 * lanes<T>() - 1);
  const bytes = <usize>vectors << shift<T>();
  const end = x + bytes;
  const rest = k - vectors;
  for (; n >= 4; n -= 4) {
    let p = x;
    let b0 = b;
    let b1 = b0 + bc;
    let b2 = b1 + bc;
    let b3 = b2 + bc;
    let s0 = zero<T>();
    let s1 = zero<T>();
    let s2 = zero<T>();
    let s3 = zero<T>();
    let t0 = zero<T>();
    let t1 = zero<T>();
    let t2 = zero<T>();
    let t3 = zero<T>();
    while (p < end) {
      const u = v128.load(p);
      const v = v128.load(p, 16);
      s0 = madd<T>(u, v128.load(b0), s0);
      t0 = madd<T>(v, v128.load(b0, 16), t0);
      s1 = madd<T>(u, v128.load(b1), s1);
      t1 = madd<T>(v, v128.load(b1, 16), t1);
      s2 = madd<T>(u, v128.load(b2), s2);
      t2 = madd<T>(v, v128.load(b2, 16), t2);
      s3 = madd<T>(u, v128.load(b3), s3);
      t3 = madd<T>(v, v128.load(b3, 16), t3);
      p += 32;
      b0 += 32;
      b1 += 32;
      b2 += 32;
      b3 += 32;
    }
    let d0 = sumLanes<T>(v128.add<T>(s0, t0));
    let d1 = sumLanes<T>(v128.add<T>(s1, t1));
    let d2 = sumLanes<T>(v128.add<T>(s2, t2));
    let d3 = sumLanes<T>(v128.add<T>(s3, t3));
    for (let i = 0; i < rest; i++) {
      const at = <usize>i << shift<T>();
      const e = load<T>(p + at);
      d0 += e * load<T>(b0 + at);
      d1 += e * load<T>(b1 + at);
      d2 += e * load<T>(b2 + at);
      d3 += e * load<T>(b3 + at);
    }
    finish<T>(d0, c, from, relu);
    finish<T>(d1, c + size, from ? from + size : 0, relu);
    finish<T>(d2, c + 2 * size, from ? from + 2 * size : 0, relu);
    finish<T>(d3, c + 3 * size, from ? from + 3 * size : 0, relu);
    b += 4 * bc;
    c += 4 * size;
    if (from) from += 4 * size;
  }
  for (; n > 0; n--) {
    let p = x;
    let q = b;
    let s = zero<T>();
    let t = zero<T>();
    while (p < end) {
      s = madd<T>(v128.load(p), v128.load(q), s);
      t = madd<T>(v128.load(p, 16), v128.load(q, 16), t);
      p += 32;
      q += 32;
    }
    let d = sumLanes<T>(v128.add<T>(s, t));
    for (let i = 0; i < rest; i++) d += load<T>(p + (<usize>i << shift<T>())) * load<T>(q + (<usize>i << shift<T>()));
    finish<T>(d, c, from, relu);
    b += bc;
    c += size;
    if (from) from += size;
  }
}

/** The sums of the lanes of s and of t, in lanes 0 and 1. */
// @ts-ignore: decorator
@inline
export function sumPair<T>(s: v128, t: v128): v128 {
  if (sizeof<T>() == 8) return v128.add<T>(v128.shuffle<f64>(s, t, 0, 2), v128.shuffle<f64>(s, t, 1, 3));
  const halves = v128.add<T>(v128.shuffle<f32>(s, t, 0, 4, 1, 5), v128.shuffle<f32>(s, t, 2, 6, 3, 7));
  return v128.add<T>(halves, v128.shuffle<f64>(halves, halves, 1, 1));
}
