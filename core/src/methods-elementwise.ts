/** The elementwise operations as methods of Tensor. `methods.ts` has the others. */

import type { TensorLike } from './ops/convert.ts';
import * as elementwise from './ops/elementwise.ts';
import { type Tensor, TensorBase } from './tensor.ts';

export class ElementwiseMethods extends TensorBase {
  // --- elementwise, of one tensor: the shape stays; DTypeError for bool where a number is expected --------------------

  /** −x. */
  neg(this: Tensor): Tensor {
    return elementwise.neg(this);
  }

  /** |x|. The gradient at 0 is 0. */
  abs(this: Tensor): Tensor {
    return elementwise.abs(this);
  }

  /** −1, 0 or 1, in the same dtype. No gradient. */
  sign(this: Tensor): Tensor {
    return elementwise.sign(this);
  }

  /** The largest integer ≤ x, in the same dtype. No gradient. */
  floor(this: Tensor): Tensor {
    return elementwise.floor(this);
  }

  /** The smallest integer ≥ x, in the same dtype. No gradient. */
  ceil(this: Tensor): Tensor {
    return elementwise.ceil(this);
  }

  /** The nearest integer, half to even, in the same dtype. No gradient. */
  round(this: Tensor): Tensor {
    return elementwise.round(this);
  }

  /** x². */
  square(this: Tensor): Tensor {
    return elementwise.square(this);
  }

  /** 1 / x. Integers give float32. */
  reciprocal(this: Tensor): Tensor {
    return elementwise.reciprocal(this);
  }

  /** eˣ. Integers give float32. */
  exp(this: Tensor): Tensor {
    return elementwise.exp(this);
  }

  /** eˣ − 1, accurate near 0. Integers give float32. */
  expm1(this: Tensor): Tensor {
    return elementwise.expm1(this);
  }

  /** The natural logarithm; NaN below 0. Integers give float32. */
  log(this: Tensor): Tensor {
    return elementwise.log(this);
  }

  /** log(1 + x), accurate near 0. Integers give float32. */
  log1p(this: Tensor): Tensor {
    return elementwise.log1p(this);
  }

  /** √x; NaN below 0. Integers give float32. */
  sqrt(this: Tensor): Tensor {
    return elementwise.sqrt(this);
  }

  /** The sine of radians. Integers give float32. */
  sin(this: Tensor): Tensor {
    return elementwise.sin(this);
  }

  /** The cosine of radians. Integers give float32. */
  cos(this: Tensor): Tensor {
    return elementwise.cos(this);
  }

  /** The hyperbolic tangent. Integers give float32. */
  tanh(this: Tensor): Tensor {
    return elementwise.tanh(this);
  }

  /** 1 / (1 + e⁻ˣ). Integers give float32. */
  sigmoid(this: Tensor): Tensor {
    return elementwise.sigmoid(this);
  }

  /** max(x, 0), in the same dtype. The gradient at 0 is 0. */
  relu(this: Tensor): Tensor {
    return elementwise.relu(this);
  }

  /** The error function 2/√π ∫₀ˣ exp(−t²) dt. Integers give float32. */
  erf(this: Tensor): Tensor {
    return elementwise.erf(this);
  }

  /**
   * x Φ(x), the Gaussian error linear unit (Hendrycks & Gimpel 2016). `approximate` is 'none' (default, exact) or 'tanh'.
   * Integers give float32.
   */
  gelu(this: Tensor, o?: { approximate?: 'none' | 'tanh' }): Tensor {
    return elementwise.gelu(this, o);
  }

  /**
   * Limits x to [min, max], by default −∞ and ∞, in the same dtype. The gradient is 1 inside, borders included, and 0
   * outside. RangeError unless min ≤ max.
   */
  clamp(this: Tensor, min?: number, max?: number): Tensor {
    return elementwise.clamp(this, min, max);
  }

  /** Whether x is NaN; bool. */
  isNaN(this: Tensor): Tensor {
    return elementwise.nan(this);
  }

  /** Whether x is neither NaN nor infinite; bool. */
  isFinite(this: Tensor): Tensor {
    return elementwise.finite(this);
  }

  /** Whether x is 0; bool. */
  logicalNot(this: Tensor): Tensor {
    return elementwise.logicalNot(this);
  }

  // --- elementwise, of two: they broadcast, and give the common dtype unless noted ------------------------------------

  /** this + other. */
  add(this: Tensor, other: TensorLike): Tensor {
    return elementwise.add(this, other);
  }

  /** this − other. */
  sub(this: Tensor, other: TensorLike): Tensor {
    return elementwise.sub(this, other);
  }

  /** this · other, element by element; `matmul` is the product of matrices. */
  mul(this: Tensor, other: TensorLike): Tensor {
    return elementwise.mul(this, other);
  }

  /** this / other. Integers give float32. */
  div(this: Tensor, other: TensorLike): Tensor {
    return elementwise.div(this, other);
  }

  /** this to the power of `exponent`. NaN for a negative base and a fraction. */
  pow(this: Tensor, exponent: TensorLike): Tensor {
    return elementwise.pow(this, exponent);
  }

  /** The larger of both; NaN wins. Equal ones share the gradient. */
  maximum(this: Tensor, other: TensorLike): Tensor {
    return elementwise.maximum(this, other);
  }

  /** The smaller of both; NaN wins. Equal ones share the gradient. */
  minimum(this: Tensor, other: TensorLike): Tensor {
    return elementwise.minimum(this, other);
  }

  /** this = other; bool. */
  eq(this: Tensor, other: TensorLike): Tensor {
    return elementwise.eq(this, other);
  }

  /** this ≠ other; bool. */
  ne(this: Tensor, other: TensorLike): Tensor {
    return elementwise.ne(this, other);
  }

  /** this < other; bool. */
  lt(this: Tensor, other: TensorLike): Tensor {
    return elementwise.lt(this, other);
  }

  /** this ≤ other; bool. */
  le(this: Tensor, other: TensorLike): Tensor {
    return elementwise.le(this, other);
  }

  /** this > other; bool. */
  gt(this: Tensor, other: TensorLike): Tensor {
    return elementwise.gt(this, other);
  }

  /** this ≥ other; bool. */
  ge(this: Tensor, other: TensorLike): Tensor {
    return elementwise.ge(this, other);
  }

  /** Whether both are not 0; bool. */
  logicalAnd(this: Tensor, other: TensorLike): Tensor {
    return elementwise.and(this, other);
  }

  /** Whether one of both is not 0; bool. */
  logicalOr(this: Tensor, other: TensorLike): Tensor {
    return elementwise.or(this, other);
  }
}
