// Vectors at the ends of rows, comparisons as bytes, and 64-bit sums: what the elementwise kernels and the reductions
// share beyond vector.ts.
import { lanes, splatAt } from './vector';

/** The bytes of n elements. */
// @ts-ignore: decorator
@inline
export function bytesOf<T>(n: i32): usize {
  return (<usize>n) << alignof<T>();
}

/** x in every lane of T. */
// @ts-ignore: decorator
@inline
export function all<T>(x: f64): v128 {
  return v128.splat<T>(<T>x);
}

/** The first `count` < lanes elements at p; the other lanes keep what `rest` has. */
function loadPart<T>(p: usize, count: i32, rest: v128): v128 {
  rest = v128.load32_lane(p, rest, 0);
  if (count > 1) rest = v128.load32_lane(p, rest, 1, 4);
  if (count > 2) rest = v128.load32_lane(p, rest, 2, 8);
  return rest;
}

function storePart<T>(p: usize, x: v128, count: i32): void {
  v128.store32_lane(p, x, 0);
  if (count > 1) v128.store32_lane(p, x, 1, 4);
  if (count > 2) v128.store32_lane(p, x, 2, 8);
}

/** A vector at p, of which `count` elements exist: the lanes beyond them are those of `rest`. */
// @ts-ignore: decorator
@inline
export function loadUpTo<T>(p: usize, count: i32, rest: v128): v128 {
  if (count >= lanes<T>()) return v128.load(p);
  return sizeof<T>() == 4 ? loadPart<T>(p, count, rest) : v128.load64_lane(p, rest, 0);
}

// @ts-ignore: decorator
@inline
export function storeUpTo<T>(p: usize, x: v128, count: i32): void {
  if (count >= lanes<T>()) v128.store(p, x);
  else if (sizeof<T>() == 4) storePart<T>(p, x, count);
  else v128.store64_lane(p, x, 0);
}

/** Lane 0 of x. */
// @ts-ignore: decorator
@inline
export function first<T>(x: v128): T {
  return v128.extract_lane<T>(x, 0);
}

/** Stores lane 0 of x. */
// @ts-ignore: decorator
@inline
export function storeFirst<T>(p: usize, x: v128): void {
  if (sizeof<T>() == 1) v128.store8_lane(p, x, 0);
  else if (sizeof<T>() == 4) v128.store32_lane(p, x, 0);
  else v128.store64_lane(p, x, 0);
}

/** The element at p in every lane, one byte in size too. */
// @ts-ignore: decorator
@inline
export function splatOf<T>(p: usize): v128 {
  if (sizeof<T>() == 1) return v128.load8_splat(p);
  return splatAt<T>(p);
}

/** Where `mask` is set a, else b. */
// @ts-ignore: decorator
@inline
export function choose(mask: v128, a: v128, b: v128): v128 {
  return v128.bitselect(a, b, mask);
}

/** The masks of four elements, in one vector of four 32-bit lanes (f64 comes in two vectors), as four bytes 0 or 1. */
// @ts-ignore: decorator
@inline
export function storeMasks(p: usize, mask: v128): void {
  const words = i16x8.narrow_i32x4_s(mask, mask);
  v128.store32_lane(p, v128.and(i8x16.narrow_i16x8_s(words, words), i8x16.splat(1)), 0);
}

/** The masks of two vectors of f64, in four 32-bit lanes. */
// @ts-ignore: decorator
@inline
export function halves(low: v128, high: v128): v128 {
  return v128.shuffle<i32>(low, high, 0, 2, 4, 6);
}

/** Four bytes 0 or 1 at p, as a mask of four 32-bit lanes. */
// @ts-ignore: decorator
@inline
export function loadMasks(p: usize): v128 {
  const words = i16x8.extend_low_i8x16_u(v128.load32_zero(p));
  return i32x4.neg(i32x4.extend_low_i16x8_u(words));
}

/** sum + x, the sum in two lanes of f64. */
// @ts-ignore: decorator
@inline
export function addWide<T>(sum: v128, x: v128): v128 {
  if (sizeof<T>() == 8) return f64x2.add(sum, x);
  return f64x2.add(sum, f64x2.add(f64x2.promote_low_f32x4(x), f64x2.promote_low_f32x4(high(x))));
}

/** Elements 2k and 2k + 1 at p, as f64. */
// @ts-ignore: decorator
@inline
export function wide<T>(p: usize, k: usize): v128 {
  if (sizeof<T>() == 8) return v128.load(p + 16 * k);
  return f64x2.promote_low_f32x4(v128.load64_zero(p + 8 * k));
}

/** Four f64 as elements at p. */
// @ts-ignore: decorator
@inline
export function storeWide<T>(p: usize, low: v128, high: v128): void {
  if (sizeof<T>() == 8) {
    v128.store(p, low);
    v128.store(p, high, 16);
  } else v128.store(p, v128.shuffle<i64>(f32x4.demote_f64x2_zero(low), f32x4.demote_f64x2_zero(high), 0, 2));
}

/** The upper half of x in the lower one. */
// @ts-ignore: decorator
@inline
export function high(x: v128): v128 {
  return v128.shuffle<i64>(x, x, 1, 1);
}

/** Both lanes of f64, added. */
// @ts-ignore: decorator
@inline
export function sumWide(x: v128): f64 {
  return f64x2.extract_lane(x, 0) + f64x2.extract_lane(x, 1);
}
