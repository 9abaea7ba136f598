// The error function and what belongs to the normal distribution Φ: gelu, in both forms, and the slopes of both. At most
// 4 ulp off as in elementwise-math.ts; geluTanh 4 + 3|u| ulp for the argument u of its tanh, the slopes 4 ulp of
// 1 + |slope|.
import { all, choose } from './elementwise-lanes';
import { exp, expm1Near0, horner, lessLn2, LOG2E, rounder, sigmoid, within, withSign } from './elementwise-math';
import { madd } from './vector';

/** |x|, at most where the tail of the normal distribution ends. */
// @ts-ignore: decorator
@inline
function clip<T>(x: v128): v128 {
  return v128.pmin<T>(v128.abs<T>(x), all<T>(sizeof<T>() == 4 ? 15.5 : 38.9));
}

/** e^(x + low) · factor for −757 < x ≤ 0, f32 −121 < x, where `low` is what x lacks in digits. Denormal results are rounded once. */
// @ts-ignore: decorator
@inline
function expSum<T>(x: v128, low: v128, factor: v128): v128 {
  const rounded = madd<T>(v128.add<T>(x, low), all<T>(LOG2E), all<T>(rounder<T>()));
  const p = expm1Near0<T>(v128.add<T>(lessLn2<T>(x, v128.sub<T>(rounded, all<T>(rounder<T>()))), low));
  // 2ⁿ is no normal number: first 2^(n + 64), f64 2^(n + 512).
  const above = sizeof<T>() == 4 ? 64 : 512;
  const bits = v128.add<T>(rounded, all<T>(above + (sizeof<T>() == 4 ? 127 : 1023)));
  const power = sizeof<T>() == 4 ? i32x4.shl(bits, 23) : i64x2.shl(bits, 52);
  const part = sizeof<T>() == 4 ? 5.421010862427522e-20 : 7.458340731200207e-155;
  return v128.mul<T>(v128.mul<T>(madd<T>(p, factor, factor), power), all<T>(part));
}

/** e^(−z²/2) · factor, good for large z too: z² in two parts, of which the first, from half of the digits of z, is exact. */
// @ts-ignore: decorator
@inline
function bell<T>(z: v128, factor: v128): v128 {
  const short = v128.and(z, sizeof<T>() == 4 ? i32x4.splat(0xfffff000) : i64x2.splat(0xfffffffff8000000));
  const rest = v128.mul<T>(v128.sub<T>(z, short), v128.add<T>(z, short));
  return expSum<T>(v128.mul<T>(v128.mul<T>(short, short), all<T>(-0.5)), v128.mul<T>(rest, all<T>(-0.5)), factor);
}

/** Φ(−z) e^(z²/2), or z times that, for z ≥ 0, as P((z − k) / (z + k)) / (z + k): so written, P varies little. */
// @ts-ignore: decorator
@inline
function mills<T>(z: v128, timesZ: bool): v128 {
  const u = v128.div<T>(all<T>(1), v128.add<T>(z, all<T>(sizeof<T>() == 4 ? 4 : 6)));
  const zu = v128.mul<T>(z, u);
  const v = madd<T>(zu, all<T>(2), all<T>(-1));
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
  return v128.mul<T>(timesZ ? zu : u, p);
}

/** erf x = x P(x²) for |x| < ½. */
// @ts-ignore: decorator
@inline
function erfNear0<T>(x: v128): v128 {
  const z2 = v128.mul<T>(x, x);
  let p: v128;
  if (sizeof<T>() == 4) {
    p = all<T>(0.00471799029);
    p = horner<T>(p, z2, -0.0267571844);
    p = horner<T>(p, z2, 0.112828225);
    p = horner<T>(p, z2, -0.376126081);
    p = horner<T>(p, z2, 1.12837911);
  } else {
    p = all<T>(1.4723213504194192e-6);
    p = horner<T>(p, z2, -1.4845583540085962e-5);
    p = horner<T>(p, z2, 0.00012053324304885568);
    p = horner<T>(p, z2, -0.0008548297524189967);
    p = horner<T>(p, z2, 0.005223977370323643);
    p = horner<T>(p, z2, -0.026866170632715587);
    p = horner<T>(p, z2, 0.11283791670924812);
    p = horner<T>(p, z2, -0.37612638903183465);
    p = horner<T>(p, z2, 1.1283791670955126);
  }
  return v128.mul<T>(x, p);
}

/** ±(1 − 2 Φ(−√2 |x|)) for |x| ≥ ½. */
// @ts-ignore: decorator
@inline
export function erf<T>(x: v128): v128 {
  const z = clip<T>(v128.mul<T>(x, all<T>(1.4142135623730951)));
  const far = madd<T>(bell<T>(z, mills<T>(z, false)), all<T>(-2), all<T>(1));
  return choose(v128.lt<T>(v128.abs<T>(x), all<T>(0.5)), erfNear0<T>(x), withSign<T>(far, x));
}

/** x Φ(x) = max(x, 0) − |x| Φ(−|x|), with the sign of x where that is 0; NaN for −∞, as the product with 0 is. */
// @ts-ignore: decorator
@inline
export function gelu<T>(x: v128): v128 {
  const z = clip<T>(x);
  const y = v128.sub<T>(v128.pmax<T>(x, all<T>(0)), bell<T>(z, mills<T>(z, true)));
  return v128.or(v128.or(y, v128.and(x, all<T>(-0.0))), v128.eq<T>(x, all<T>(-Infinity)));
}

/** Φ(x) + x φ(x), which is Φ(−z) − z φ(z) for x ≤ 0, else 1 less that; z = |x|. */
// @ts-ignore: decorator
@inline
export function geluSlope<T>(x: v128): v128 {
  const z = clip<T>(x);
  const factor = madd<T>(z, all<T>(-0.3989422804014327), mills<T>(z, false));
  const below = expSum<T>(v128.mul<T>(z, v128.mul<T>(z, all<T>(-0.5))), all<T>(0), factor);
  const positive = v128.gt<T>(x, all<T>(0));
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
