// Sine and cosine of two f64, for any size of argument. f32 goes through them too, and is nearly always rounded correctly.
import { all, choose } from './elementwise-lanes';
import { horner, rounder } from './elementwise-math';
import { madd } from './vector';

/** Bits 64 i + 1 … 64 i + 64 of 2/π behind the binary point. */
function twoOverPi(i: i32): u64 {
  switch (i) {
    case 0:
      return 0xa2f9836e4e441529;
    case 1:
      return 0xfc2757d1f534ddc0;
    case 2:
      return 0xdb6295993c439041;
    case 3:
      return 0xfe5163abdebbc561;
    case 4:
      return 0xb7246e3a424dd2e0;
    case 5:
      return 0x06492eea09d1921c;
    case 6:
      return 0xfe1deb1cb129a73e;
    case 7:
      return 0xe88235f52ebb4484;
    case 8:
      return 0xe99c7026b45f7e41;
    case 9:
      return 0x3991d639835339f4;
    case 10:
      return 0x9c845f8bbdf9283b;
    case 11:
      return 0x1ff897ffde05980f;
    case 12:
      return 0xef2f118b5a0a6d1f;
    case 13:
      return 0x6d367ecf27cb09b7;
    case 14:
      return 0x4f463f669e5fea2d;
    case 15:
      return 0x7527bac7ebe5f17b;
    case 16:
      return 0x3d0739f78a5292ea;
    case 17:
      return 0x6bfb5fb11f8d5d08;
    case 18:
      return 0x56033046fc7b6bab;
    default:
      return 0;
  }
}

/** 64 bits of 2/π from bit `at` + 1 on. */
function bitsOfTwoOverPi(at: i32): u64 {
  const first = twoOverPi(at >> 6);
  const shift = <u64>(at & 63);
  return shift == 0 ? first : (first << shift) | (twoOverPi((at >> 6) + 1) >> (64 - shift));
}

/** The upper 64 bits of a · b. */
function multiplyHigh(a: u64, b: u64): u64 {
  const al = a & 0xffffffff;
  const ah = a >> 32;
  const bl = b & 0xffffffff;
  const bh = b >> 32;
  const middle = ah * bl + ((al * bl) >> 32);
  return ah * bh + (middle >> 32) + ((al * bh + (middle & 0xffffffff)) >> 32);
}

/**
 * x − q π/2 in [−π/4, π/4] and, as a number, q modulo 4, for any finite |x| ≥ ½: the product of the mantissa with the
 * 192 bits of 2/π that matter (Payne & Hanek 1983).
 */
function reduce(x: f64): v128 {
  const bits = reinterpret<u64>(x);
  const mantissa = (bits & 0x000fffffffffffff) | 0x0010000000000000;
  // Bits of 2/π before this one make multiples of 4 in the product.
  const at = (<i32>(bits >> 52) & 0x7ff) - 1077;
  const w1 = bitsOfTwoOverPi(at + 64);
  const w2 = bitsOfTwoOverPi(at + 128);
  const low = mantissa * w1;
  const r1 = low + multiplyHigh(mantissa, w2);
  const r0 = mantissa * bitsOfTwoOverPi(at) + multiplyHigh(mantissa, w1) + (r1 < low ? 1 : 0);
  // Two bits of the quadrant, then the fraction, to the nearest quadrant.
  let quadrant = <f64>(r0 >> 62);
  let upper = (r0 << 2) | (r1 >> 62);
  let lower = (r1 << 2) | ((mantissa * w2) >> 62);
  let unit = 8.5153039502163873e-20; // π/2 · 2^−64
  if (<i64>upper < 0) {
    upper = ~upper;
    lower = ~lower;
    unit = -unit;
    quadrant += 1;
  }
  const r = (<f64>upper + <f64>lower * 5.421010862427522e-20) * unit;
  return f64x2.replace_lane(f64x2.splat(x < 0 ? -r : r), 1, x < 0 ? -quadrant : quadrant);
}

/** Of each lane x − q π/2, or q itself in the lowest bits. */
function reduceFar(x: v128, quadrants: bool): v128 {
  let result = x;
  for (let lane = 0; lane < 2; lane++) {
    const at = lane == 0 ? f64x2.extract_lane(x, 0) : f64x2.extract_lane(x, 1);
    let reduced = f64x2.replace_lane(f64x2.splat(at), 1, 0);
    if (Math.abs(at) >= 0.5) reduced = isFinite(at) ? reduce(at) : f64x2.splat(NaN);
    const wanted = quadrants ? f64x2.extract_lane(reduced, 1) + rounder<f64>() : f64x2.extract_lane(reduced, 0);
    result = lane == 0 ? f64x2.replace_lane(result, 0, wanted) : f64x2.replace_lane(result, 1, wanted);
  }
  return result;
}

/** sin(x + shift π/2) of two f64. */
// @ts-ignore: decorator
@inline
function shiftedSine(x: v128, shift: i64): v128 {
  const rounded = madd<f64>(x, all<f64>(0.6366197723675814), all<f64>(rounder<f64>()));
  const n = f64x2.sub(rounded, all<f64>(rounder<f64>()));
  // π/2 in three parts of 33, 33 and 53 bits: the first two times n are exact (Cody & Waite).
  const r0 = madd<f64>(n, all<f64>(-1.5707963267341256), x);
  const w = f64x2.mul(n, all<f64>(6.077100506303966e-11));
  const r1 = f64x2.sub(r0, w);
  const added = f64x2.sub(w, f64x2.sub(r0, r1));
  let r = f64x2.sub(r1, madd<f64>(n, all<f64>(2.0222662487959506e-21), added));
  let quadrants = rounded;
  // Too far out, or so close to a multiple of π/2 that 119 bits of it do not do.
  const size = f64x2.abs(x);
  const close = v128.and(f64x2.lt(f64x2.abs(r), all<f64>(1e-6)), f64x2.gt(size, all<f64>(0.5)));
  const far = v128.or(close, v128.not(f64x2.lt(size, all<f64>(1048576))));
  if (v128.any_true(far)) {
    // Only where it is needed: an element has the same bits whatever its neighbour is.
    r = choose(far, reduceFar(x, false), r);
    quadrants = choose(far, reduceFar(x, true), quadrants);
  }
  const z = f64x2.mul(r, r);
  let s = all<f64>(1.5896666564303866e-10);
  s = horner<f64>(s, z, -2.5050755962473312e-8);
  s = horner<f64>(s, z, 2.755731367867308e-6);
  s = horner<f64>(s, z, -1.984126982977119e-4);
  s = horner<f64>(s, z, 8.33333333332237e-3);
  s = horner<f64>(s, z, -0.16666666666666632);
  const sine = choose(f64x2.eq(r, all<f64>(0)), r, madd<f64>(f64x2.mul(r, z), s, r));
  let c = all<f64>(-1.1359559299828586e-11);
  c = horner<f64>(c, z, 2.0875721623054737e-9);
  c = horner<f64>(c, z, -2.755731434065381e-7);
  c = horner<f64>(c, z, 2.4801587289443458e-5);
  c = horner<f64>(c, z, -0.0013888888888874064);
  c = horner<f64>(c, z, 0.0416666666666666);
  c = horner<f64>(c, z, -0.5);
  const cosine = madd<f64>(c, z, all<f64>(1));
  const q = i64x2.add(quadrants, i64x2.splat(shift));
  const odd = i64x2.neg(v128.and(q, i64x2.splat(1)));
  return v128.xor(choose(odd, cosine, sine), i64x2.shl(v128.and(q, i64x2.splat(2)), 62));
}

// @ts-ignore: decorator
@inline
export function sin(x: v128): v128 {
  return shiftedSine(x, 0);
}

// @ts-ignore: decorator
@inline
export function cos(x: v128): v128 {
  return shiftedSine(x, 1);
}
