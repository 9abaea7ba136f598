// Softmax, its logarithm and the cross-entropy of labels, over the last axis of contiguous x [rows, cols], with their
// gradients. Sums run in f64. A row of −∞ alone gives NaN, as 0/0 does.
import { addWide, all, bytesOf, first, loadUpTo, storeUpTo, sumWide } from './elementwise-lanes';
import { exp, log } from './elementwise-math';
import { extremeOfRow, sumRow } from './reduce';
import { lanes } from './vector';

/** The largest element of a row, 0 where that is −∞. */
// @ts-ignore: decorator
@inline
export function shiftOf<T>(cols: i32, x: usize): T {
  const m = extremeOfRow<T>(cols, x, true);
  return m == -Infinity ? 0 : m;
}

/** Σ exp(x − shift) over a row; the terms go to `out` unless that is 0. */
// @ts-ignore: decorator
@inline
export function sumExp<T>(cols: i32, x: usize, shift: T, out: usize): f64 {
  const m = v128.splat<T>(shift);
  let sum = f64x2.splat(0);
  if (cols <= 0) return 0;
  do {
    // exp of what lies beyond the row is 0.
    const e = exp<T>(v128.sub<T>(loadUpTo<T>(x, cols, all<T>(-Infinity)), m));
    sum = addWide<T>(sum, e);
    if (out) {
      storeUpTo<T>(out, e, cols);
      out += 16;
    }
    x += 16;
    cols -= lanes<T>();
  } while (cols > 0);
  return sumWide(sum);
}

function logOf(x: f64): f64 {
  return first<f64>(log<f64>(f64x2.splat(x)));
}

/** x ← factor x over a row. */
// @ts-ignore: decorator
@inline
export function scaleRow<T>(cols: i32, x: usize, factor: T): void {
  const f = v128.splat<T>(factor);
  do {
    storeUpTo<T>(x, v128.mul<T>(loadUpTo<T>(x, cols, f), f), cols);
    cols -= lanes<T>();
    x += 16;
  } while (cols > 0);
}

export function softmax<T>(rows: i32, cols: i32, x: usize, out: usize): void {
  if (cols <= 0) return;
  for (; rows > 0; rows--, x += bytesOf<T>(cols), out += bytesOf<T>(cols)) {
    const sum = sumExp<T>(cols, x, shiftOf<T>(cols, x), out);
    scaleRow<T>(cols, out, <T>(1 / sum));
  }
}

export function logSoftmax<T>(rows: i32, cols: i32, x: usize, out: usize): void {
  if (cols <= 0) return;
  for (; rows > 0; rows--, x += bytesOf<T>(cols), out += bytesOf<T>(cols)) {
    const m = shiftOf<T>(cols, x);
    const shift = v128.splat<T>(m);
    const logSum = v128.splat<T>(<T>logOf(sumExp<T>(cols, x, m, 0)));
    let n = cols;
    let at: usize = 0;
    do {
      storeUpTo<T>(out + at, v128.sub<T>(v128.sub<T>(loadUpTo<T>(x + at, n, shift), shift), logSum), n);
      n -= lanes<T>();
      at += 16;
    } while (n > 0);
  }
}

/** Σ a b over a row, in two lanes of f64. */
// @ts-ignore: decorator
@inline
export function addProducts<T>(n: i32, a: usize, b: usize): v128 {
  let sum = f64x2.splat(0);
  const zero = all<T>(0);
  do {
    sum = addWide<T>(sum, v128.mul<T>(loadUpTo<T>(a, n, zero), loadUpTo<T>(b, n, zero)));
    n -= lanes<T>();
    a += 16;
    b += 16;
  } while (n > 0);
  return sum;
}

/** out ← y (dy − mean) over a row. */
// @ts-ignore: decorator
@inline
export function subtractMean<T>(n: i32, dy: usize, y: usize, mean: T, out: usize): void {
  const m = v128.splat<T>(mean);
  do {
    storeUpTo<T>(out, v128.mul<T>(loadUpTo<T>(y, n, m), v128.sub<T>(loadUpTo<T>(dy, n, m), m)), n);
    n -= lanes<T>();
    dy += 16;
    y += 16;
    out += 16;
  } while (n > 0);
}

/** out ← y (dy − Σ dy y). */
export function softmaxBackward<T>(rows: i32, cols: i32, dy: usize, y: usize, out: usize): void {
  if (cols <= 0) return;
  for (; rows > 0; rows--, dy += bytesOf<T>(cols), y += bytesOf<T>(cols), out += bytesOf<T>(cols))
    subtractMean<T>(cols, dy, y, <T>sumWide(addProducts<T>(cols, dy, y)), out);
}

/** out ← dy − exp(y) Σ dy. */
export function logSoftmaxBackward<T>(rows: i32, cols: i32, dy: usize, y: usize, out: usize): void {
  if (cols <= 0) return;
  for (; rows > 0; rows--, dy += bytesOf<T>(cols), y += bytesOf<T>(cols), out += bytesOf<T>(cols)) {
    const sum = v128.splat<T>(<T>sumRow<T>(cols, dy));
    let n = cols;
    let at: usize = 0;
    do {
      const p = exp<T>(loadUpTo<T>(y + at, n, sum));
      storeUpTo<T>(out + at, v128.sub<T>(loadUpTo<T>(dy + at, n, sum), v128.mul<T>(p, sum)), n);
      n -= lanes<T>();
      at += 16;
    } while (n > 0);
  }
}

/**
 * Σ over the rows of −log softmax(x)[label], for int32 labels. `stats` [rows, 2] keeps the largest element of each row
 * and log Σ exp(x − largest) for the gradient.
 */
export function crossEntropy<T>(rows: i32, cols: i32, x: usize, labels: usize, stats: usize): f64 {
  let loss: f64 = 0;
  for (; rows > 0; rows--, x += bytesOf<T>(cols), labels += 4, stats += 2 * sizeof<T>()) {
    const m = shiftOf<T>(cols, x);
    const logSum = logOf(sumExp<T>(cols, x, m, 0));
    store<T>(stats, m);
    store<T>(stats, <T>logSum, sizeof<T>());
    loss += logSum - (<f64>load<T>(x + bytesOf<T>(load<i32>(labels))) - <f64>m);
  }
  return loss;
}

/** out ← scale (softmax(x) − 1 at the label). */
export function crossEntropyBackward<T>(
  rows: i32, cols: i32, x: usize, labels: usize, stats: usize, scale: f64, out: usize,
): void {
  if (cols <= 0) return;
  const factor = all<T>(scale);
  for (; rows > 0; rows--, x += bytesOf<T>(cols), labels += 4, stats += 2 * sizeof<T>(), out += bytesOf<T>(cols)) {
    const m = v128.splat<T>(load<T>(stats));
    const logSum = v128.splat<T>(load<T>(stats, sizeof<T>()));
    let n = cols;
    let at: usize = 0;
    do {
      const p = exp<T>(v128.sub<T>(v128.sub<T>(loadUpTo<T>(x + at, n, m), m), logSum));
      storeUpTo<T>(out + at, v128.mul<T>(p, factor), n);
      n -= lanes<T>();
      at += 16;
    } while (n > 0);
    const label = out + bytesOf<T>(load<i32>(labels));
    store<T>(label, <T>(<f64>load<T>(label) - scale));
  }
}
