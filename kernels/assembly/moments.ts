// Optimizers: updates in place of contiguous arrays of n elements, and of strided rows. Numbers come in f64; each kernel
// computes in the type of its arrays. Loops test their end last, for the reason given at `unaryLoop` in elementwise.mjs.
import { all, bytesOf, choose, loadUpTo, storeUpTo } from './elementwise-lanes';
import { lanes, madd } from './vector';

/** ε as T, and > 0 where it was: 0 / (0 + ε) must stay 0. */
// @ts-ignore: decorator
@inline
function epsilon<T>(eps: f64): v128 {
  if (sizeof<T>() == 4 && eps > 0 && eps < 1e-45) return f32x4.splat(1.401298464324817e-45);
  return all<T>(eps);
}

/** One vector of Adam's moments and the direction they give, see `momentsLoop`; `n` elements of it exist. */
// @ts-ignore: decorator
@inline
function momentsAt<T>(
  n: i32, m: usize, v: usize, g: usize, second: usize, keep1: v128, take1: v128, keep2: v128, take2: v128, e: v128,
  scale1: v128, scale2: v128, tiny: v128, out: usize, p: usize, step: v128, keep: v128,
): void {
  const zero = all<T>(0);
  const gradient = loadUpTo<T>(g, n, zero);
  let square = v128.mul<T>(gradient, gradient);
  if (second) square = loadUpTo<T>(second, n, zero);
  const first = madd<T>(loadUpTo<T>(m, n, zero), keep1, v128.mul<T>(gradient, take1));
  let variance = madd<T>(loadUpTo<T>(v, n, zero), keep2, v128.mul<T>(square, take2));
  variance = v128.andnot(variance, v128.lt<T>(variance, tiny));
  storeUpTo<T>(m, first, n);
  storeUpTo<T>(v, variance, n);
  const root = v128.sqrt<T>(v128.mul<T>(variance, scale2));
  const direction = v128.div<T>(v128.mul<T>(first, scale1), v128.add<T>(root, e));
  if (p) storeUpTo<T>(p, madd<T>(direction, step, v128.mul<T>(loadUpTo<T>(p, n, zero), keep)), n);
  else storeUpTo<T>(out, direction, n);
}

/** Adam's moments and the direction they give, see `Backend.moments` in core; `p`, unless 0, takes −lr times it instead of `out`. */
// @ts-ignore: decorator
@inline
function momentsLoop<T>(
  n: i32, m: usize, v: usize, g: usize, second: usize, beta1: f64, beta2: f64, eps: f64, correction1: f64,
  correction2: f64, out: usize, p: usize, lr: f64, keep: f64,
): void {
  const e = epsilon<T>(eps);
  const tiny = all<T>(sizeof<T>() == 4 ? 1e-36 : 1e-290);
  const keep1 = all<T>(beta1), take1 = all<T>(1 - beta1), keep2 = all<T>(beta2), take2 = all<T>(1 - beta2);
  const scale1 = all<T>(1 / correction1), scale2 = all<T>(1 / correction2), step = all<T>(-lr), kept = all<T>(keep);
  for (; n >= lanes<T>(); n -= lanes<T>()) {
    momentsAt<T>(lanes<T>(), m, v, g, second, keep1, take1, keep2, take2, e, scale1, scale2, tiny, out, p, step, kept);
    m += 16;
    v += 16;
    g += 16;
    if (second) second += 16;
    if (p) p += 16;
    else out += 16;
  }
  if (n > 0) momentsAt<T>(n, m, v, g, second, keep1, take1, keep2, take2, e, scale1, scale2, tiny, out, p, step, kept);
}

/**
 * m ← β₁ m + (1−β₁) g;  v ← β₂ v + (1−β₂) s, where s is `second`, or g² if that is 0, and what is tiny becomes 0;
 * out ← (m / correction1) / (√(v / correction2) + ε).
 */
export function moments<T>(
  n: i32, m: usize, v: usize, g: usize, second: usize, beta1: f64, beta2: f64, eps: f64, correction1: f64,
  correction2: f64, out: usize,
): void {
  momentsLoop<T>(n, m, v, g, second, beta1, beta2, eps, correction1, correction2, out, 0, 0, 0);
}

/** As `moments`, then p ← keep p − lr · direction; `keep` is 1, or 1 − lr · weightDecay in AdamW. */
export function adam<T>(
  n: i32, m: usize, v: usize, g: usize, beta1: f64, beta2: f64, eps: f64, correction1: f64, correction2: f64,
  p: usize, lr: f64, keep: f64,
): void {
  momentsLoop<T>(n, m, v, g, 0, beta1, beta2, eps, correction1, correction2, 0, p, lr, keep);
}

/**
 * buf ← momentum buf + gain g;  p ← p − lr (bufferWeight buf + gradientWeight g). SGD with momentum μ: momentum = μ,
 * gain = 1 − dampening, bufferWeight = 1, gradientWeight = 0; with Nesterov's bufferWeight = μ and gradientWeight = 1; at the first
 * step momentum = 0 and gain = 1.
 */
export function sgd<T>(
  n: i32, p: usize, buf: usize, g: usize, lr: f64, momentum: f64, gain: f64, bufferWeight: f64, gradientWeight: f64,
): void {
  if (n <= 0) return;
  do {
    const zero = all<T>(0);
    const gradient = loadUpTo<T>(g, n, zero);
    const buffer = madd<T>(loadUpTo<T>(buf, n, zero), all<T>(momentum), v128.mul<T>(gradient, all<T>(gain)));
    storeUpTo<T>(buf, buffer, n);
    const direction = madd<T>(buffer, all<T>(bufferWeight), v128.mul<T>(gradient, all<T>(gradientWeight)));
    storeUpTo<T>(p, madd<T>(direction, all<T>(-lr), loadUpTo<T>(p, n, zero)), n);
    n -= lanes<T>();
    p += 16;
    buf += 16;
    g += 16;
  } while (n > 0);
}

/** y ← keep y + α x for element strides of both; x may stand still. */
export function addScaled<T>(
  rows: i32, cols: i32, y: usize, y0: i32, y1: i32, x: usize, x0: i32, x1: i32, alpha: f64, keep: f64,
): void {
  const factor = all<T>(alpha), kept = all<T>(keep);
  for (; rows > 0; rows--, y += bytesOf<T>(y0), x += bytesOf<T>(x0)) {
    let p = y;
    let q = x;
    let n = cols;
    if (y1 == 1 && x1 == 1)
      for (; n >= lanes<T>(); n -= lanes<T>(), p += 16, q += 16)
        v128.store(p, madd<T>(v128.load(q), factor, v128.mul<T>(v128.load(p), kept)));
    for (; n > 0; n--, p += bytesOf<T>(y1), q += bytesOf<T>(x1)) {
      const a = sizeof<T>() == 4 ? v128.load32_zero(p) : v128.load64_zero(p);
      const b = sizeof<T>() == 4 ? v128.load32_zero(q) : v128.load64_zero(q);
      store<T>(p, v128.extract_lane<T>(madd<T>(b, factor, v128.mul<T>(a, kept)), 0));
    }
  }
}

/** y ← keep y + value x / d. */
export function addcdiv<T>(n: i32, y: usize, x: usize, d: usize, value: f64, keep: f64): void {
  if (n <= 0) return;
  const factor = all<T>(value), kept = all<T>(keep), zero = all<T>(0);
  do {
    const quotient = v128.div<T>(loadUpTo<T>(x, n, zero), loadUpTo<T>(d, n, zero));
    storeUpTo<T>(y, madd<T>(quotient, factor, v128.mul<T>(loadUpTo<T>(y, n, zero), kept)), n);
    n -= lanes<T>();
    y += 16;
    x += 16;
    d += 16;
  } while (n > 0);
}

/** y ← β y for element strides. */
export function scale<T>(rows: i32, cols: i32, y: usize, y0: i32, y1: i32, beta: f64): void {
  const factor = all<T>(beta);
  for (; rows > 0; rows--, y += bytesOf<T>(y0)) {
    let p = y;
    let n = cols;
    if (y1 == 1)
      for (; n >= lanes<T>(); n -= lanes<T>(), p += 16) v128.store(p, v128.mul<T>(v128.load(p), factor));
    for (; n > 0; n--, p += bytesOf<T>(y1)) store<T>(p, <T>(load<T>(p) * <T>beta));
  }
}
