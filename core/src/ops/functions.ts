/** Logarithms to the bases 2 and 10, the tangent, and hyperbolic functions. */

import type { Tensor } from '../tensor.ts';
import {
  abs,
  add,
  cos,
  div,
  exp,
  expm1,
  gt,
  le,
  log,
  mul,
  round,
  sign,
  sin,
  square,
  sub,
  where,
} from './elementwise.ts';
import { defineMath, functionOf, NONE } from './math.ts';

/** y, or the nearest integer where that is at most two units in the last place off: powers of the base have integers. */
function snapped(y: Tensor): Tensor {
  const whole = round(y);
  return where(le(abs(sub(y, whole)), mul(abs(whole), y.dtype === 'float32' ? 2.4e-7 : 4.5e-16)), whole, y);
}

/** Where e^|x| could overflow though half of it does not. */
const isLarge = (x: Tensor) => gt(abs(x), x.dtype === 'float32' ? 80 : 700);
const halfOfLarge = (x: Tensor) => {
  const root = exp(mul(abs(x), 0.5));
  return mul(mul(root, 0.5), root);
};

const log2Op = defineMath(
  'log2',
  x => snapped(mul(log(x), Math.LOG2E)),
  (gy, node) => [div(gy, mul(node.input(0), Math.LN2))],
);
/** The logarithm to the base 2, exact at powers of 2; NaN below 0. Integers give float32. */
export const log2: (x: Tensor) => Tensor = functionOf('log2', log2Op);

const log10Op = defineMath(
  'log10',
  x => snapped(mul(log(x), Math.LOG10E)),
  (gy, node) => [div(gy, mul(node.input(0), Math.LN10))],
);
/** The logarithm to the base 10, exact at powers of 10; NaN below 0. Integers give float32. */
export const log10: (x: Tensor) => Tensor = functionOf('log10', log10Op);

const tanOp = defineMath(
  'tan',
  x => div(sin(x), cos(x)),
  (gy, node) => [mul(gy, add(square(node.output), 1))],
);
/** The tangent of radians. Integers give float32. */
export const tan: (x: Tensor) => Tensor = functionOf('tan', tanOp);

const sinhOp = defineMath(
  'sinh',
  x => {
    const t = expm1(abs(x));
    return mul(sign(x), where(isLarge(x), halfOfLarge(x), mul(add(t, div(t, add(t, 1))), 0.5)));
  },
  (gy, node) => [mul(gy, coshOp([node.input(0)], NONE))],
);
/** The hyperbolic sine (eˣ − e⁻ˣ) / 2, accurate near 0, and finite wherever its value is. Integers give float32. */
export const sinh: (x: Tensor) => Tensor = functionOf('sinh', sinhOp);

const coshOp = defineMath(
  'cosh',
  x => {
    const e = exp(abs(x));
    return where(isLarge(x), halfOfLarge(x), mul(add(e, div(1, e)), 0.5));
  },
  (gy, node) => [mul(gy, sinhOp([node.input(0)], NONE))],
);
/** The hyperbolic cosine (eˣ + e⁻ˣ) / 2, finite wherever its value is. Integers give float32. */
export const cosh: (x: Tensor) => Tensor = functionOf('cosh', coshOp);
