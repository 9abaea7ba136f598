// a^b, computed in f64 for f32 too.
import { all, choose } from './elementwise-lanes';
import { expm1Near0, exponent, horner, logParts, mantissa, rounder, scale2, within } from './elementwise-math';
import { madd } from './vector';

/** The upper 21 bits of the significand: the product of two such numbers is exact. */
// @ts-ignore: decorator
@inline
function upper(x: v128): v128 {
  return v128.and(x, i64x2.splat(0xffffffff00000000));
}

/**
 * 2^(b log₂|a|) for two f64. A factor of b up to 10³ costs 3 digits of the logarithm, so for a result of type T = f64 it
 * comes in two parts that hold 20: by s = (m − 1)/(m + 1), log₂ m = 2/(3 ln 2) · s (3 + s² + s⁴ W(s²)), as in fdlibm's
 * pow. For f32 one part does.
 */
function power<T>(a: v128, b: v128): v128 {
  const one = all<f64>(1);
  const zero = all<f64>(0);
  const size = f64x2.abs(a);
  const denormal = f64x2.lt(size, all<f64>(2.2250738585072014e-308));
  const normal = choose(denormal, f64x2.mul(size, all<f64>(4503599627370496)), size);
  const k = f64x2.sub(exponent<f64>(normal), v128.and(denormal, all<f64>(52)));
  const m = mantissa<f64>(normal);

  let high: v128;
  let low = zero;
  if (sizeof<T>() == 4) high = f64x2.mul(logParts<f64>(k, f64x2.sub(m, one), zero), all<f64>(1.4426950408889634));
  else {
    const f = f64x2.sub(m, one);
    const d = f64x2.add(m, one);
    const s = f64x2.div(f, d);
    const sh = upper(s);
    const dh = upper(d);
    const dl = f64x2.sub(m, f64x2.sub(dh, one));
    const sl = f64x2.div(f64x2.sub(f64x2.sub(f, f64x2.mul(sh, dh)), f64x2.mul(sh, dl)), d);

    const z = f64x2.mul(s, s);
    let w = all<f64>(0.19796623355155055);
    w = horner<f64>(w, z, 0.1988500345211757);
    w = horner<f64>(w, z, 0.2308014528961156);
    w = horner<f64>(w, z, 0.27272676355712533);
    w = horner<f64>(w, z, 0.3333333378202964);
    w = horner<f64>(w, z, 0.4285714285513784);
    w = horner<f64>(w, z, 0.6000000000000341);
    const r = madd<f64>(f64x2.mul(z, z), w, f64x2.mul(sl, f64x2.add(sh, s)));
    const square = f64x2.mul(sh, sh);
    const three = all<f64>(3);
    const th = upper(f64x2.add(f64x2.add(three, square), r));
    const tl = f64x2.sub(r, f64x2.sub(f64x2.sub(th, three), square));
    const u = f64x2.mul(sh, th);
    const v = madd<f64>(sl, th, f64x2.mul(tl, s));
    const ph = upper(f64x2.add(u, v));
    const pl = f64x2.sub(v, f64x2.sub(ph, u));
    const zh = f64x2.mul(ph, all<f64>(0.9617962837219238));
    const zl = madd<f64>(ph, all<f64>(4.102040517767816e-7), f64x2.mul(pl, all<f64>(0.9617966939259756)));
    high = upper(f64x2.add(f64x2.add(zh, zl), k));
    low = f64x2.sub(zl, f64x2.sub(f64x2.sub(high, k), zh));
  }

  // Beyond 2⁶⁶ the result is 0, 1 or ∞ as at 2⁶⁶ itself.
  const y = within<f64>(b, -7.378697629483821e19, 7.378697629483821e19);
  const yh = sizeof<T>() == 4 ? y : upper(y);
  const product = within<f64>(f64x2.mul(yh, high), -1100, 1100);
  const rest = sizeof<T>() == 4 ? zero : madd<f64>(f64x2.sub(y, yh), high, f64x2.mul(y, low));
  const far = f64x2.ge(f64x2.abs(product), all<f64>(1100));
  const lowest = v128.andnot(rest, far);
  const rounded = f64x2.add(f64x2.add(product, lowest), all<f64>(rounder<f64>()));
  const n = f64x2.sub(rounded, all<f64>(rounder<f64>()));
  const fraction = f64x2.mul(f64x2.add(f64x2.sub(product, n), lowest), all<f64>(0.6931471805599453));
  let result = scale2<f64>(f64x2.add(expm1Near0<f64>(fraction), one), n);

  // |a| of 0 or ∞; then the sign, for an odd b; NaN for a < 0 and b no integer; 1 for b = 0, a = 1, (−1)^±∞.
  const infinite = f64x2.eq(size, all<f64>(Infinity));
  const edge = v128.and(v128.or(infinite, f64x2.eq(size, zero)), f64x2.eq(b, b));
  result = choose(edge, choose(v128.xor(infinite, f64x2.gt(b, zero)), zero, all<f64>(Infinity)), result);
  const half = f64x2.mul(b, all<f64>(0.5));
  const integral = f64x2.eq(f64x2.nearest(b), b);
  const odd = v128.and(f64x2.ne(f64x2.nearest(half), half), integral);
  result = v128.or(result, v128.and(v128.and(a, odd), all<f64>(-0.0)));
  const negative = v128.andnot(f64x2.lt(a, zero), v128.or(infinite, integral));
  result = choose(negative, all<f64>(NaN), result);
  const alternating = v128.and(f64x2.eq(a, all<f64>(-1)), f64x2.eq(f64x2.abs(b), all<f64>(Infinity)));
  const unit = v128.or(v128.or(f64x2.eq(b, zero), f64x2.eq(a, one)), alternating);
  result = choose(f64x2.eq(a, a), result, a);
  return choose(unit, one, result);
}

/** In f64; the result rounded. */
// @ts-ignore: decorator
@inline
export function pow<T>(a: v128, b: v128): v128 {
  if (sizeof<T>() == 8) return power<f64>(a, b);
  const low = power<f32>(f64x2.promote_low_f32x4(a), f64x2.promote_low_f32x4(b));
  const ah = v128.shuffle<i64>(a, a, 1, 1);
  const bh = v128.shuffle<i64>(b, b, 1, 1);
  const high = power<f32>(f64x2.promote_low_f32x4(ah), f64x2.promote_low_f32x4(bh));
  return v128.shuffle<i64>(f32x4.demote_f64x2_zero(low), f32x4.demote_f64x2_zero(high), 0, 2);
}
