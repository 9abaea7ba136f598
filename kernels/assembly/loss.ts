// The mean squared error: its sum in f64, rounded by the caller, and its gradient. Cross-entropy is in softmax.ts.
import { addWide, all, bytesOf, loadUpTo, storeUpTo, sumWide } from './elementwise-lanes';
import { lanes } from './vector';

/** Σ (a − b)² over n contiguous elements. */
export function squaredError<T>(n: i32, a: usize, b: usize): f64 {
  let sum = f64x2.splat(0);
  const zero = all<T>(0);
  for (; n > 0; n -= lanes<T>(), a += 16, b += 16) {
    const d = v128.sub<T>(loadUpTo<T>(a, n, zero), loadUpTo<T>(b, n, zero));
    sum = addWide<T>(sum, v128.mul<T>(d, d));
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
