// Pooling of planes x [planes, h, w] to [planes, ho, wo]. Windows that lie inside from left to right go a vector at a time.
import { all, bytesOf } from './elementwise-lanes';
import { lanes } from './vector';

/** The elements at p, p + step, … as a vector. */
// @ts-ignore: decorator
@inline
function every<T>(p: usize, step: i32): v128 {
  if (step == 1) return v128.load(p);
  const s = bytesOf<T>(step);
  if (sizeof<T>() == 8) return v128.load64_lane(p + s, v128.load64_zero(p), 1);
  // The second vector begins at the fourth element, so that nothing beyond the last one wanted is read.
  if (step == 2) return v128.shuffle<f32>(v128.load(p), v128.load(p, 12), 0, 2, 5, 7);
  const v = v128.load32_lane(p + s, v128.load32_zero(p), 1);
  return v128.load32_lane(p + 3 * s, v128.load32_lane(p + 2 * s, v, 2), 3);
}

/** The first window that does not begin left of the plane. */
// @ts-ignore: decorator
@inline
function firstInside(wo: i32, sx: i32, px: i32): i32 {
  return min(wo, (px + sx - 1) / sx);
}

/** After the last window that does not end right of the plane. */
// @ts-ignore: decorator
@inline
function endInside(w: i32, wo: i32, kw: i32, sx: i32, px: i32): i32 {
  const room = w + px - kw;
  return room < 0 ? 0 : min(wo, room / sx + 1);
}

/** A vector of integers as wide as T. */
// @ts-ignore: decorator
@inline
function index<T>(x: i32): v128 {
  return sizeof<T>() == 4 ? i32x4.splat(x) : i64x2.splat(<i64>x);
}

// @ts-ignore: decorator
@inline
function addIndex<T>(a: v128, b: v128): v128 {
  return sizeof<T>() == 4 ? i32x4.add(a, b) : i64x2.add(a, b);
}

/** out (int32) ← where in its plane each window has its maximum: the first one, or the last NaN. `largest`, unless it is 0, ← it. */
function maxPoolIndex<T>(
  planes: i32, h: i32, w: i32, ho: i32, wo: i32, kh: i32, kw: i32, sy: i32, sx: i32, py: i32, px: i32,
  x: usize, out: usize, largest: usize,
): void {
  const from = firstInside(wo, sx, px);
  const to = endInside(w, wo, kw, sx, px);
  const apart = sizeof<T>() == 4 ? i32x4(0, sx, 2 * sx, 3 * sx) : i64x2(0, <i64>sx);
  for (; planes > 0; planes--, x += bytesOf<T>(h * w))
    for (let i = 0; i < ho; i++) {
      const top = max(0, i * sy - py);
      const bottom = min(h, i * sy - py + kh);
      for (let j = 0; j < wo; ) {
        if (j >= from && j < to && to - from >= lanes<T>()) {
          // The last vector begins earlier, if need be.
          const back = max(0, j + lanes<T>() - to);
          j -= back;
          out -= <usize>back << 2;
          if (largest) largest -= bytesOf<T>(back);
          const left = j * sx - px;
          let best = addIndex<T>(index<T>(top * w + left), apart);
          let most = every<T>(x + bytesOf<T>(top * w + left), sx);
          for (let r = top; r < bottom; r++)
            for (let c = 0; c < kw; c++) {
              const at = r * w + left + c;
              const v = every<T>(x + bytesOf<T>(at), sx);
              const wins = v128.or(v128.gt<T>(v, most), v128.ne<T>(v, v));
              most = v128.bitselect(v, most, wins);
              best = v128.bitselect(addIndex<T>(index<T>(at), apart), best, wins);
            }
          if (sizeof<T>() == 4) v128.store(out, best);
          else v128.store64_lane(out, v128.shuffle<i32>(best, best, 0, 2, 0, 2), 0);
          out += <usize>lanes<T>() << 2;
          if (largest) {
            v128.store(largest, most);
            largest += 16;
          }
          j += lanes<T>();
          continue;
        }
        const left = j * sx - px;
        const a = max(0, left);
        const b = min(w, left + kw);
        let best = top * w + a;
        let most = load<T>(x + bytesOf<T>(best));
        for (let r = top; r < bottom; r++)
          for (let c = a; c < b; c++) {
            const v = load<T>(x + bytesOf<T>(r * w + c));
            const wins = v > most || v != v;
            most = wins ? v : most;
            best = wins ? r * w + c : best;
          }
        store<i32>(out, best);
        out += 4;
        if (largest) {
          store<T>(largest, most);
          largest += sizeof<T>();
        }
        j++;
      }
    }
}

/** out ← 0, then in each plane the element at each window's index += gy. */
function maxPoolGrad<T>(
  planes: i32, h: i32, w: i32, ho: i32, wo: i32, kh: i32, kw: i32, sy: i32, sx: i32,
  gy: usize, index: usize, out: usize,
): void {
  const apart = sy >= kh && sx >= kw;
  const plane = bytesOf<T>(h * w);
  for (; planes > 0; planes--, out += plane) {
    memory.fill(out, 0, plane);
    for (let n = ho * wo; n > 0; n--, gy += sizeof<T>(), index += 4) {
      const at = out + bytesOf<T>(load<i32>(index));
      const g = load<T>(gy);
      store<T>(at, apart ? g : load<T>(at) + g);
    }
  }
}

/** out ← the mean of each window, over all of it (`padded` = 1) or over what lies in the plane. */
function avgPool<T>(
  planes: i32, h: i32, w: i32, ho: i32, wo: i32, kh: i32, kw: i32, sy: i32, sx: i32, py: i32, px: i32, padded: i32,
  x: usize, out: usize,
): void {
  const from = firstInside(wo, sx, px);
  const to = endInside(w, wo, kw, sx, px);
  for (; planes > 0; planes--, x += bytesOf<T>(h * w))
    for (let i = 0; i < ho; i++) {
      const top = max(0, i * sy - py);
      const bottom = min(h, i * sy - py + kh);
      for (let j = 0; j < wo; ) {
        if (j >= from && j < to && to - from >= lanes<T>()) {
          // The last vector begins earlier, if need be.
          const back = max(0, j + lanes<T>() - to);
          j -= back;
          out -= bytesOf<T>(back);
          const left = j * sx - px;
          let sum = all<T>(0);
          for (let r = top; r < bottom; r++)
            for (let c = 0; c < kw; c++) sum = v128.add<T>(sum, every<T>(x + bytesOf<T>(r * w + left + c), sx));
          const count = padded ? kh * kw : (bottom - top) * kw;
          v128.store(out, v128.div<T>(sum, all<T>(<f64>count)));
          out += 16;
          j += lanes<T>();
          continue;
        }
        const left = j * sx - px;
        const a = max(0, left);
        const b = min(w, left + kw);
        let sum: T = 0;
        for (let r = top; r < bottom; r++) for (let c = a; c < b; c++) sum += load<T>(x + bytesOf<T>(r * w + c));
        store<T>(out, sum / <T>(padded ? kh * kw : (bottom - top) * (b - a)));
        out += sizeof<T>();
        j++;
      }
    }
}

/** out (like x) ← every gy shared evenly among what it is the mean of. */
function avgPoolGrad<T>(
  planes: i32, h: i32, w: i32, ho: i32, wo: i32, kh: i32, kw: i32, sy: i32, sx: i32, py: i32, px: i32, padded: i32,
  gy: usize, out: usize,
): void {
  memory.fill(out, 0, bytesOf<T>(planes * h * w));
  for (; planes > 0; planes--, out += bytesOf<T>(h * w))
    for (let i = 0; i < ho; i++) {
      const top = max(0, i * sy - py);
      const bottom = min(h, i * sy - py + kh);
      for (let j = 0; j < wo; j++, gy += sizeof<T>()) {
        const a = max(0, j * sx - px);
        const b = min(w, j * sx - px + kw);
        const portion = load<T>(gy) / <T>(padded ? kh * kw : (bottom - top) * (b - a));
        for (let r = top; r < bottom; r++) {
          let p = out + bytesOf<T>(r * w + a);
          for (let c = a; c < b; c++, p += sizeof<T>()) store<T>(p, load<T>(p) + portion);
        }
      }
    }
}

export function maxPoolIndex_f32(
  planes: i32, h: i32, w: i32, ho: i32, wo: i32, kh: i32, kw: i32, sy: i32, sx: i32, py: i32, px: i32,
  x: usize, out: usize, largest: usize,
): void {
  maxPoolIndex<f32>(planes, h, w, ho, wo, kh, kw, sy, sx, py, px, x, out, largest);
}

export function maxPoolIndex_f64(
  planes: i32, h: i32, w: i32, ho: i32, wo: i32, kh: i32, kw: i32, sy: i32, sx: i32, py: i32, px: i32,
  x: usize, out: usize, largest: usize,
): void {
  maxPoolIndex<f64>(planes, h, w, ho, wo, kh, kw, sy, sx, py, px, x, out, largest);
}

export function maxPoolGrad_f32(
  planes: i32, h: i32, w: i32, ho: i32, wo: i32, kh: i32, kw: i32, sy: i32, sx: i32, py: i32, px: i32,
  gy: usize, index: usize, out: usize,
): void {
  maxPoolGrad<f32>(planes, h, w, ho, wo, kh, kw, sy, sx, gy, index, out);
}

export function maxPoolGrad_f64(
  planes: i32, h: i32, w: i32, ho: i32, wo: i32, kh: i32, kw: i32, sy: i32, sx: i32, py: i32, px: i32,
  gy: usize, index: usize, out: usize,
): void {
  maxPoolGrad<f64>(planes, h, w, ho, wo, kh, kw, sy, sx, gy, index, out);
}

export function avgPool_f32(
  planes: i32, h: i32, w: i32, ho: i32, wo: i32, kh: i32, kw: i32, sy: i32, sx: i32, py: i32, px: i32,
  padded: i32, x: usize, out: usize,
): void {
  avgPool<f32>(planes, h, w, ho, wo, kh, kw, sy, sx, py, px, padded, x, out);
}

export function avgPool_f64(
  planes: i32, h: i32, w: i32, ho: i32, wo: i32, kh: i32, kw: i32, sy: i32, sx: i32, py: i32, px: i32,
  padded: i32, x: usize, out: usize,
): void {
  avgPool<f64>(planes, h, w, ho, wo, kh, kw, sy, sx, py, px, padded, x, out);
}

export function avgPoolGrad_f32(
  planes: i32, h: i32, w: i32, ho: i32, wo: i32, kh: i32, kw: i32, sy: i32, sx: i32, py: i32, px: i32,
  padded: i32, gy: usize, out: usize,
): void {
  avgPoolGrad<f32>(planes, h, w, ho, wo, kh, kw, sy, sx, py, px, padded, gy, out);
}

export function avgPoolGrad_f64(
  planes: i32, h: i32, w: i32, ho: i32, wo: i32, kh: i32, kw: i32, sy: i32, sx: i32, py: i32, px: i32,
  padded: i32, gy: usize, out: usize,
): void {
  avgPoolGrad<f64>(planes, h, w, ho, wo, kh, kw, sy, sx, py, px, padded, gy, out);
}
