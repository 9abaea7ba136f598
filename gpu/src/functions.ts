/**
 * The elementwise functions, in the JavaScript that gpu.js translates: bodies of functions of x, of a and b, or of gy and a. WGSL
 * promises little of its own functions (log near 1 and tanh near 0 lose their digits, sin and cos are good to 2⁻¹¹, pow takes no
 * negative base), so those are written out here, to a few units in the last place of float32.
 */

import type { BinaryKernel, UnaryGradKernel, UnaryKernel } from '@otimes/core';

/** The polynomial Σ cᵢ xⁱ, by Horner's rule. */
const polynomial = (x: string, coefficients: readonly number[]): string =>
  coefficients.reduceRight((sum, c) => (sum === '' ? number(c) : `(${sum} * ${x} + ${number(c)})`), '');

/** A literal that is a float to gpu.js. */
function number(value: number): string {
  const text = value.toString();
  const literal = /[.e]/.test(text) ? text : `${text}.0`;
  return value < 0 ? `(${literal})` : literal;
}

/** e^y − 1 for |y| < ½ by its series. */
const expm1Near0 = (y: string) =>
  `${y} * ${polynomial(y, [1, 1 / 2, 1 / 6, 1 / 24, 1 / 120, 1 / 720, 1 / 5040, 1 / 40320])}`;

/** log((1 + s) / (1 − s)) = 2 (s + s³/3 + …) for small s. */
const logByS = (s: string) => `2.0 * ${s} * ${polynomial(`(${s} * ${s})`, [1, 1 / 3, 1 / 5, 1 / 7, 1 / 9, 1 / 11])}`;

const EXPM1 = (x: string, result: string) => `
  const ${result}_near = ${expm1Near0(x)};
  const ${result} = Math.abs(${x}) < 0.5 ? ${result}_near : Math.exp(${x}) - 1.0;`;

/** erf x = x P(x²) for |x| < ½. */
const ERF = [1.12837911, -0.376126081, 0.112828225, -0.0267571844, 0.00471799029];
/** Φ(−z) e^(z²/2) (z + 4) in v = (z − 4) / (z + 4). */
const MILLS = [
  0.755285144, -0.607896566, 0.387136906, -0.186523438, 0.0604038313, -0.00752527127, -0.0035125541, 0.00156992336,
  0.000179354407, -0.000131971668,
];

/** Φ(−z) for 0 ≤ z ≤ 15.5 in `tail`, e^(−z²/2) in `bell`. */
const TAIL = `
  const u = 1.0 / (z + 4.0);
  const v = 2.0 * z * u - 1.0;
  const bell = Math.exp(-0.5 * z * z);
  const tail = bell * u * ${polynomial('v', MILLS)};`;

const TANH = (x: string, result: string) => `
  const ${result}_y = 2.0 * Math.min(Math.abs(${x}), 10.0);
  ${EXPM1(`${result}_y`, `${result}_e`)}
  const ${result}_size = ${result}_e / (${result}_e + 2.0);
  const ${result} = ${x} < 0.0 ? -${result}_size : ${result}_size;`;

/** sin and cos of the remainder r of x by π/2, which is taken off in three parts; k says in which quarter x was. */
const TRIG = `
  const k = Math.floor(x * 0.6366197723675814 + 0.5);
  const r = ((x - k * 1.5703125) - k * 0.00048375129699707031) - k * 0.0000000754978995489188216;
  const q = k - 4.0 * Math.floor(k * 0.25);
  const s = r * r;
  const sine = r * ${polynomial('s', [1, -1 / 6, 1 / 120, -1 / 5040, 1 / 362880])};
  const cosine = ${polynomial('s', [1, -1 / 2, 1 / 24, -1 / 720, 1 / 40320, -1 / 3628800])};`;

const ROOT = Math.sqrt(2 / Math.PI);
const CUBE = 0.044715;
/** The argument of the tanh in the other form of gelu. */
const CUBIC = `const c = ${number(ROOT)} * x * (1.0 + ${number(CUBE)} * x * x);`;

/** Of float32. What looks at bits (isNaN, isFinite, sign of NaN) is raw WGSL. */
export const UNARY: Readonly<Partial<Record<UnaryKernel, string>>> = {
  neg: 'return -x;',
  abs: 'return Math.abs(x);',
  sign: 'return x > 0.0 ? 1.0 : (x < 0.0 ? -1.0 : x);',
  square: 'return x * x;',
  sqrt: 'return Math.sqrt(x);',
  reciprocal: 'return 1.0 / x;',
  expm1: `${EXPM1('x', 'e')} return e;`,
  log: `
    const s = (x - 1.0) / (x + 1.0);
    const near = ${logByS('s')};
    return Math.abs(x - 1.0) < 0.3 ? near : Math.log(x);`,
  log1p: `
    const s = x / (2.0 + x);
    const near = ${logByS('s')};
    return Math.abs(x) < 0.3 ? near : Math.log(1.0 + x);`,
  sin: `${TRIG} return q < 0.5 ? sine : (q < 1.5 ? cosine : (q < 2.5 ? -sine : -cosine));`,
  cos: `${TRIG} return q < 0.5 ? cosine : (q < 1.5 ? -sine : (q < 2.5 ? -cosine : sine));`,
  tanh: `${TANH('x', 'y')} return y;`,
  sigmoid: `
    const e = Math.exp(-Math.abs(x));
    return x >= 0.0 ? 1.0 / (1.0 + e) : e / (1.0 + e);`,
  erf: `
    const z = Math.min(Math.abs(x) * 1.4142135623730951, 15.5);
    ${TAIL}
    const far = x < 0.0 ? 2.0 * tail - 1.0 : 1.0 - 2.0 * tail;
    return Math.abs(x) < 0.5 ? x * ${polynomial('(x * x)', ERF)} : far;`,
  gelu: `
    const z = Math.min(Math.abs(x), 15.5);
    ${TAIL}
    const h = x * 0.7071067811865476;
    const near = x * (0.5 + 0.5 * h * ${polynomial('(h * h)', ERF)});
    const far = x < 0.0 ? -(z * tail) : x - z * tail;
    return Math.abs(x) < 0.5 ? near : far;`,
  geluTanh: `${CUBIC} ${TANH('c', 't')} return 0.5 * x * (1.0 + t);`,
  floor: 'return Math.floor(x);',
  ceil: 'return Math.ceil(x);',
  // Half to even.
  round: `
    const down = Math.floor(x);
    const part = x - down;
    const odd = down - 2.0 * Math.floor(down * 0.5);
    return part > 0.5 || (part == 0.5 && odd == 1.0) ? down + 1.0 : down;`,
  not: 'return x == 0.0 ? 1.0 : 0.0;',
};

export const UNARY_GRAD: Readonly<Record<UnaryGradKernel, string>> = {
  relu: 'return a > 0.0 ? gy : 0.0;',
  tanh: 'return gy * (1.0 - a * a);',
  sigmoid: 'return gy * a * (1.0 - a);',
  gelu: `
    const z = Math.min(Math.abs(a), 15.5);
    ${TAIL}
    const below = tail - z * bell * 0.3989422804014327;
    return gy * (a > 0.0 ? 1.0 - below : below);`,
  geluTanh: `
    const x = Math.max(-40.0, Math.min(40.0, a));
    ${CUBIC}
    ${TANH('c', 't')}
    return gy * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * ${number(ROOT)} * (1.0 + ${number(3 * CUBE)} * x * x));`,
};

/** Of float32; maximum, minimum and pow are raw WGSL, for NaN and negative bases. */
export const BINARY: Readonly<Partial<Record<BinaryKernel, string>>> = {
  add: 'return a + b;',
  sub: 'return a - b;',
  mul: 'return a * b;',
  div: 'return a / b;',
  eq: 'return a == b ? 1.0 : 0.0;',
  ne: 'return a != b ? 1.0 : 0.0;',
  lt: 'return a < b ? 1.0 : 0.0;',
  le: 'return a <= b ? 1.0 : 0.0;',
  gt: 'return a > b ? 1.0 : 0.0;',
  ge: 'return a >= b ? 1.0 : 0.0;',
  and: 'return a != 0.0 && b != 0.0 ? 1.0 : 0.0;',
  or: 'return a != 0.0 || b != 0.0 ? 1.0 : 0.0;',
};
export const WHERE = 'return c != 0.0 ? a : b;';
export const TO_BOOL = 'return x != 0.0 ? 1.0 : 0.0;';

/** Expressions in WGSL of int32 x, or of int32 a and b; results of comparisons are bool words. */
export const INT_UNARY: Readonly<Partial<Record<UnaryKernel, string>>> = {
  neg: '-x',
  abs: 'abs(x)',
  sign: 'sign(x)',
  square: 'x * x',
  relu: 'max(x, 0)',
  floor: 'x',
  ceil: 'x',
  round: 'x',
};
const yes = (condition: string) => `select(0.0, 1.0, ${condition})`;
export const INT_BINARY: Readonly<Partial<Record<BinaryKernel, string>>> = {
  add: 'a + b',
  sub: 'a - b',
  mul: 'a * b',
  pow: 'power(a, b)',
  maximum: 'max(a, b)',
  minimum: 'min(a, b)',
  eq: yes('a == b'),
  ne: yes('a != b'),
  lt: yes('a < b'),
  le: yes('a <= b'),
  gt: yes('a > b'),
  ge: yes('a >= b'),
  and: yes('a != 0 && b != 0'),
  or: yes('a != 0 || b != 0'),
};

/** Expressions in WGSL of float32 that look at bits. */
export const FLOAT_UNARY: Readonly<Partial<Record<UnaryKernel, string>>> = {
  exp: 'select(exp(x), x, isnan_(x))',
  relu: 'select(max(x, 0.0), x, isnan_(x))',
  isNaN: yes('isnan_(x)'),
  isFinite: yes('isfinite_(x)'),
};
export const FLOAT_BINARY: Readonly<Partial<Record<BinaryKernel, string>>> = {
  maximum: 'select(select(b, a, a > b), a, isnan_(a))',
  minimum: 'select(select(b, a, a < b), a, isnan_(a))',
  pow: 'power(a, b)',
};

/** aᵇ of int32 by squaring, modulo 2³². */
export const INT_POWER = `
fn power(a : i32, b : i32) -> i32 {
  var result = 1; var square = a; var rest = b;
  while (rest > 0) { if ((rest & 1) == 1) { result *= square; } square *= square; rest >>= 1u; }
  return result;
}`;
/** aᵇ of float32: by squaring for whole b to ±32, else by exp and log of |a|. */
export const FLOAT_POWER = `
fn power(a : f32, b : f32) -> f32 {
  if (b == 0.0 || a == 1.0) { return 1.0; }
  if (isnan_(a) || isnan_(b)) { return a + b; }
  let size = abs(b);
  let whole = floor(b) == b;
  if (whole && size <= 32.0) {
    var result = 1.0; var square = a; var rest = u32(size);
    while (rest > 0u) { if ((rest & 1u) == 1u) { result *= square; } square *= square; rest >>= 1u; }
    return select(result, 1.0 / result, b < 0.0);
  }
  if (size == 0.5 && a >= 0.0) { let root = sqrt(a); return select(root, 1.0 / root, b < 0.0); }
  if (a == -1.0 && !isfinite_(b)) { return 1.0; }
  let magnitude = exp2(b * log2(abs(a)));
  if (a >= 0.0) { return magnitude; }
  if (!whole) { return select(nan_(), magnitude, !isfinite_(a)); }
  return select(magnitude, -magnitude, size < 16777216.0 && floor(b * 0.5) * 2.0 != b);
}`;
