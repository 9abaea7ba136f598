/** The operations as methods of Tensor. Each is one line: the documentation is at the function it names. */

import { backward } from './autograd.ts';
import { to } from './devices.ts';
import type { DType } from './dtype.ts';
import { cast } from './ops/cast.ts';
import type { TensorLike } from './ops/convert.ts';
import * as elementwise from './ops/elementwise.ts';
import * as index from './ops/index.ts';
import * as inplace from './ops/inplace.ts';
import { matmul } from './ops/matmul.ts';
import type { Axes, ReduceOptions } from './ops/reduce.ts';
import * as reduce from './ops/reduce.ts';
import * as parts from './ops/slice.ts';
import * as view from './ops/view.ts';
import { Tensor } from './tensor.ts';

/** Lengths or axes, as one array or as separate arguments. */
type Numbers = readonly number[] | [readonly number[]];
const numbers = (args: Numbers): readonly number[] => (Array.isArray(args[0]) ? args[0] : (args as readonly number[]));

const methods = {
  // elementwise, of one tensor
  neg(this: Tensor): Tensor {
    return elementwise.neg(this);
  },
  abs(this: Tensor): Tensor {
    return elementwise.abs(this);
  },
  sign(this: Tensor): Tensor {
    return elementwise.sign(this);
  },
  floor(this: Tensor): Tensor {
    return elementwise.floor(this);
  },
  ceil(this: Tensor): Tensor {
    return elementwise.ceil(this);
  },
  round(this: Tensor): Tensor {
    return elementwise.round(this);
  },
  square(this: Tensor): Tensor {
    return elementwise.square(this);
  },
  reciprocal(this: Tensor): Tensor {
    return elementwise.reciprocal(this);
  },
  exp(this: Tensor): Tensor {
    return elementwise.exp(this);
  },
  expm1(this: Tensor): Tensor {
    return elementwise.expm1(this);
  },
  log(this: Tensor): Tensor {
    return elementwise.log(this);
  },
  log1p(this: Tensor): Tensor {
    return elementwise.log1p(this);
  },
  sqrt(this: Tensor): Tensor {
    return elementwise.sqrt(this);
  },
  sin(this: Tensor): Tensor {
    return elementwise.sin(this);
  },
  cos(this: Tensor): Tensor {
    return elementwise.cos(this);
  },
  tanh(this: Tensor): Tensor {
    return elementwise.tanh(this);
  },
  sigmoid(this: Tensor): Tensor {
    return elementwise.sigmoid(this);
  },
  relu(this: Tensor): Tensor {
    return elementwise.relu(this);
  },
  erf(this: Tensor): Tensor {
    return elementwise.erf(this);
  },
  gelu(this: Tensor, o?: { approximate?: 'none' | 'tanh' }): Tensor {
    return elementwise.gelu(this, o);
  },
  clamp(this: Tensor, min?: number, max?: number): Tensor {
    return elementwise.clamp(this, min, max);
  },
  isNaN(this: Tensor): Tensor {
    return elementwise.nan(this);
  },
  isFinite(this: Tensor): Tensor {
    return elementwise.finite(this);
  },
  logicalNot(this: Tensor): Tensor {
    return elementwise.logicalNot(this);
  },

  // elementwise, of two
  add(this: Tensor, other: TensorLike): Tensor {
    return elementwise.add(this, other);
  },
  sub(this: Tensor, other: TensorLike): Tensor {
    return elementwise.sub(this, other);
  },
  mul(this: Tensor, other: TensorLike): Tensor {
    return elementwise.mul(this, other);
  },
  div(this: Tensor, other: TensorLike): Tensor {
    return elementwise.div(this, other);
  },
  pow(this: Tensor, exponent: TensorLike): Tensor {
    return elementwise.pow(this, exponent);
  },
  maximum(this: Tensor, other: TensorLike): Tensor {
    return elementwise.maximum(this, other);
  },
  minimum(this: Tensor, other: TensorLike): Tensor {
    return elementwise.minimum(this, other);
  },
  eq(this: Tensor, other: TensorLike): Tensor {
    return elementwise.eq(this, other);
  },
  ne(this: Tensor, other: TensorLike): Tensor {
    return elementwise.ne(this, other);
  },
  lt(this: Tensor, other: TensorLike): Tensor {
    return elementwise.lt(this, other);
  },
  le(this: Tensor, other: TensorLike): Tensor {
    return elementwise.le(this, other);
  },
  gt(this: Tensor, other: TensorLike): Tensor {
    return elementwise.gt(this, other);
  },
  ge(this: Tensor, other: TensorLike): Tensor {
    return elementwise.ge(this, other);
  },
  logicalAnd(this: Tensor, other: TensorLike): Tensor {
    return elementwise.and(this, other);
  },
  logicalOr(this: Tensor, other: TensorLike): Tensor {
    return elementwise.or(this, other);
  },

  // products
  matmul(this: Tensor, other: Tensor): Tensor {
    return matmul(this, other);
  },

  // shape
  reshape(this: Tensor, ...shape: Numbers): Tensor {
    return view.reshape(this, numbers(shape));
  },
  permute(this: Tensor, ...axes: Numbers): Tensor {
    return view.permute(this, numbers(axes));
  },
  transpose(this: Tensor, a?: number, b?: number): Tensor {
    return view.transpose(this, a, b);
  },
  expand(this: Tensor, ...shape: Numbers): Tensor {
    return view.expand(this, numbers(shape));
  },
  squeeze(this: Tensor, axis?: number | readonly number[]): Tensor {
    return view.squeeze(this, axis);
  },
  unsqueeze(this: Tensor, axis: number): Tensor {
    return view.unsqueeze(this, axis);
  },
  flatten(this: Tensor, start?: number, end?: number): Tensor {
    return view.flatten(this, start, end);
  },
  contiguous(this: Tensor): Tensor {
    return view.contiguous(this);
  },
  slice(this: Tensor, ...ranges: parts.Range[]): Tensor {
    return parts.slice(this, ranges);
  },
  narrow(this: Tensor, axis: number, start: number, length: number): Tensor {
    return parts.narrow(this, axis, start, length);
  },
  pad(this: Tensor, pads: readonly (readonly [number, number])[], value?: number): Tensor {
    return parts.pad(this, pads, value);
  },

  // picking
  gather(this: Tensor, axis: number, indices: Tensor): Tensor {
    return index.gather(this, axis, indices);
  },
  indexSelect(this: Tensor, axis: number, indices: Tensor): Tensor {
    return index.indexSelect(this, axis, indices);
  },

  // reductions
  sum(this: Tensor, axis?: Axes, o?: ReduceOptions): Tensor {
    return reduce.sum(this, axis, o);
  },
  mean(this: Tensor, axis?: Axes, o?: ReduceOptions): Tensor {
    return reduce.mean(this, axis, o);
  },
  max(this: Tensor, axis?: Axes, o?: ReduceOptions): Tensor {
    return reduce.max(this, axis, o);
  },
  min(this: Tensor, axis?: Axes, o?: ReduceOptions): Tensor {
    return reduce.min(this, axis, o);
  },
  var(this: Tensor, axis?: Axes, o?: ReduceOptions & { correction?: number }): Tensor {
    return reduce.variance(this, axis, o);
  },
  norm(this: Tensor, axis?: Axes, o?: ReduceOptions): Tensor {
    return reduce.norm(this, axis, o);
  },
  argmax(this: Tensor, axis?: number): Tensor {
    return reduce.argmax(this, axis);
  },
  argmin(this: Tensor, axis?: number): Tensor {
    return reduce.argmin(this, axis);
  },
  any(this: Tensor, axis?: Axes, o?: ReduceOptions): Tensor {
    return reduce.any(this, axis, o);
  },
  all(this: Tensor, axis?: Axes, o?: ReduceOptions): Tensor {
    return reduce.all(this, axis, o);
  },
  softmax(this: Tensor, axis?: number): Tensor {
    return reduce.softmax(this, axis);
  },
  logSoftmax(this: Tensor, axis?: number): Tensor {
    return reduce.logSoftmax(this, axis);
  },

  // copies and conversions
  clone(this: Tensor): Tensor {
    return view.clone(this);
  },
  astype(this: Tensor, dtype: DType): Tensor {
    return cast(this, dtype);
  },
  to(this: Tensor, device: string): Tensor {
    return to(this, device);
  },
  /** The same values outside of the graph; memory is shared. */
  detach(this: Tensor): Tensor {
    return new Tensor(this.storage, this.shape, this.strides, this.offset);
  },

  // in place, and autograd
  copy_(this: Tensor, x: Tensor): Tensor {
    inplace.copyInto(this, x);
    return this;
  },
  /** this ← keep · this + alpha · x, with x broadcast, in one pass. */
  addScaled_(this: Tensor, x: Tensor, alpha: number, keep = 1): Tensor {
    inplace.addScaledInto(this, x, alpha, keep);
    return this;
  },
  /** this ← keep · this + value · x / d, with x and d broadcast; one pass without temporaries where all lie without gaps. */
  addcdiv_(this: Tensor, x: Tensor, d: Tensor, value: number, keep = 1): Tensor {
    inplace.addcdivInto(this, x, d, value, keep);
    return this;
  },
  scale_(this: Tensor, beta: number): Tensor {
    inplace.scaleInto(this, beta);
    return this;
  },
  backward(this: Tensor, gy?: Tensor): void {
    backward(this, gy);
  },
};

export type TensorMethods = typeof methods;

Object.assign(Tensor.prototype, methods);
