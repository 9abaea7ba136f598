// Functions of vectors of f32 and f64 beyond those of elementwise-math.ts: logarithms to the bases 2 and 10, hyperbolic and
// inverse functions, activations and their slopes. They come with the operations that need them, in the module `math`.
import { all, choose } from './elementwise-lanes';
import { exp, expm1, exponent, LOG2E, log, log1p, logParts, mantissa, sigmoid, withSign } from './elementwise-math';
import { cos, sin } from './elementwise-trig';
import { madd } from './vector';

/** y, or the nearest integer where that is at most two units in the last place off: powers of the base have integers. */
// @ts-ignore: decorator
@inline
function snapped<T>(y: v128): v128 {
  const whole = v128.nearest<T>(y);
  const off = v128.abs<T>(v128.sub<T>(y, whole));
  const near = v128.le<T>(off, v128.mul<T>(v128.abs<T>(whole), all<T>(sizeof<T>() == 4 ? 2.4e-7 : 4.5e-16)));
  return choose(near, whole, y);
}

/** The exponent and log₂ of the mantissa, which is 0 at powers of 2. */
// @ts-ignore: decorator
@inline
export function log2<T>(x: v128): v128 {
  const denormal = v128.lt<T>(x, all<T>(sizeof<T>() == 4 ? 1.1754943508222875e-38 : 2.2250738585072014e-308));
  const normal = choose(denormal, v128.mul<T>(x, all<T>(sizeof<T>() == 4 ? 8388608 : 4503599627370496)), x);
  const k = v128.sub<T>(exponent<T>(normal), v128.and(denormal, all<T>(sizeof<T>() == 4 ? 23 : 52)));
  const part = logParts<T>(all<T>(0), v128.sub<T>(mantissa<T>(normal), all<T>(1)), all<T>(0));
  let y = madd<T>(part, all<T>(LOG2E), k);
  y = choose(v128.lt<T>(x, all<T>(Infinity)), y, x);
  y = choose(v128.eq<T>(x, all<T>(0)), all<T>(-Infinity), y);
  return choose(v128.lt<T>(x, all<T>(0)), all<T>(NaN), y);
}

// @ts-ignore: decorator
@inline
export function log10<T>(x: v128): v128 {
  return snapped<T>(v128.mul<T>(log<T>(x), all<T>(0.4342944819032518)));
}

/** Of two f64. */
// @ts-ignore: decorator
@inline
export function tan(x: v128): v128 {
  return choose(f64x2.eq(x, all<f64>(0)), x, f64x2.div(sin(x), cos(x)));
}

/** e^|x| / 2 where that is large, as a product of two factors, which overflows no sooner than the result. */
// @ts-ignore: decorator
@inline
function halfOfLarge<T>(size: v128): v128 {
  const root = exp<T>(v128.mul<T>(size, all<T>(0.5)));
  return v128.mul<T>(v128.mul<T>(root, all<T>(0.5)), root);
}

/** (t + t / (t + 1)) / 2 where t = e^|x| − 1: nothing is lost near 0. */
// @ts-ignore: decorator
@inline
export function sinh<T>(x: v128): v128 {
  const size = v128.abs<T>(x);
  const t = expm1<T>(size);
  const near = v128.mul<T>(v128.add<T>(t, v128.div<T>(t, v128.add<T>(t, all<T>(1)))), all<T>(0.5));
  const large = v128.gt<T>(size, all<T>(sizeof<T>() == 4 ? 80 : 700));
  const y = withSign<T>(choose(large, halfOfLarge<T>(size), near), x);
  return choose(v128.lt<T>(size, all<T>(sizeof<T>() == 4 ? 1e-12 : 1e-24)), x, y);
}

// @ts-ignore: decorator
@inline
export function cosh<T>(x: v128): v128 {
  const size = v128.abs<T>(x);
  const e = exp<T>(size);
  const near = madd<T>(e, all<T>(0.5), v128.div<T>(all<T>(0.5), e));
  return choose(v128.gt<T>(size, all<T>(sizeof<T>() == 4 ? 80 : 700)), halfOfLarge<T>(size), near);
}

/** The angle of two f64 each, for y and x of all signs: arctan of the smaller by the larger (Cephes), then by octants. */
// @ts-ignore: decorator
@inline
export function atan2(y: v128, x: v128): v128 {
  const high = f64x2.abs(y);
  const wide = f64x2.abs(x);
  const steep = f64x2.gt(high, wide);
  const small = choose(steep, wide, high);
  const large = choose(steep, high, wide);
  let t = f64x2.div(small, large);
  // 0/0 is 0, and ∞/∞ is 1; NaN of an operand comes back at the end.
  t = choose(f64x2.eq(small, all<f64>(0)), all<f64>(0), t);
  t = choose(f64x2.eq(small, all<f64>(Infinity)), all<f64>(1), t);
  const far = f64x2.gt(t, all<f64>(0.66));
  const u = choose(far, f64x2.div(f64x2.sub(t, all<f64>(1)), f64x2.add(t, all<f64>(1))), t);
  const z = f64x2.mul(u, u);
  let p = all<f64>(-8.750608600031904122785e-1);
  p = madd<f64>(p, z, all<f64>(-1.615753718733365076637e1));
  p = madd<f64>(p, z, all<f64>(-7.500855792314704667340e1));
  p = madd<f64>(p, z, all<f64>(-1.228866684490136173410e2));
  p = madd<f64>(p, z, all<f64>(-6.485021904942025371773e1));
  let q = f64x2.add(z, all<f64>(2.485846490142306297962e1));
  q = madd<f64>(q, z, all<f64>(1.650270098316988542046e2));
  q = madd<f64>(q, z, all<f64>(4.328810604912902668951e2));
  q = madd<f64>(q, z, all<f64>(4.853903996359136964868e2));
  q = madd<f64>(q, z, all<f64>(1.945506571482613964425e2));
  let r = madd<f64>(f64x2.mul(u, z), f64x2.div(p, q), u);
  r = choose(far, f64x2.add(f64x2.add(r, all<f64>(3.061616997868383e-17)), all<f64>(0.7853981633974483)), r);
  r = choose(steep, f64x2.add(f64x2.sub(all<f64>(6.123233995736766e-17), r), all<f64>(1.5707963267948966)), r);
  // The sign of x as a mask, of −0 too.
  const left = i64x2.shr_s(x, 63);
  r = choose(left, f64x2.add(f64x2.sub(all<f64>(1.2246467991473532e-16), r), all<f64>(3.141592653589793)), r);
  r = withSign<f64>(r, y);
  return choose(v128.and(f64x2.eq(x, x), f64x2.eq(y, y)), r, f64x2.add(x, y));
}

// --- activations and their slopes ------------------------------------------------------------------------------------------

/** x / (1 + e^−x). */
// @ts-ignore: decorator
@inline
export function silu<T>(x: v128): v128 {
  return v128.mul<T>(x, sigmoid<T>(x));
}

/** s (1 + x (1 − s)), where s = sigmoid(x) and 1 − s = sigmoid(−x). */
// @ts-ignore: decorator
@inline
export function siluSlope<T>(x: v128): v128 {
  const e = exp<T>(v128.neg<T>(v128.abs<T>(x)));
  const share = v128.div<T>(all<T>(1), v128.add<T>(e, all<T>(1)));
  const rest = v128.mul<T>(e, share);
  const negative = v128.lt<T>(x, all<T>(0));
  const s = choose(negative, rest, share);
  return madd<T>(v128.mul<T>(x, choose(negative, share, rest)), s, s);
}

/** log(1 + e^z): max(z, 0) + log(1 + e^−|z|). */
// @ts-ignore: decorator
@inline
function softplusOf<T>(z: v128): v128 {
  const rest = log1p<T>(exp<T>(v128.neg<T>(v128.abs<T>(z))));
  return v128.add<T>(choose(v128.lt<T>(z, all<T>(0)), all<T>(0), z), rest);
}

/** log(1 + e^(β x)) / β; x where β x is above the threshold. */
// @ts-ignore: decorator
@inline
export function softplus<T>(x: v128, beta: v128, threshold: v128): v128 {
  const z = v128.mul<T>(x, beta);
  return choose(v128.gt<T>(z, threshold), x, v128.div<T>(softplusOf<T>(z), beta));
}

// @ts-ignore: decorator
@inline
export function softplusSlope<T>(x: v128, beta: v128, threshold: v128): v128 {
  const z = v128.mul<T>(x, beta);
  return choose(v128.gt<T>(z, threshold), all<T>(1), sigmoid<T>(z));
}

/** −log(1 + e^−x). */
// @ts-ignore: decorator
@inline
export function logSigmoid<T>(x: v128): v128 {
  return v128.neg<T>(softplusOf<T>(v128.neg<T>(x)));
}

// @ts-ignore: decorator
@inline
export function logSigmoidSlope<T>(x: v128): v128 {
  return sigmoid<T>(v128.neg<T>(x));
}

/** x for x > 0, else α (eˣ − 1); both times a scale. */
// @ts-ignore: decorator
@inline
export function elu<T>(x: v128, alpha: v128, scale: v128): v128 {
  const below = v128.mul<T>(alpha, expm1<T>(x));
  return v128.mul<T>(scale, choose(v128.gt<T>(x, all<T>(0)), x, below));
}

// @ts-ignore: decorator
@inline
export function eluSlope<T>(x: v128, alpha: v128, scale: v128): v128 {
  return v128.mul<T>(scale, choose(v128.gt<T>(x, all<T>(0)), all<T>(1), v128.mul<T>(alpha, exp<T>(x))));
}

/** x for x > 0, else slope · x. */
// @ts-ignore: decorator
@inline
export function leakyRelu<T>(x: v128, slope: v128, _: v128): v128 {
  return choose(v128.gt<T>(x, all<T>(0)), x, v128.mul<T>(x, slope));
}

// @ts-ignore: decorator
@inline
export function leakyReluSlope<T>(x: v128, slope: v128, _: v128): v128 {
  return choose(v128.gt<T>(x, all<T>(0)), all<T>(1), slope);
}

/** tanh(log(1 + eˣ)) = 1 − w by e = e^−|x|: w = 2e² / d, d = 1 + 2e + 2e² for x ≥ 0; w = 2 / d, d = e² + 2e + 2 below. */
// @ts-ignore: decorator
@inline
export function mish<T>(x: v128): v128 {
  const e = exp<T>(v128.neg<T>(v128.abs<T>(x)));
  const negative = v128.lt<T>(x, all<T>(0));
  const twice = v128.add<T>(e, e);
  const square = v128.mul<T>(e, e);
  const n = choose(negative, v128.add<T>(square, twice), v128.add<T>(twice, all<T>(1)));
  const d = v128.add<T>(n, choose(negative, all<T>(2), v128.add<T>(square, square)));
  return v128.mul<T>(x, v128.div<T>(n, d));
}

/** t + x (1 − t²) s, where t = tanh(log(1 + eˣ)) and s = sigmoid(x). */
// @ts-ignore: decorator
@inline
export function mishSlope<T>(x: v128): v128 {
  const e = exp<T>(v128.neg<T>(v128.abs<T>(x)));
  const negative = v128.lt<T>(x, all<T>(0));
  const twice = v128.add<T>(e, e);
  const square = v128.mul<T>(e, e);
  const n = choose(negative, v128.add<T>(square, twice), v128.add<T>(twice, all<T>(1)));
  const rest = choose(negative, all<T>(2), v128.add<T>(square, square));
  const d = v128.add<T>(n, rest);
  const t = v128.div<T>(n, d);
  const w = v128.div<T>(rest, d);
  const s = v128.div<T>(choose(negative, e, all<T>(1)), v128.add<T>(e, all<T>(1)));
  const curve = v128.mul<T>(v128.mul<T>(w, v128.add<T>(t, all<T>(1))), s);
  return madd<T>(x, curve, t);
}
