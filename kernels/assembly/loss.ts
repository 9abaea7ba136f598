// The mean squared error: its sum in f64, rounded by the caller, and its gradient. Cross-entropy is in softmax.ts.
import { all, high, loadUpTo, storeUpTo, sumWide } from './elementwise-lanes';
import { lanes, madd } from './vector';

/** Σ (a − b)² over n contiguous elements; squares are f64, those of f32 would leave its range. */
export function squaredError<T>(n: i32, a: usize, b: usize): f64 {
  let sum = f64x2.splat(0);
  const zero = all<T>(0);
  for (; n > 0; n -= lanes<T>(), a += 16, b += 16) {
    const d = v128.sub<T>(loadUpTo<T>(a, n, zero), loadUpTo<T>(b, n, zero));
    if (sizeof<T>() == 4) {
      const low = f64x2.promote_low_f32x4(d), rest = f64x2.promote_low_f32x4(high(d));
      sum = madd<f64>(rest, rest, madd<f64>(low, low, sum));
    } else sum = madd<f64>(d, d, sum);
  }
  return sumWide(sum);
}

/** out ← scale (a − b). */
export function squaredErrorBackward<T>(n: i32, a: usize, b: usize, scale: f64, out: usize): void {
  const factor = all<T>(scale);
  const zero = all<T>(0);
  for (; n > 0; n -= lanes<T>(), a += 16, b += 16, out += 16)
    storeUpTo<T>(out, v128.mul<T>(factor, v128.sub<T>(loadUpTo<T>(a, n, zero), loadUpTo<T>(b, n, zero))), n);
}
