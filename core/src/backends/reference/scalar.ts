/** The scalar functions behind the elementwise kernels of the reference backend. */

import { powerError } from '../../errors.ts';
import type { BinaryKernel, UnaryGradKernel, UnaryKernel } from '../backend.ts';

/**
 * The error function to double precision. |x| < 3: the series of Abramowitz & Stegun 7.1.6, all terms positive.
 * Beyond: 1 − erfc by the continued fraction 7.1.14, evaluated by Lentz's method.
 */
export function erf(x: number): number {
  if (Number.isNaN(x)) return x;
  const a = Math.abs(x);
  if (a > 6) return Math.sign(x);
  if (a < 3) {
    let term = a;
    let sum = a;
    for (let n = 1; term > sum * 1e-17; n++) {
      term *= (2 * a * a) / (2 * n + 1);
      sum += term;
    }
    const value = (2 / Math.sqrt(Math.PI)) * Math.exp(-a * a) * sum;
    return x < 0 ? -value : value === 0 ? x : value;
  }
  let fraction = a;
  for (let k = 60; k > 0; k--) fraction = a + k / 2 / fraction;
  return Math.sign(x) * (1 - Math.exp(-a * a) / (Math.sqrt(Math.PI) * fraction));
}

const ROOT = Math.sqrt(2 / Math.PI);
const cubic = (x: number) => ROOT * (x + 0.044715 * x ** 3);
/** The cumulative normal distribution Φ. */
const phi = (x: number) => 0.5 * (1 + erf(x * Math.SQRT1_2));
/** x by its density, which beats every x from 40 on. */
const bell = (x: number) => (Math.abs(x) > 40 ? 0 : (x * Math.exp(-0.5 * x * x)) / Math.sqrt(2 * Math.PI));

/** The gradient of a function from that of its result, and its argument (gelu, geluTanh) or result. */
export const UNARY_GRAD: Record<UnaryGradKernel, (gy: number, a: number) => number> = {
  relu: (gy, y) => (y > 0 ? gy : 0),
  tanh: (gy, y) => gy * (1 - y * y),
  sigmoid: (gy, y) => gy * (y * (1 - y)),
  gelu: (gy, x) => gy * (phi(x) + bell(x)),
  geluTanh(gy, x) {
    if (Math.abs(x) > 40) return x > 0 ? gy : 0 * gy;
    const t = Math.tanh(cubic(x));
    return gy * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * ROOT * (1 + 3 * 0.044715 * x * x));
  },
};

/** Half to even, as NumPy and PyTorch round. */
function roundHalfEven(x: number): number {
  const r = Math.round(x);
  return Math.abs(x % 1) === 0.5 && r % 2 !== 0 ? r - 1 : r;
}

export const UNARY: Record<UnaryKernel, (x: number) => number> = {
  neg: x => -x,
  abs: Math.abs,
  sign: Math.sign,
  exp: Math.exp,
  expm1: Math.expm1,
  log: Math.log,
  log1p: Math.log1p,
  sqrt: Math.sqrt,
  square: x => x * x,
  reciprocal: x => 1 / x,
  sin: Math.sin,
  cos: Math.cos,
  tanh: Math.tanh,
  // Both branches stay finite: exp is only ever taken of a number ≤ 0.
  sigmoid: x => {
    if (x >= 0) return 1 / (1 + Math.exp(-x));
    const e = Math.exp(x);
    return e / (1 + e);
  },
  relu: x => Math.max(x, 0),
  erf,
  gelu: x => x * phi(x),
  geluTanh: x => 0.5 * x * (1 + Math.tanh(cubic(x))),
  floor: Math.floor,
  ceil: Math.ceil,
  round: roundHalfEven,
  not: x => (x === 0 ? 1 : 0),
  isFinite: x => (Number.isFinite(x) ? 1 : 0),
  isNaN: x => (Number.isNaN(x) ? 1 : 0),
};

/** a^b modulo 2³², by squaring. */
function powInt32(a: number, b: number): number {
  if (b < 0) throw powerError(b);
  let result = 1;
  for (let square = a, rest = b; rest > 0; rest >>>= 1, square = Math.imul(square, square))
    if (rest & 1) result = Math.imul(result, square);
  return result;
}

/** int32 results wrap at 32 bits; these would lose their low bits in float64 first. */
export const INT32: {
  unary: Partial<Record<UnaryKernel, (x: number) => number>>;
  binary: Partial<Record<BinaryKernel, (a: number, b: number) => number>>;
} = { unary: { square: x => Math.imul(x, x) }, binary: { mul: Math.imul, pow: powInt32 } };

export const BINARY: Record<BinaryKernel, (a: number, b: number) => number> = {
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  // IEEE pow: 1 to any power is 1, which Math.pow denies for NaN and ±Infinity.
  pow: (a, b) => (a === 1 || (a === -1 && Math.abs(b) === Infinity) ? 1 : a ** b),
  maximum: (a, b) => (a > b || Number.isNaN(a) ? a : b),
  minimum: (a, b) => (a < b || Number.isNaN(a) ? a : b),
  eq: (a, b) => (a === b ? 1 : 0),
  ne: (a, b) => (a !== b ? 1 : 0),
  lt: (a, b) => (a < b ? 1 : 0),
  le: (a, b) => (a <= b ? 1 : 0),
  gt: (a, b) => (a > b ? 1 : 0),
  ge: (a, b) => (a >= b ? 1 : 0),
  and: (a, b) => (a !== 0 && b !== 0 ? 1 : 0),
  or: (a, b) => (a !== 0 || b !== 0 ? 1 : 0),
};
