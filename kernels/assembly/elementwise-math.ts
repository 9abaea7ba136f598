// Transcendental functions of vectors of f32 and f64, at most 4 ulp off over the whole range (measured by
// test/kernels-elementwise.test.ts), with NaN, ±Infinity, −0 and denormal numbers as IEEE 754 and Math have them.
// Polynomials are minimax fits of ours (Remez exchange in 50 digits, relative error), lowest power last. Without fused
// multiply-add the last bits differ between the variants.
import { all, choose } from './elementwise-lanes';
import { madd } from './vector';

// @ts-ignore: decorator
@inline
const LOG2E: f64 = 1.4426950408889634;

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
    q = all<T>(0.00138825178);
    q = horner<T>(q, r, 0.00836654752);
    q = horner<T>(q, r, 0.0416672006);
    q = horner<T>(q, r, 0.166665435);
    q = horner<T>(q, r, 0.49999997);
  } else {
    q = all<T>(2.5053772548703133e-8);
    q = horner<T>(q, r, 2.7626092837958166e-7);
    q = horner<T>(q, r, 2.7557407694604705e-6);
    q = horner<T>(q, r, 2.4801505142652173e-5);
    q = horner<T>(q, r, 1.9841269718703174e-4);
    q = horner<T>(q, r, 1.3888888931667186e-3);
    q = horner<T>(q, r, 8.333333333389736e-3);
    q = horner<T>(q, r, 4.1666666666576466e-2);
    q = horner<T>(q, r, 0.16666666666666588);
    q = horner<T>(q, r, 0.5000000000000006);
  }
  return madd<T>(v128.mul<T>(r, r), q, r);
}

/** x − n ln 2, with ln 2 in two parts, of which the first times n is exact. */
// @ts-ignore: decorator
@inline
function lessLn2<T>(x: v128, n: v128): v128 {
  x = madd<T>(n, all<T>(sizeof<T>() == 4 ? -0.693359375 : -6.93147180369123816490e-1), x);
  return madd<T>(n, all<T>(sizeof<T>() == 4 ? 2.12194440e-4 : -1.90821492927058770002e-10), x);
}

/** x within [low, high]; NaN stays. */
// @ts-ignore: decorator
@inline
export function within<T>(x: v128, low: f64, high: f64): v128 {
  return v128.pmax<T>(v128.pmin<T>(x, all<T>(high)), all<T>(low));
}

/** e^(x + low) · factor, where `low` is what x lacks in digits. Denormal results are rounded once. */
// @ts-ignore: decorator
@inline
function expSum<T>(x: v128, low: v128, factor: v128): v128 {
  const n = v128.sub<T>(madd<T>(v128.add<T>(x, low), all<T>(LOG2E), all<T>(rounder<T>())), all<T>(rounder<T>()));
  const p = expm1Near0<T>(v128.add<T>(lessLn2<T>(x, n), low));
  return scale2<T>(madd<T>(p, factor, factor), n);
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
function withSign<T>(y: v128, sign: v128): v128 {
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

/** |x|, at most where the tail of the normal distribution ends. */
// @ts-ignore: decorator
@inline
function clip<T>(x: v128): v128 {
  return v128.pmin<T>(v128.abs<T>(x), all<T>(sizeof<T>() == 4 ? 14.5 : 38.7));
}

/** e^(−z²/2) · factor, good for large z too: z² in two parts, of which the first, from half of the digits of z, is exact. */
// @ts-ignore: decorator
@inline
function bell<T>(z: v128, factor: v128): v128 {
  const short = v128.and(z, sizeof<T>() == 4 ? i32x4.splat(0xfffff000) : i64x2.splat(0xfffffffff8000000));
  const rest = v128.mul<T>(v128.sub<T>(z, short), v128.add<T>(z, short));
  return expSum<T>(v128.mul<T>(v128.mul<T>(short, short), all<T>(-0.5)), v128.mul<T>(rest, all<T>(-0.5)), factor);
}

/** Φ(−z) e^(z²/2) for z ≥ 0, as P((z − k) / (z + k)) / (z + k): so written, P varies little. */
// @ts-ignore: decorator
@inline
function mills<T>(z: v128): v128 {
  const u = v128.div<T>(all<T>(1), v128.add<T>(z, all<T>(sizeof<T>() == 4 ? 4 : 6)));
  const v = madd<T>(v128.mul<T>(z, u), all<T>(2), all<T>(-1));
  let p: v128;
  if (sizeof<T>() == 4) {
    p = all<T>(-0.000131971668);
    p = horner<T>(p, v, 0.000179354407);
    p = horner<T>(p, v, 0.00156992336);
    p = horner<T>(p, v, -0.0035125541);
    p = horner<T>(p, v, -0.00752527127);
    p = horner<T>(p, v, 0.0604038313);
    p = horner<T>(p, v, -0.186523438);
    p = horner<T>(p, v, 0.387136906);
    p = horner<T>(p, v, -0.607896566);
    p = horner<T>(p, v, 0.755285144);
  } else {
    p = all<T>(7.037999066080893e-10);
    p = horner<T>(p, v, 4.751528190905912e-9);
    p = horner<T>(p, v, 8.524103451668136e-12);
    p = horner<T>(p, v, -4.302816308831325e-8);
    p = horner<T>(p, v, 9.88758744454477e-9);
    p = horner<T>(p, v, 3.103517168134285e-7);
    p = horner<T>(p, v, -4.3115782777119683e-7);
    p = horner<T>(p, v, -1.7997089157273414e-6);
    p = horner<T>(p, v, 6.797090474104981e-6);
    p = horner<T>(p, v, 1.07559340491868e-6);
    p = horner<T>(p, v, -6.47522185026024e-5);
    p = horner<T>(p, v, 0.0001813604204199992);
    p = horner<T>(p, v, 3.287006229918549e-5);
    p = horner<T>(p, v, -0.002131605210871724);
    p = horner<T>(p, v, 0.01002982063516799);
    p = horner<T>(p, v, -0.030985315507516657);
    p = horner<T>(p, v, 0.07517191566934017);
    p = horner<T>(p, v, -0.15268023206449768);
    p = horner<T>(p, v, 0.26797424584164053);
    p = horner<T>(p, v, -0.41390358577559033);
    p = horner<T>(p, v, 0.5689688918147839);
    p = horner<T>(p, v, -0.7010090295908655);
    p = horner<T>(p, v, 0.7773517718933622);
  }
  return v128.mul<T>(u, p);
}

/** x P(x²) for |x| < ½, else ±(1 − 2 Φ(−√2 |x|)). */
// @ts-ignore: decorator
@inline
export function erf<T>(x: v128): v128 {
  const z2 = v128.mul<T>(x, x);
  let p: v128;
  if (sizeof<T>() == 4) {
    p = all<T>(0.00471799029);
    p = horner<T>(p, z2, -0.0267571844);
    p = horner<T>(p, z2, 0.112828225);
    p = horner<T>(p, z2, -0.376126081);
    p = horner<T>(p, z2, 1.12837911);
  } else {
    p = all<T>(1.472321532028784e-6);
    p = horner<T>(p, z2, -1.4845583733399379e-5);
    p = horner<T>(p, z2, 1.2053324313360603e-4);
    p = horner<T>(p, z2, -8.548297524387177e-4);
    p = horner<T>(p, z2, 5.223977370326258e-3);
    p = horner<T>(p, z2, -2.6866170632715784e-2);
    p = horner<T>(p, z2, 0.11283791670924813);
    p = horner<T>(p, z2, -0.37612638903183465);
    p = horner<T>(p, z2, 1.1283791670955126);
  }
  const near = v128.mul<T>(x, p);
  const z = clip<T>(v128.mul<T>(x, all<T>(1.4142135623730951)));
  const far = madd<T>(bell<T>(z, mills<T>(z)), all<T>(-2), all<T>(1));
  return choose(v128.lt<T>(v128.abs<T>(x), all<T>(0.5)), near, withSign<T>(far, x));
}

/** x Φ(x) = max(x, 0) − |x| Φ(−|x|); NaN for −∞, as the product with 0 is. */
// @ts-ignore: decorator
@inline
export function gelu<T>(x: v128): v128 {
  const z = clip<T>(x);
  const below = bell<T>(z, v128.mul<T>(z, mills<T>(z)));
  const y = choose(v128.lt<T>(x, all<T>(0)), v128.neg<T>(below), v128.sub<T>(x, below));
  return choose(v128.eq<T>(x, all<T>(-Infinity)), all<T>(NaN), y);
}

/** Φ(x) + x φ(x). */
// @ts-ignore: decorator
@inline
export function geluSlope<T>(x: v128): v128 {
  const z = clip<T>(x);
  const positive = v128.gt<T>(x, all<T>(0));
  // For x ≤ 0 the sum is Φ(−z) − z φ(z), else 1 less that.
  const below = bell<T>(z, madd<T>(z, all<T>(-0.3989422804014327), mills<T>(z)));
  return choose(positive, v128.sub<T>(all<T>(1), below), below);
}

// @ts-ignore: decorator
@inline
const A: f64 = 1.5957691216057308; // 2 √(2/π)
// @ts-ignore: decorator
@inline
const B: f64 = 0.07135481627260025; // 0.044715 A

/** The tanh form ½ x (1 + tanh(√(2/π) (x + 0.044715 x³))) is x σ(A x + B x³). */
// @ts-ignore: decorator
@inline
export function geluTanh<T>(x: v128): v128 {
  const u = v128.mul<T>(x, madd<T>(v128.mul<T>(x, x), all<T>(B), all<T>(A)));
  return v128.mul<T>(x, sigmoid<T>(u));
}

/** σ + x σ (1 − σ) (A + 3 B x²), where σ (1 − σ) = e / (1 + e)² with e = e^−|u|. */
// @ts-ignore: decorator
@inline
export function geluTanhSlope<T>(x: v128): v128 {
  // Beyond, the slope is 0 or 1, and x² stays finite.
  x = within<T>(x, -40, 40);
  const square = v128.mul<T>(x, x);
  const u = v128.mul<T>(x, madd<T>(square, all<T>(B), all<T>(A)));
  const e = exp<T>(v128.neg<T>(v128.abs<T>(u)));
  const r = v128.div<T>(all<T>(1), v128.add<T>(e, all<T>(1)));
  const er = v128.mul<T>(e, r);
  const s = choose(v128.lt<T>(x, all<T>(0)), er, r);
  return madd<T>(v128.mul<T>(v128.mul<T>(x, er), r), madd<T>(square, all<T>(3 * B), all<T>(A)), s);
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
