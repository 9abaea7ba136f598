/**
 * The elementwise functions. Those of float32 are bodies of functions in JavaScript, which gpu.js translates: beside `Math` they
 * may call what translate.ts lists.
 */

import type { BinaryKernel, UnaryGradKernel, UnaryKernel } from '@otimes/core';

/** Of float32 x. */
export const UNARY: Readonly<Record<UnaryKernel, string>> = {
  neg: 'return -x;',
  abs: 'return Math.abs(x);',
  sign: 'return Math.sign(x);',
  square: 'return x * x;',
  sqrt: 'return Math.sqrt(x);',
  reciprocal: 'return 1.0 / x;',
  exp: 'return Math.exp(x);',
  expm1: 'return Math.expm1(x);',
  log: 'return Math.log(x);',
  log1p: 'return Math.log1p(x);',
  sin: 'return Math.sin(x);',
  cos: 'return Math.cos(x);',
  tanh: 'return Math.tanh(x);',
  sigmoid: 'return sigmoid(x);',
  relu: 'return relu(x);',
  erf: 'return erf(x);',
  gelu: 'return gelu(x);',
  geluTanh: 'return geluTanh(x);',
  floor: 'return Math.floor(x);',
  ceil: 'return Math.ceil(x);',
  round: 'return roundEven(x);',
  not: 'return isZero(x) ? 1.0 : 0.0;',
  isNaN: 'return isNaN(x) ? 1.0 : 0.0;',
  isFinite: 'return isFinite(x) ? 1.0 : 0.0;',
};

/** Of the gradient gy, and of the result or the argument a, as core has it. */
export const UNARY_GRAD: Readonly<Record<UnaryGradKernel, string>> = {
  relu: 'return gt(a, 0.0) ? gy : 0.0;',
  tanh: 'return gy * (1.0 - a * a);',
  sigmoid: 'return gy * (a * (1.0 - a));',
  gelu: 'return gy * geluSlope(a);',
  geluTanh: 'return gy * geluTanhSlope(a);',
};

const answer = (condition: string) => `return ${condition} ? 1.0 : 0.0;`;

/** Of float32 a and b. */
export const BINARY: Readonly<Record<BinaryKernel, string>> = {
  add: 'return a + b;',
  sub: 'return a - b;',
  mul: 'return a * b;',
  div: 'return a / b;',
  pow: 'return power(a, b);',
  maximum: 'return Math.max(a, b);',
  minimum: 'return Math.min(a, b);',
  eq: answer('eq(a, b)'),
  ne: answer('ne(a, b)'),
  lt: answer('lt(a, b)'),
  le: answer('le(a, b)'),
  gt: answer('gt(a, b)'),
  ge: answer('ge(a, b)'),
  and: 'return isZero(a) || isZero(b) ? 0.0 : 1.0;',
  or: 'return isZero(a) && isZero(b) ? 0.0 : 1.0;',
};
export const WHERE = 'return c != 0.0 ? a : b;';

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

/** aᵇ of int32 by squaring, modulo 2³². */
export const INT_POWER = `
fn power(a : i32, b : i32) -> i32 {
  var result = 1; var square = a; var rest = b;
  while (rest > 0) { if ((rest & 1) == 1) { result *= square; } square *= square; rest >>= 1u; }
  return result;
}`;
