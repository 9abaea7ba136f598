// Transcendental functions of vectors of f32 and f64, at most 4 ulp off over the whole range (measured by
// test/kernels-elementwise.test.ts). with NaN, ±Infinity, −0 and denormal numbers as IEEE 754 and Math have them.
// Polynomials are minimax fits of ours (Remez exchange in 50 digits, relative error), lowest power last. Without fused
// multiply-add the last bits differ between the variants.
import { all, choose } from './elementwise-lanes';
import { madd } from './vector';

// @ts-ignore: decorator
@inline
export const LOG2E: f64 = 1.4426950408889634;

/** p · x + c: a step of Horner's rule. */
// @ts-ignore: decorator
@inline
export function horner<T>(p: v128, x: v128, c: f64): v128 {
  return madd<T>(p, x, all<T>(c));
}

/** 1.5 · 2^(bits of the mantissa): x + this rounds x to an integer, which its lowest bits then hold. */
// @ts-ignore: decorator
@inline
export function rounder<T>(): f64 {
  return sizeof<T>() == 4 ? 12582912 : 6755399441055744;
}

/** 2ⁿ for integral n in the range of exponents of normal numbers. */
// @ts-ignore: decorator
@inline
function power2<T>(n: v128): v128 {
  const bits = v128.add<T>(n, all<T>(rounder<T>() + (sizeof<T>() == 4 ? 127 : 1023)));
  return sizeof<T>() == 4 ? i32x4.shl(bits, 23) : i64x2.shl(bits, 52);
}

/** x · 2ⁿ, in two steps, since neither 2ⁿ nor a product with it may overflow or lose bits before the result does. */
// @ts-ignore: decorator
@inline
export function scale2<T>(x: v128, n: v128): v128 {
  const half = v128.sub<T>(madd<T>(n, all<T>(0.5), all<T>(rounder<T>())), all<T>(rounder<T>()));
  return v128.mul<T>(v128.mul<T>(x, power2<T>(half)), power2<T>(v128.sub<T>(n, half)));
}

/** eʳ − 1 for |r| ≤ ln 2 / 2. */
// @ts-ignore: decorator
@inline
export function expm1Near0<T>(r: v128): v128 {
  let q: v128;
  if (sizeof<T>() == 4) {
    q = all<T>(0.00138867972);
    q = horner<T>(q, r, 0.00836641528);
    q = horner<T>(q, r, 0.0416671075);
    q = horner<T>(q, r, 0.16666545);
    q = horner<T>(q, r, 0.5);
  } else {
    q = all<T>(2.504635257233267e-8);
    q = horner<T>(q, r, 2.762247937464578e-7);
    q = horner<T>(q, r, 2.7557424213954418e-6);
    q = horner<T>(q, r, 2.480151565751694e-5);
    q = horner<T>(q, r, 0.0001984126970963126);
    q = horner<T>(q, r, 0.0013888888921151329);
    q = horner<T>(q, r, 0.008333333333388584);
    q = horner<T>(q, r, 0.04166666666661768);
    q = horner<T>(q, r, 0.16666666666666602);
    q = horner<T>(q, r, 0.5);
  }
  return madd<T>(v128.mul<T>(r, r), q, r);
}

/** x − n ln 2, with ln 2 in two parts, of which the first times n is exact. */
// @ts-ignore: decorator
@inline
export function lessLn2<T>(x: v128, n: v128): v128 {
  x = madd<T>(n, all<T>(sizeof<T>() == 4 ? -0.693359375 : -6.93147180369123816490e-1), x);
  return madd<T>(n, all<T>(sizeof<T>() == 4 ? 2.12194440e-4 : -1.90821492927058770002e-10), x);
}

/** x within [low, high]; NaN stays. */
// @ts-ignore: decorator
@inline
export function within<T>(x: v128, low: f64, high: f64): v128 {
  return v128.pmax<T>(v128.pmin<T>(x, all<T>(high)), all<T>(low));
}

// @ts-ignore: decorator
@inline
export function exp<T>(x: v128): v128 {
  x = sizeof<T>() == 4 ? within<T>(x, -105, 89) : within<T>(x, -746, 710);
  const n = v128.sub<T>(madd<T>(x, all<T>(LOG2E), all<T>(rounder<T>())), all<T>(rounder<T>()));
  return scale2<T>(v128.add<T>(expm1Near0<T>(lessLn2<T>(x, n)), all<T>(1)), n);
}

/** Below this |x| the results of odd functions equal x, whose bits (those of −0 too) are best kept as they are. */
// @ts-ignore: decorator
@inline
function keepTiny<T>(x: v128, y: v128): v128 {
  return choose(v128.lt<T>(v128.abs<T>(x), all<T>(sizeof<T>() == 4 ? 1e-12 : 1e-24)), x, y);
}

/** 2ⁿ p + 2ⁿ − 1 where eˣ = 2ⁿ (1 + p). */
// @ts-ignore: decorator
@inline
export function expm1<T>(x: v128): v128 {
  const y = sizeof<T>() == 4 ? within<T>(x, -40, 89) : within<T>(x, -60, 710);
  const n = v128.sub<T>(madd<T>(y, all<T>(LOG2E), all<T>(rounder<T>())), all<T>(rounder<T>()));
  const p = expm1Near0<T>(lessLn2<T>(y, n));
  // 2ⁿ⁻¹, since 2ⁿ can overflow before the result does.
  const half = power2<T>(v128.sub<T>(n, all<T>(1)));
  const result = madd<T>(half, p, v128.sub<T>(half, all<T>(0.5)));
  return keepTiny<T>(x, v128.add<T>(result, result));
}

/** The exponent of x, as T, such that x · 2^−exponent lies in [√½, √2). For normal x. */
// @ts-ignore: decorator
@inline
export function exponent<T>(x: v128): v128 {
  if (sizeof<T>() == 4) {
    const biased = i32x4.shr_u(i32x4.add(x, i32x4.splat(0x3f800000 - 0x3f3504f3)), 23);
    return f32x4.sub(v128.or(biased, i32x4.splat(0x4b000000)), all<T>(8388608 + 127));
  }
  const biased = i64x2.shr_u(i64x2.add(x, i64x2.splat(0x3ff0000000000000 - 0x3fe6a09e667f3bcd)), 52);
  return f64x2.sub(v128.or(biased, i64x2.splat(0x4330000000000000)), all<T>(4503599627370496 + 1023));
}

/** x · 2^−exponent(x). */
// @ts-ignore: decorator
@inline
export function mantissa<T>(x: v128): v128 {
  if (sizeof<T>() == 4) {
    const shifted = i32x4.add(x, i32x4.splat(0x3f800000 - 0x3f3504f3));
    return i32x4.add(v128.and(shifted, i32x4.splat(0x007fffff)), i32x4.splat(0x3f3504f3));
  }
  const shifted = i64x2.add(x, i64x2.splat(0x3ff0000000000000 - 0x3fe6a09e667f3bcd));
  return i64x2.add(v128.and(shifted, i64x2.splat(0x000fffffffffffff)), i64x2.splat(0x3fe6a09e667f3bcd));
}

/** k ln 2 + log(1 + f) + c for √½ ≤ 1 + f < √2, by s = f / (2 + f): log(1 + f) = f − s (f − s² P(s²)). */
// @ts-ignore: decorator
@inline
export function logParts<T>(k: v128, f: v128, c: v128): v128 {
  const s = v128.div<T>(f, v128.add<T>(f, all<T>(2)));
  const z = v128.mul<T>(s, s);
  let p: v128;
  if (sizeof<T>() == 4) {
    p = all<T>(0.298730731);
    p = horner<T>(p, z, 0.399774969);
    p = horner<T>(p, z, 0.666667759);
  } else {
    p = all<T>(0.14797507719057545);
    p = horner<T>(p, z, 0.15313903245641833);
    p = horner<T>(p, z, 0.18183569739853522);
    p = horner<T>(p, z, 0.2222219847598521);
    p = horner<T>(p, z, 0.2857142874326269);
    p = horner<T>(p, z, 0.3999999999941109);
    p = horner<T>(p, z, 0.6666666666666735);
  }
  const half = v128.mul<T>(v128.mul<T>(f, f), all<T>(0.5));
  let low = madd<T>(k, all<T>(sizeof<T>() == 4 ? 9.0580006145e-6 : 1.90821492927058770002e-10), c);
  low = madd<T>(s, madd<T>(z, p, half), low);
  const high = all<T>(sizeof<T>() == 4 ? 0.693138122558594 : 6.93147180369123816490e-1);
  return madd<T>(k, high, v128.sub<T>(f, v128.sub<T>(half, low)));
}

/** `y` as a logarithm of `x` should be at the edges of its domain. */
// @ts-ignore: decorator
@inline
function logEdges<T>(x: v128, y: v128): v128 {
  y = choose(v128.lt<T>(x, all<T>(Infinity)), y, x);
  y = choose(v128.eq<T>(x, all<T>(0)), all<T>(-Infinity), y);
  return choose(v128.lt<T>(x, all<T>(0)), all<T>(NaN), y);
}

// @ts-ignore: decorator
@inline
export function log<T>(x: v128): v128 {
  const denormal = v128.lt<T>(x, all<T>(sizeof<T>() == 4 ? 1.1754943508222875e-38 : 2.2250738585072014e-308));
  const normal = choose(denormal, v128.mul<T>(x, all<T>(sizeof<T>() == 4 ? 8388608 : 4503599627370496)), x);
  const k = v128.sub<T>(exponent<T>(normal), v128.and(denormal, all<T>(sizeof<T>() == 4 ? 23 : 52)));
  return logEdges<T>(x, logParts<T>(k, v128.sub<T>(mantissa<T>(normal), all<T>(1)), all<T>(0)));
}

/** log u + (1 + x − u) / u where u is 1 + x rounded; where 1 + x keeps the exponent of 1, log(1 + f) with f = x itself. */
// @ts-ignore: decorator
@inline
export function log1p<T>(x: v128): v128 {
  const one = all<T>(1);
  const u = v128.add<T>(x, one);
  const above = v128.sub<T>(u, one);
  const lost = v128.add<T>(v128.sub<T>(one, v128.sub<T>(u, above)), v128.sub<T>(x, above));
  const k = exponent<T>(u);
  const near = v128.eq<T>(k, all<T>(0));
  const f = choose(near, x, v128.sub<T>(mantissa<T>(u), one));
  const y = logParts<T>(k, f, v128.andnot(v128.div<T>(lost, u), near));
  return keepTiny<T>(x, logEdges<T>(u, y));
}

/** The sign of `sign` on |y|, for y ≥ 0. */
// @ts-ignore: decorator
@inline
export function withSign<T>(y: v128, sign: v128): v128 {
  return v128.or(y, v128.and(sign, all<T>(-0.0)));
}

/** −t / (t + 2) where t = e^(−2|x|) − 1. */
// @ts-ignore: decorator
@inline
export function tanh<T>(x: v128): v128 {
  const t = expm1<T>(v128.mul<T>(v128.abs<T>(x), all<T>(-2)));
  return withSign<T>(v128.div<T>(v128.abs<T>(t), v128.add<T>(t, all<T>(2))), x);
}

/** 1 / (1 + e^−x) for x ≥ 0, else eˣ / (1 + eˣ): exp is taken of numbers ≤ 0 alone. */
// @ts-ignore: decorator
@inline
export function sigmoid<T>(x: v128): v128 {
  const e = exp<T>(v128.neg<T>(v128.abs<T>(x)));
  const one = all<T>(1);
  return v128.div<T>(choose(v128.lt<T>(x, all<T>(0)), e, one), v128.add<T>(e, one));
}

/** −1, 0 or 1; ±0 and NaN stay. */
// @ts-ignore: decorator
@inline
export function sign<T>(x: v128): v128 {
  return choose(v128.gt<T>(v128.abs<T>(x), all<T>(0)), withSign<T>(all<T>(1), x), x);
}

/** max(x, 0); −0 becomes 0, NaN stays. */
// @ts-ignore: decorator
@inline
export function relu<T>(x: v128): v128 {
  return v128.add<T>(v128.pmax<T>(x, all<T>(0)), all<T>(0));
}

/** a where it is larger or NaN, else b: as `BINARY.maximum` of core. */
// @ts-ignore: decorator
@inline
export function maximum<T>(a: v128, b: v128): v128 {
  return choose(v128.or(v128.gt<T>(a, b), v128.ne<T>(a, a)), a, b);
}

// @ts-ignore: decorator
@inline
export function minimum<T>(a: v128, b: v128): v128 {
  return choose(v128.or(v128.lt<T>(a, b), v128.ne<T>(a, a)), a, b);
}
