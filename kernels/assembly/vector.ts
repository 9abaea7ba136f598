// What all kernels share: 128-bit vectors of T (f32 or f64), written once. Everything here is inlined and its
// conditions are constant, so both types compile to straight code.

/** Lanes of a vector of T: 4 or 2. */
// @ts-ignore: decorator
@inline
export function lanes<T>(): i32 {
  return 16 / sizeof<T>();
}

/** log2 of the bytes of T, for shifts: 2 or 3. */
// @ts-ignore: decorator
@inline
export function shift<T>(): usize {
  return alignof<T>();
}

/** 0 in every lane. */
// @ts-ignore: decorator
@inline
export function zero<T>(): v128 {
  return v128.splat<T>(<T>0);
}

/** a · b + c in every lane: one instruction with relaxed SIMD where the processor has it, else two (src/unfused.ts). */
// @ts-ignore: decorator
@inline
export function madd<T>(a: v128, b: v128, c: v128): v128 {
  return v128.relaxed_madd<T>(a, b, c);
}

/** The T at p in every lane. */
// @ts-ignore: decorator
@inline
export function splatAt<T>(p: usize): v128 {
  if (sizeof<T>() == 4) return v128.load32_splat(p);
  return v128.load64_splat(p);
}
