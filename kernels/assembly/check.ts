// Checks of values: the position of the first element that an operation cannot take, or −1. Sixteen or eight elements are looked
// at together, and only where one of them is bad each alone.
import { lanes } from './vector';

/** The first element that is not one of 0 … length − 1. */
export function firstOutside_i32(n: i32, length: i32, x: usize): i32 {
  const end = i32x4.splat(length);
  let i = 0;
  // As an unsigned number a negative one is larger than every length.
  for (; i + 16 <= n; i += 16) {
    const p = x + (<usize>i << 2);
    const a = v128.or(i32x4.ge_u(v128.load(p), end), i32x4.ge_u(v128.load(p, 16), end));
    const b = v128.or(i32x4.ge_u(v128.load(p, 32), end), i32x4.ge_u(v128.load(p, 48), end));
    if (v128.any_true(v128.or(a, b))) break;
  }
  for (; i < n; i++) if (load<u32>(x + (<usize>i << 2)) >= <u32>length) return i;
  return -1;
}

/** Not 0 in the lanes that are NaN or infinite: there x − x is NaN. */
// @ts-ignore: decorator
@inline
function notFinite<T>(p: usize): v128 {
  const v = v128.load(p);
  return v128.ne<T>(v128.sub<T>(v, v), v128.splat<T>(<T>0));
}

// @ts-ignore: decorator
@inline
function firstNotFinite<T>(n: i32, x: usize): i32 {
  let i = 0;
  for (; i + 4 * lanes<T>() <= n; i += 4 * lanes<T>()) {
    const p = x + <usize>i * sizeof<T>();
    const a = v128.or(notFinite<T>(p), notFinite<T>(p + 16));
    const b = v128.or(notFinite<T>(p + 32), notFinite<T>(p + 48));
    if (v128.any_true(v128.or(a, b))) break;
  }
  for (; i < n; i++) {
    const value = load<T>(x + <usize>i * sizeof<T>());
    if (value - value != 0) return i;
  }
  return -1;
}

export function firstNotFinite_f32(n: i32, x: usize): i32 {
  return firstNotFinite<f32>(n, x);
}

export function firstNotFinite_f64(n: i32, x: usize): i32 {
  return firstNotFinite<f64>(n, x);
}
