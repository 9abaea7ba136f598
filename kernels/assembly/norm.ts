// Layer and batch normalisation with their gradients, and the Euclidean norm. Means and variances are f64, in memory too,
// and the variance is that of x − mean: a mean rounded to f32 would be off by more than the variance where x is far from 0.
// Loops test their end last, for the reason given at `unaryLoop` in elementwise.mjs.
import { addWide, all, bytesOf, loadUpTo, storeUpTo, storeWide, sumWide, wide } from './elementwise-lanes';
import { sumRow } from './reduce';
import { lanes, madd } from './vector';

/** x − m, where `low` is what `m` lacks in digits of the mean. */
// @ts-ignore: decorator
@inline
function less<T>(x: v128, m: v128, low: v128): v128 {
  const d = v128.sub<T>(x, m);
  return sizeof<T>() == 4 ? f32x4.sub(d, low) : d;
}

/** Σ (x − mean)² over n contiguous elements. */
function squaresAround<T>(n: i32, x: usize, mean: f64): f64 {
  const m = f64x2.splat(mean);
  let s0 = f64x2.splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  for (; n >= 8; n -= 8, x += bytesOf<T>(8)) {
    const d0 = f64x2.sub(wide<T>(x, 0), m);
    const d1 = f64x2.sub(wide<T>(x, 1), m);
    const d2 = f64x2.sub(wide<T>(x, 2), m);
    const d3 = f64x2.sub(wide<T>(x, 3), m);
    s0 = madd<f64>(d0, d0, s0);
    s1 = madd<f64>(d1, d1, s1);
    s2 = madd<f64>(d2, d2, s2);
    s3 = madd<f64>(d3, d3, s3);
  }
  for (; n >= 2; n -= 2, x += bytesOf<T>(2)) {
    const d = f64x2.sub(wide<T>(x, 0), m);
    s0 = madd<f64>(d, d, s0);
  }
  let sum = sumWide(f64x2.add(f64x2.add(s0, s1), f64x2.add(s2, s3)));
  for (; n > 0; n--, x += sizeof<T>()) {
    const d = <f64>load<T>(x) - mean;
    sum += d * d;
  }
  return sum;
}

/**
 * out ← √Σx² of each row. Squares of f32 stay far inside of the range of f64; where those of f64 leave it, the row is taken
 * relative to its largest element.
 */
export function norm<T>(rows: i32, cols: i32, x: usize, out: usize): void {
  const bytes = bytesOf<T>(cols);
  for (; rows > 0; rows--, x += bytes, out += sizeof<T>()) {
    let sum = squaresAround<T>(cols, x, 0);
    let unit: f64 = 1;
    if (sizeof<T>() == 8 && !(sum > 1e-280 && sum < 1e300)) {
      let largest: f64 = 0;
      for (let p = x; p < x + bytes; p += 8) largest = max(largest, abs(load<f64>(p)));
      if (largest > 0 && largest < Infinity) {
        unit = largest;
        sum = 0;
        for (let p = x; p < x + bytes; p += 8) {
          const part = load<f64>(p) / unit;
          sum += part * part;
        }
      }
    }
    store<T>(out, <T>(unit * Math.sqrt(sum)));
  }
}

/** 1/√(variance + ε), with the variance at an address. */
// @ts-ignore: decorator
@inline
function scaleAt(variance: usize, eps: f64): f64 {
  return 1 / Math.sqrt(load<f64>(variance) + eps);
}

// --- over rows ------------------------------------------------------------------------------------------------------

/**
 * out ← x̂ · w + b over the last axis of x [rows, cols], where x̂ = (x − mean) / √(variance + ε); mean and variance (with
 * 1/cols), f64 [rows], are kept for the gradient. w and b [cols] may be 0, for none.
 */
export function layerNorm<T>(
  rows: i32, cols: i32, x: usize, w: usize, b: usize, eps: f64, out: usize, mean: usize, variance: usize,
): void {
  if (cols <= 0) return;
  for (; rows > 0; rows--, x += bytesOf<T>(cols), out += bytesOf<T>(cols), mean += 8, variance += 8) {
    const m = sumRow<T>(cols, x) / <f64>cols;
    const s2 = squaresAround<T>(cols, x, m) / <f64>cols;
    store<f64>(mean, m);
    store<f64>(variance, s2);
    const shift = all<T>(m), low = all<T>(m - <f64><T>m);
    const factor = all<T>(1 / Math.sqrt(s2 + eps));
    let n = cols;
    let at: usize = 0;
    do {
      let y = v128.mul<T>(less<T>(loadUpTo<T>(x + at, n, shift), shift, low), factor);
      if (w) y = v128.mul<T>(y, loadUpTo<T>(w + at, n, factor));
      if (b) y = v128.add<T>(y, loadUpTo<T>(b + at, n, factor));
      storeUpTo<T>(out + at, y, n);
      n -= lanes<T>();
      at += 16;
    } while (n > 0);
  }
}

/** out ← (g − mean g − x̂ mean(g x̂)) / √(variance + ε) where g = dy · w. */
export function layerNormBackward<T>(
  rows: i32, cols: i32, dy: usize, x: usize, w: usize, eps: f64, mean: usize, variance: usize, out: usize,
): void {
  if (cols <= 0) return;
  const zero = all<T>(0);
  for (; rows > 0; rows--, mean += 8, variance += 8) {
    const m = load<f64>(mean);
    const shift = all<T>(m), low = all<T>(m - <f64><T>m);
    const factor = all<T>(scaleAt(variance, eps));
    let s = f64x2.splat(0);
    let t = s;
    let n = cols;
    let at: usize = 0;
    do {
      let g = loadUpTo<T>(dy + at, n, zero);
      if (w) g = v128.mul<T>(g, loadUpTo<T>(w + at, n, zero));
      const normal = v128.mul<T>(less<T>(loadUpTo<T>(x + at, n, shift), shift, low), factor);
      s = addWide<T>(s, g);
      t = addWide<T>(t, v128.mul<T>(g, normal));
      n -= lanes<T>();
      at += 16;
    } while (n > 0);
    const meanG = all<T>(sumWide(s) / <f64>cols);
    const meanGx = all<T>(sumWide(t) / <f64>cols);
    n = cols;
    at = 0;
    do {
      let g = loadUpTo<T>(dy + at, n, zero);
      if (w) g = v128.mul<T>(g, loadUpTo<T>(w + at, n, zero));
      const normal = v128.mul<T>(less<T>(loadUpTo<T>(x + at, n, shift), shift, low), factor);
      const centred = v128.sub<T>(v128.sub<T>(g, meanG), v128.mul<T>(normal, meanGx));
      storeUpTo<T>(out + at, v128.mul<T>(centred, factor), n);
      n -= lanes<T>();
      at += 16;
    } while (n > 0);
    dy += bytesOf<T>(cols);
    x += bytesOf<T>(cols);
    out += bytesOf<T>(cols);
  }
}

/** dw ← Σ dy x̂ and, unless it is 0, db ← Σ dy over the rows, in f64. `step`: elements from row to row, 0 for `cols`. */
export function layerNormWeights<T>(
  rows: i32, cols: i32, dy: usize, x: usize, eps: f64, mean: usize, variance: usize, dw: usize, db: usize, step: i32,
): void {
  const row = bytesOf<T>(step ? step : cols);
  let n = cols;
  for (; n > 0; ) {
    // Eight columns, or one.
    const eight = n >= 8;
    let w0 = f64x2.splat(0);
    let w1 = w0;
    let w2 = w0;
    let w3 = w0;
    let b0 = w0;
    let b1 = w0;
    let b2 = w0;
    let b3 = w0;
    let p = dy;
    let q = x;
    for (let i = 0; i < rows; i++, p += row, q += row) {
      const m = f64x2.splat(load<f64>(mean + bytesOf<f64>(i)));
      const r = f64x2.splat(scaleAt(variance + bytesOf<f64>(i), eps));
      const g0 = eight ? wide<T>(p, 0) : f64x2.splat(<f64>load<T>(p));
      const x0 = eight ? wide<T>(q, 0) : f64x2.splat(<f64>load<T>(q));
      w0 = madd<f64>(g0, f64x2.mul(f64x2.sub(x0, m), r), w0);
      b0 = f64x2.add(b0, g0);
      if (!eight) continue;
      const g1 = wide<T>(p, 1);
      const g2 = wide<T>(p, 2);
      const g3 = wide<T>(p, 3);
      w1 = madd<f64>(g1, f64x2.mul(f64x2.sub(wide<T>(q, 1), m), r), w1);
      w2 = madd<f64>(g2, f64x2.mul(f64x2.sub(wide<T>(q, 2), m), r), w2);
      w3 = madd<f64>(g3, f64x2.mul(f64x2.sub(wide<T>(q, 3), m), r), w3);
      b1 = f64x2.add(b1, g1);
      b2 = f64x2.add(b2, g2);
      b3 = f64x2.add(b3, g3);
    }
    if (eight) {
      storeWide<T>(dw, w0, w1);
      storeWide<T>(dw + bytesOf<T>(4), w2, w3);
    } else store<T>(dw, <T>f64x2.extract_lane(w0, 0));
    if (db) {
      if (eight) {
        storeWide<T>(db, b0, b1);
        storeWide<T>(db + bytesOf<T>(4), b2, b3);
      } else store<T>(db, <T>f64x2.extract_lane(b0, 0));
      db += bytesOf<T>(eight ? 8 : 1);
    }
    const done = eight ? 8 : 1;
    n -= done;
    dy += bytesOf<T>(done);
    x += bytesOf<T>(done);
    dw += bytesOf<T>(done);
  }
}

// --- over channels: x [outer, channels, inner] ------------------------------------------------------------------------
// Where a parameter `step` is not 0, these are some of the channels of arrays that lie so many elements from one `outer` to
// the next: so threads share the work.

/** The mean and the variance (with 1/n) of each channel. */
export function batchStats<T>(
  outer: i32, channels: i32, inner: i32, x: usize, mean: usize, variance: usize, step: i32,
): void {
  const next = bytesOf<T>(step ? step : channels * inner);
  const count = <f64>outer * <f64>inner;
  for (; channels > 0; channels--, x += bytesOf<T>(inner), mean += 8, variance += 8) {
    let s: f64 = 0;
    for (let i = 0, p = x; i < outer; i++, p += next) s += sumRow<T>(inner, p);
    const m = s / count;
    let squares: f64 = 0;
    for (let i = 0, p = x; i < outer; i++, p += next) squares += squaresAround<T>(inner, p, m);
    store<f64>(mean, m);
    store<f64>(variance, squares / count);
  }
}

/** out ← (x − mean) · w / √(variance + ε) + b in each channel; w and b [channels] may be 0, for none. */
export function batchNorm<T>(
  outer: i32, channels: i32, inner: i32, x: usize, mean: usize, variance: usize, eps: f64, w: usize, b: usize,
  out: usize,
): void {
  if (inner <= 0) return;
  for (; outer > 0; outer--)
    for (let c = 0; c < channels; c++, x += bytesOf<T>(inner), out += bytesOf<T>(inner)) {
      const at = bytesOf<T>(c);
      const r = scaleAt(variance + bytesOf<f64>(c), eps);
      const m = load<f64>(mean + bytesOf<f64>(c));
      const shift = all<T>(m), low = all<T>(m - <f64><T>m);
      const factor = all<T>(w ? r * <f64>load<T>(w + at) : r);
      const bias = v128.splat<T>(b ? load<T>(b + at) : 0);
      let n = inner;
      let j: usize = 0;
      do {
        storeUpTo<T>(out + j, madd<T>(less<T>(loadUpTo<T>(x + j, n, shift), shift, low), factor, bias), n);
        n -= lanes<T>();
        j += 16;
      } while (n > 0);
    }
}

/**
 * dw ← Σ dy x̂, db ← Σ dy and out ← w (dy − mean dy − x̂ mean(dy x̂)) / √(variance + ε) in each channel, or without the means
 * where mean and variance were given (`training` is 0). Each of the three may be 0, for not wanted, and so may w.
 */
export function batchNormBackward<T>(
  outer: i32, channels: i32, inner: i32, dy: usize, x: usize, mean: usize, variance: usize, eps: f64, w: usize,
  training: i32, out: usize, dw: usize, db: usize, step: i32,
): void {
  if (inner <= 0) return;
  const next = bytesOf<T>(step ? step : channels * inner);
  const count = <f64>outer * <f64>inner;
  const zero = all<T>(0);
  for (let c = 0; c < channels; c++, dy += bytesOf<T>(inner), x += bytesOf<T>(inner)) {
    const at = bytesOf<T>(c);
    const m = load<f64>(mean + bytesOf<f64>(c));
    const r = scaleAt(variance + bytesOf<f64>(c), eps);
    const shift = all<T>(m), low = all<T>(m - <f64><T>m);
    const factor = all<T>(r);
    let s = f64x2.splat(0);
    let t = s;
    for (let i = 0, p = dy, q = x; i < outer; i++, p += next, q += next) {
      let n = inner;
      let j: usize = 0;
      // Four vectors at a time. In f32 they are added before they become f64: that rounds no more than dy itself was rounded.
      for (; n >= 4 * lanes<T>(); n -= 4 * lanes<T>(), j += 64) {
        const g0 = v128.load(p + j);
        const g1 = v128.load(p + j, 16);
        const g2 = v128.load(p + j, 32);
        const g3 = v128.load(p + j, 48);
        const x0 = v128.mul<T>(less<T>(v128.load(q + j), shift, low), factor);
        const x1 = v128.mul<T>(less<T>(v128.load(q + j, 16), shift, low), factor);
        const x2 = v128.mul<T>(less<T>(v128.load(q + j, 32), shift, low), factor);
        const x3 = v128.mul<T>(less<T>(v128.load(q + j, 48), shift, low), factor);
        s = addWide<T>(s, v128.add<T>(v128.add<T>(g0, g1), v128.add<T>(g2, g3)));
        t = addWide<T>(t, v128.add<T>(madd<T>(g0, x0, v128.mul<T>(g1, x1)), madd<T>(g2, x2, v128.mul<T>(g3, x3))));
      }
      for (; n > 0; n -= lanes<T>(), j += 16) {
        const g = loadUpTo<T>(p + j, n, zero);
        s = addWide<T>(s, g);
        t = addWide<T>(t, v128.mul<T>(g, v128.mul<T>(less<T>(loadUpTo<T>(q + j, n, shift), shift, low), factor)));
      }
    }
    if (dw) store<T>(dw + at, <T>sumWide(t));
    if (db) store<T>(db + at, <T>sumWide(s));
    if (!out) continue;
    const meanG = all<T>(training ? sumWide(s) / count : 0);
    const meanGx = all<T>(training ? (sumWide(t) / count) * r : 0);
    const slope = all<T>(w ? r * <f64>load<T>(w + at) : r);
    for (let i = 0, p = dy, q = x, o = out; i < outer; i++, p += next, q += next, o += next) {
      let n = inner;
      let j: usize = 0;
      for (; n >= 2 * lanes<T>(); n -= 2 * lanes<T>(), j += 32) {
        const c0 = v128.mul<T>(less<T>(v128.load(q + j), shift, low), meanGx);
        const c1 = v128.mul<T>(less<T>(v128.load(q + j, 16), shift, low), meanGx);
        const g0 = v128.sub<T>(v128.sub<T>(v128.load(p + j), meanG), c0);
        const g1 = v128.sub<T>(v128.sub<T>(v128.load(p + j, 16), meanG), c1);
        v128.store(o + j, v128.mul<T>(g0, slope));
        v128.store(o + j, v128.mul<T>(g1, slope), 16);
      }
      for (; n > 0; n -= lanes<T>(), j += 16) {
        const centred = v128.mul<T>(less<T>(loadUpTo<T>(q + j, n, shift), shift, low), meanGx);
        const g = v128.sub<T>(v128.sub<T>(loadUpTo<T>(p + j, n, zero), meanG), centred);
        storeUpTo<T>(o + j, v128.mul<T>(g, slope), n);
      }
    }
    out += bytesOf<T>(inner);
  }
}
