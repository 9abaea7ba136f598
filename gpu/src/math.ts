/**
 * A library of WGSL functions with JavaScript's results: infinities, NaN and signs of zero as `Math` has them, and some units in
 * the last place of float32. WGSL itself promises little: exp and pow lose digits with the size of their argument, log near 1
 * and tanh near 0 with its smallness, sin and cos are good to 2⁻¹¹, and a compiler may take it that there is no NaN. So edges
 * are found by bits here, and the rest is written out. Numbers below 1.2e-38 may be taken for 0.
 */

/** The polynomial Σ cᵢ xⁱ, by Horner's rule. */
const polynomial = (x: string, coefficients: readonly number[]): string =>
  coefficients.reduceRight((sum, c) => (sum === '' ? `${c}` : `(${sum} * ${x} + (${c}))`), '');

/** log((1 + s) / (1 − s)) / (2 s) in s². */
const BY_S = [1, 1 / 3, 1 / 5, 1 / 7, 1 / 9, 1 / 11];
/** Bits of 2/π, an eighth of it first. */
const TWO_OVER_PI = '0u, 0x28be60dbu, 0x9391054au, 0x7f09d5f4u, 0x7d4d3770u, 0x36d8a566u, 0x4f10e410u, 0x7f9458eau';
/** 2 log₂ e in twelve bits, and the rest. */
const LOG2E = Math.floor((2 / Math.LN2) * 1024) / 1024;

/** erf x = x P(x²) for |x| < ½. */
const ERF = [1.12837911, -0.376126081, 0.112828225, -0.0267571844, 0.00471799029];
/** Φ(−z) e^(z²/2) (z + 4) in v = (z − 4) / (z + 4). */
const MILLS = [
  0.755285144, -0.607896566, 0.387136906, -0.186523438, 0.0604038313, -0.00752527127, -0.0035125541, 0.00156992336,
  0.000179354407, -0.000131971668,
];
const ROOT = Math.sqrt(2 / Math.PI);
const CUBE = 0.044715;

/** A function of one number for which NaN is NaN. */
const ofNumber = (name: string, body: string) => `fn ${name}_(x : f32) -> f32 { if (isnan_(x)) { return x; } ${body} }`;
/** The same, odd: the body is of `a` = |x|. */
const odd = (name: string, body: string) => `
fn ${name}_size_(a : f32) -> f32 { ${body} }
${ofNumber(name, `return signed_(${name}_size_(abs(x)), x);`)}`;
/** A comparison, which holds for no NaN. */
const compared = (name: string, operator: string) =>
  `fn ${name}_(a : f32, b : f32) -> bool { return a ${operator} b && !isnan_(a) && !isnan_(b); }`;

const TEXTS: readonly string[] = [
  // Shaders may not name these values, but they may compute them.
  'var<private> nan_bits : u32 = 0x7fc00000u; fn nan_() -> f32 { return bitcast<f32>(nan_bits); }',
  'var<private> inf_bits : u32 = 0x7f800000u; fn inf_() -> f32 { return bitcast<f32>(inf_bits); }',
  'fn isnan_(x : f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }',
  'fn isfinite_(x : f32) -> bool { return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u; }',
  'fn iszero_(x : f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) == 0u; }',
  'fn truthy_(x : f32) -> bool { return !iszero_(x) && !isnan_(x); }',
  'fn minus_(x : f32) -> bool { return (bitcast<u32>(x) & 0x80000000u) != 0u; }',
  // |a| with the sign of x.
  'fn signed_(a : f32, x : f32) -> f32 { return bitcast<f32>((bitcast<u32>(a) & 0x7fffffffu) | (bitcast<u32>(x) & 0x80000000u)); }',

  compared('lt', '<'),
  compared('le', '<='),
  compared('gt', '>'),
  compared('ge', '>='),
  compared('eq', '=='),
  'fn ne_(a : f32, b : f32) -> bool { return a != b || isnan_(a) || isnan_(b); }',
  // NaN wins.
  'fn max_(a : f32, b : f32) -> f32 { return select(select(select(b, a, a > b), b, isnan_(b)), a, isnan_(a)); }',
  'fn min_(a : f32, b : f32) -> f32 { return select(select(select(b, a, a < b), b, isnan_(b)), a, isnan_(a)); }',
  ofNumber('sign', 'return select(select(x, -1.0, x < 0.0), 1.0, x > 0.0);'),
  ofNumber('relu', 'return select(0.0, x, x > 0.0);'),
  // Half up, as Math.round.
  ofNumber('round', 'let down = floor(x); return select(down, down + 1.0, x - down >= 0.5);'),

  `
// Beyond 2¹²⁶ the reciprocal of b, by which a GPU divides, would be 0.
fn div_(a : f32, b : f32) -> f32 {
  if (isnan_(a) || isnan_(b)) { return nan_(); }
  let sign = (bitcast<u32>(a) ^ bitcast<u32>(b)) & 0x80000000u;
  if (iszero_(b)) { return select(bitcast<f32>(sign | inf_bits), nan_(), iszero_(a)); }
  if (!isfinite_(b)) { return select(bitcast<f32>(sign), nan_(), !isfinite_(a)); }
  if (!isfinite_(a)) { return bitcast<f32>(sign | inf_bits); }
  let unit = select(1.0, 0.0625, abs(b) > 4e37);
  return (a * unit) / (b * unit);
}`,
  `
// The remainder of a by b, exactly, with the sign of a.
fn mod_(a : f32, b : f32) -> f32 {
  if (isnan_(a) || isnan_(b) || !isfinite_(a) || iszero_(b)) { return nan_(); }
  if (!isfinite_(b)) { return a; }
  var r = abs(a);
  let c = abs(b);
  while (r >= c) {
    // c · 2ᵏ is at most r and more than half of it, so the difference is exact.
    let k = i32(bitcast<u32>(r) >> 23u) - i32(bitcast<u32>(c) >> 23u);
    let t = times2_(c, k);
    r -= select(t, 0.5 * t, t > r);
  }
  return signed_(r, a);
}`,
  `
// x · 2ⁿ, in two factors, of which each is in range.
fn times2_(x : f32, n : i32) -> f32 {
  let h = n >> 1u;
  return x * bitcast<f32>(u32(h + 127) << 23u) * bitcast<f32>(u32(n - h + 127) << 23u);
}`,
  `
// e^r 2ⁿ for |r| < 0.35.
fn power2_(r : f32, n : i32) -> f32 {
  let rest = r * r * ${polynomial('r', [0.50000001201, 0.16666665459, 0.041665795894, 0.0083334519073, 0.0013981999507, 0.000198756915])};
  return times2_(rest + r + 1.0, n);
}`,
  ofNumber(
    'exp',
    `
  if (x > 88.722835) { return inf_(); }
  if (x < -104.0) { return 0.0; }
  let n = floor(x * 1.4426950408889634 + 0.5);
  return power2_((x - n * 0.693359375) + n * 0.0002121944400546905, i32(n));`,
  ),
  ofNumber(
    'expm1',
    `
  if (abs(x) >= 0.5) { return exp_(x) - 1.0; }
  return x * ${polynomial('x', [1, 1 / 2, 1 / 6, 1 / 24, 1 / 120, 1 / 720, 1 / 5040, 1 / 40320])};`,
  ),
  `
// m from √½ to √2 and e, such that x = m 2ᵉ; for x above 0.
fn split_(x : f32) -> vec2<f32> {
  var bits = bitcast<u32>(x);
  var e = 0;
  // Numbers too small for a leading 1 are whole multiples of 2⁻¹⁴⁹.
  if (bits < 0x00800000u) { bits = bitcast<u32>(f32(bits)); e = -149; }
  let k = bitcast<i32>(bits - 0x3f3504f3u) >> 23u;
  return vec2<f32>(bitcast<f32>(bits - (bitcast<u32>(k) << 23u)), f32(e + k));
}
fn bys_(s : f32) -> f32 { let q = s * s; return 2.0 * s * ${polynomial('q', BY_S)}; }
// x itself where it is NaN or ∞, else what has no logarithm: 0 and below.
fn nolog_(x : f32) -> bool { return !isfinite_(x) || iszero_(x) || minus_(x); }
fn edge_(x : f32) -> f32 { return select(select(x, nan_(), minus_(x)), -inf_(), iszero_(x)); }`,
  ofNumber(
    'log',
    `
  if (nolog_(x)) { return edge_(x); }
  let parts = split_(x);
  return parts.y * 0.693359375 + (bys_((parts.x - 1.0) / (parts.x + 1.0)) - parts.y * 0.0002121944400546905);`,
  ),
  ofNumber(
    'log2',
    `
  if (nolog_(x)) { return edge_(x); }
  let parts = split_(x);
  return parts.y + bys_((parts.x - 1.0) / (parts.x + 1.0)) * ${Math.LOG2E};`,
  ),
  ofNumber('log10', `if (nolog_(x)) { return edge_(x); } return log_(x) * ${Math.LOG10E};`),
  ofNumber('log1p', 'if (abs(x) >= 0.3) { return log_(1.0 + x); } return bys_(x / (2.0 + x));'),
  ofNumber(
    'sqrt',
    'if (iszero_(x) || (!isfinite_(x) && !minus_(x))) { return x; } if (minus_(x)) { return nan_(); } return sqrt(x);',
  ),
  `
// The leading twelve bits of the significand: products of two such are exact.
fn head_(x : f32) -> f32 { return bitcast<f32>(bitcast<u32>(x) & 0xfffff000u); }
// aᵇ for finite a above 0: 2 to the power of b log₂ a, which is kept in two numbers.
fn size_power_(a : f32, b : f32) -> f32 {
  let parts = split_(a);
  // Without its last bit, so that the sum is exact. (x + 1) − 1 is x to some compilers.
  let even = bitcast<f32>(bitcast<u32>(parts.x) & 0xfffffffeu);
  let n = parts.x - 1.0; let d = even + 1.0; let d1 = parts.x - even;
  let s = n / d;
  let sh = head_(s); let sl = s - sh; let dh = head_(d); let dl = d - dh;
  let s1 = ((((n - sh * dh) - sh * dl) - sl * dh) - sl * dl - s * d1) / d;
  let q = s * s;
  let small = sl * ${LOG2E} + (s * ${2 / Math.LN2 - LOG2E} + ${2 / Math.LN2} * (s1 + s * q * ${polynomial('q', BY_S.slice(1))}));
  // Leading parts are cut by bits: (t − l) + low is what rounding has lost, and 0 to a compiler that takes numbers for real ones.
  let t = head_(parts.y + sh * ${LOG2E});
  let low = ((parts.y - t) + sh * ${LOG2E}) + small;
  let l = head_(t + low); let l1 = (t - l) + low;
  // Products of heads are exact, so that it does not matter which of them a compiler joins with a sum.
  let bh = head_(b); let bl = b - bh;
  let y = bh * l;
  let rest = bl * l + b * l1;
  if (y + rest > 129.0) { return inf_(); }
  if (y + rest < -151.0) { return 0.0; }
  let k = floor(y + rest + 0.5);
  return power2_(((y - k) + rest) * 0.6931471805599453, i32(k));
}
// IEEE's pow, as tensors have it: 1 to any power is 1, and anything to the power of 0.
fn pow_(a : f32, b : f32) -> f32 {
  let size = abs(a);
  if (iszero_(b) || bitcast<u32>(a) == 0x3f800000u) { return 1.0; }
  if (isnan_(a) || isnan_(b)) { return nan_(); }
  let count = abs(b);
  let whole = count >= 8388608.0 || floor(b) == b;
  let flips = minus_(a) && count < 16777216.0 && whole && (u32(min(count, 16777216.0)) & 1u) == 1u;
  let sign = select(0u, 0x80000000u, flips);
  if (iszero_(a) || !isfinite_(a)) {
    return bitcast<f32>(sign | select(0u, inf_bits, iszero_(a) == minus_(b)));
  }
  if (!isfinite_(b)) { return select(select(0.0, inf_(), (size > 1.0) != minus_(b)), 1.0, size == 1.0); }
  if (minus_(a) && !whole) { return nan_(); }
  if (whole && count <= 8.0) {
    var result = 1.0; var square = a; var rest = u32(count);
    while (rest > 0u) { if ((rest & 1u) == 1u) { result *= square; } square *= square; rest >>= 1u; }
    if (minus_(b)) { return div_(1.0, result); }
    return result;
  }
  return bitcast<f32>(sign | bitcast<u32>(size_power_(size, b)));
}`,
  'fn mathpow_(a : f32, b : f32) -> f32 { if (isnan_(b) || (abs(a) == 1.0 && !isfinite_(b))) { return nan_(); } return pow_(a, b); }',
  odd(
    'cbrt',
    `if (iszero_(a) || !isfinite_(a)) { return a; }
  let y = size_power_(a, 0.3333333333333333);
  return y - (y - a / (y * y)) * 0.3333333333333333;`,
  ),

  `
fn highword_(a : u32, b : u32) -> u32 {
  let al = a & 0xffffu; let ah = a >> 16u; let bl = b & 0xffffu; let bh = b >> 16u;
  let mid = ah * bl + ((al * bl) >> 16u);
  return ah * bh + (mid >> 16u) + ((al * bh + (mid & 0xffffu)) >> 16u);
}
// |x| less the nearest multiple of π/2, and which multiple that is, modulo 4: for all finite x (Payne and Hanek 1983).
fn quarter_(x : f32) -> vec2<f32> {
  let a = abs(x);
  if (a < 0.785398) { return vec2<f32>(a, 0.0); }
  var table = array<u32, 8>(${TWO_OVER_PI});
  let bits = bitcast<u32>(a);
  let e = (bits >> 23u) - 126u;
  let i = e >> 5u; let s = e & 31u;
  var w0 = table[i]; var w1 = table[i + 1u]; var w2 = table[i + 2u]; let w3 = table[i + 3u];
  if (s > 0u) {
    let back = 32u - s;
    w0 = (w0 << s) | (w1 >> back); w1 = (w1 << s) | (w2 >> back); w2 = (w2 << s) | (w3 >> back);
  }
  // Two words of the product: the quarter in two bits, and 62 of the fraction.
  let m = ((bits & 0x7fffffu) | 0x800000u) << 8u;
  let carry = highword_(m, w2);
  var low = m * w1 + carry;
  var high = m * w0 + highword_(m, w1) + select(0u, 1u, low < carry);
  var k = high >> 30u;
  high &= 0x3fffffffu;
  let over = high >= 0x20000000u;
  if (over) {
    k += 1u;
    high = 0x40000000u - high - select(0u, 1u, low != 0u);
    low = 0u - low;
  }
  let r = f32(high) * ${Math.PI / 2 / 2 ** 30} + f32(low) * ${Math.PI / 2 / 2 ** 62};
  return vec2<f32>(select(r, -r, over), f32(k & 3u));
}
fn sine_(r : f32) -> f32 { let s = r * r; return r * ${polynomial('s', [1, -1 / 6, 1 / 120, -1 / 5040, 1 / 362880])}; }
fn cosine_(r : f32) -> f32 { let s = r * r; return ${polynomial('s', [1, -1 / 2, 1 / 24, -1 / 720, 1 / 40320, -1 / 3628800])}; }
fn turned_(q : vec2<f32>) -> f32 {
  let size = select(sine_(q.x), cosine_(q.x), q.y == 1.0 || q.y == 3.0);
  return select(size, -size, q.y >= 2.0);
}`,
  'fn sin_(x : f32) -> f32 { if (!isfinite_(x)) { return nan_(); } if (iszero_(x)) { return x; } let y = turned_(quarter_(x)); return select(y, -y, minus_(x)); }',
  'fn cos_(x : f32) -> f32 { if (!isfinite_(x)) { return nan_(); } let q = quarter_(x); return turned_(vec2<f32>(q.x, f32((u32(q.y) + 1u) & 3u))); }',
  'fn tan_(x : f32) -> f32 { return div_(sin_(x), cos_(x)); }',
  odd('tanh', 'if (a > 9.2) { return 1.0; } let e = expm1_(2.0 * a); return e / (e + 2.0);'),
  odd(
    'sinh',
    'if (a > 80.0) { let h = exp_(0.5 * a); return (0.5 * h) * h; } let e = expm1_(a); return 0.5 * (e + e / (e + 1.0));',
  ),
  ofNumber('cosh', 'let h = exp_(0.5 * abs(x)); return (0.5 * h) * h + div_(0.5, h * h);'),
  `
fn arc_(a : f32) -> f32 {
  // For a from 0 to 1, from 0.4142 on by the difference to π/4.
  let far = a > 0.4142135623730950;
  let x = select(a, (a - 1.0) / (a + 1.0), far);
  let z = x * x;
  let y = x + x * z * ${polynomial('z', [-0.333329491539, 0.199777106478, -0.138776856032, 0.0805374449538])};
  return select(y, y + ${Math.PI / 4}, far);
}`,
  odd(
    'atan',
    `if (a <= 1.0) { return arc_(a); } if (!isfinite_(a)) { return ${Math.PI / 2}; } return ${Math.PI / 2} - arc_(1.0 / a);`,
  ),
  `
fn atan2_(y : f32, x : f32) -> f32 {
  if (isnan_(x) || isnan_(y)) { return nan_(); }
  let a = abs(y); let b = abs(x); let steep = a > b;
  let ratio = select(div_(min(a, b), max(a, b)), select(1.0, 0.0, iszero_(a)), a == b);
  let angle = select(arc_(ratio), ${Math.PI / 2} - arc_(ratio), steep);
  return signed_(select(angle, ${Math.PI} - angle, minus_(x)), y);
}`,
  ofNumber('asin', 'return atan2_(x, sqrt_((1.0 - x) * (1.0 + x)));'),
  ofNumber('acos', 'return atan2_(sqrt_((1.0 - x) * (1.0 + x)), x);'),
  odd(
    'asinh',
    `if (!isfinite_(a)) { return a; } if (a > 1e9) { return log_(a) + ${Math.LN2}; } let q = a * a; return log1p_(a + q / (1.0 + sqrt(q + 1.0)));`,
  ),
  ofNumber(
    'acosh',
    `if (x < 1.0) { return nan_(); } if (x > 1e9) { return log_(x) + ${Math.LN2}; } let t = x - 1.0; return log1p_(t + sqrt_(2.0 * t + t * t));`,
  ),
  odd(
    'atanh',
    'if (a > 1.0) { return nan_(); } if (a == 1.0) { return inf_(); } return 0.5 * log1p_(2.0 * a / (1.0 - a));',
  ),

  `
// Count, mean and squares about it of two parts (Chan, Golub, LeVeque 1983).
fn statistics_(a : vec4<f32>, b : vec4<f32>) -> vec4<f32> {
  if (a.x == 0.0) { return b; }
  if (b.x == 0.0) { return a; }
  let n = a.x + b.x; let share = b.x / n; let d = b.y - a.y;
  return vec4<f32>(n, a.y + d * share, a.z + b.z + d * d * a.x * share, 0.0);
}`,
  // Squares in three ranges, and the root of their sums by that which kept its digits.
  'fn square_(x : f32) -> vec4<f32> { let a = x * 0x1p-64; let b = x * 0x1p64; return vec4<f32>(x * x, a * a, b * b, 0.0); }',
  `
fn root_(s : vec4<f32>) -> f32 {
  if (!isfinite_(s.x)) { return sqrt_(s.y) * 0x1p64; }
  if (s.x < 1e-30 && isfinite_(s.z)) { return sqrt_(s.z) * 0x1p-64; }
  return sqrt_(s.x);
}`,
  // Numbers in their order as unsigned ones: NaN last, −0 as 0.
  `
fn key_(x : f32) -> u32 {
  let bits = select(bitcast<u32>(x), 0u, iszero_(x));
  return select(bits ^ select(0x80000000u, 0xffffffffu, minus_(bitcast<f32>(bits))), 0xffffffffu, isnan_(x));
}`,

  ofNumber('sigmoid', 'let e = exp_(-abs(x)); return select(e, 1.0, x >= 0.0) / (1.0 + e);'),
  `
// e^(−z²/2), where z² would lose digits of the exponent.
fn bell_(z : f32) -> f32 { let h = head_(z); return exp_(-0.5 * h * h) * exp_(-0.5 * (z - h) * (z + h)); }
// Φ(−z) of 0 ≤ z ≤ 15.5.
fn tail_(z : f32) -> f32 {
  let u = 1.0 / (z + 4.0);
  let v = 2.0 * z * u - 1.0;
  return bell_(z) * u * ${polynomial('v', MILLS)};
}
fn far_(x : f32) -> f32 { return min(abs(x), 15.5); }
fn erfnear_(x : f32) -> f32 { let q = x * x; return x * ${polynomial('q', ERF)}; }
// Φ(x)
fn phi_(x : f32) -> f32 {
  if (abs(x) < 0.5) { return 0.5 + 0.5 * erfnear_(x * ${Math.SQRT1_2}); }
  let t = tail_(far_(x));
  return select(t, 1.0 - t, x > 0.0);
}
// The argument of tanh in the other form of gelu.
fn cubic_(x : f32) -> f32 { return ${ROOT} * x * (1.0 + ${CUBE} * x * x); }`,
  odd('erf', `if (a < 0.5) { return erfnear_(a); } return 1.0 - 2.0 * tail_(far_(a * ${Math.SQRT2}));`),
  // −∞ · 0
  ofNumber('gelu', 'if (!isfinite_(x)) { return select(x, nan_(), minus_(x)); } return x * phi_(x);'),
  // ½ (1 + tanh c) = 1 / (1 + e^(−2c))
  ofNumber(
    'gelutanh',
    'if (!isfinite_(x)) { return select(x, nan_(), minus_(x)); } if (abs(x) > 40.0) { return max(x, 0.0); } return x * sigmoid_(2.0 * cubic_(x));',
  ),
  // The gradient by the argument: Φ(x) + x e^(−x²/2) / √2π.
  ofNumber(
    'geluslope',
    `if (abs(x) > 15.5) { return select(0.0, 1.0, x > 0.0); } return phi_(x) + x * bell_(x) * ${1 / Math.sqrt(2 * Math.PI)};`,
  ),
  ofNumber(
    'gelutanhslope',
    `
  if (abs(x) > 40.0) { return select(0.0, 1.0, x > 0.0); }
  let s = sigmoid_(2.0 * cubic_(x));
  return s + 2.0 * x * s * sigmoid_(-2.0 * cubic_(x)) * ${ROOT} * (1.0 + ${3 * CUBE} * x * x);`,
  ),
];

/** Each function's text by its name; one text may have several. */
const LIBRARY: ReadonlyMap<string, string> = new Map(
  TEXTS.flatMap(text => [...text.matchAll(/\bfn (\w+_)\(/g)].map(([, name]) => [name!, text] as const)),
);

/** `code` with the functions of the library that it calls, and does not have itself. */
export function withLibrary(code: string): string {
  const texts = new Set<string>();
  const add = (source: string) => {
    for (const [, name] of source.matchAll(/\b(\w+_)\(/g)) {
      const text = LIBRARY.get(name!);
      if (text === undefined || texts.has(text) || code.includes(`fn ${name}(`)) continue;
      texts.add(text);
      add(text);
    }
    if (/\binf_bits\b/.test(source)) add('inf_()');
  };
  add(code);
  return [code, ...texts].join('\n');
}
