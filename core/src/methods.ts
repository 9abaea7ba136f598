/**
 * Tensor: what programs hold, with every operation as a method. It stands above the operations, which know `TensorBase`, the
 * class without them.
 */

import { backward } from './autograd.ts';
import { anInteger, checkArgument, checkNone } from './check.ts';
import type { DType } from './dtype.ts';
import { describe, ShapeError } from './errors.ts';
import { ElementwiseMethods } from './methods-elementwise.ts';
import { cast } from './ops/cast.ts';
import * as inplace from './ops/inplace.ts';
import { matmul } from './ops/matmul.ts';
import type { Axes, ReduceOptions } from './ops/reduce.ts';
import * as reduce from './ops/reduce.ts';
import * as select from './ops/select.ts';
import * as parts from './ops/slice.ts';
import { to, toCpu } from './ops/transfer.ts';
import * as view from './ops/view.ts';
import { TensorBase } from './tensor.ts';

/** Lengths or axes, as one array or as separate arguments. */
type Numbers = readonly number[] | [readonly number[]];
const numbers = (args: Numbers): readonly number[] => (Array.isArray(args[0]) ? args[0] : (args as readonly number[]));

/** See `T`; a getter has no parameter `this` that could say Tensor. */
function turned(x: TensorBase): Tensor {
  if (x.rank !== 2) throw new ShapeError(`T: expected a matrix, got ${describe(x)}; permute takes other ranks`);
  return view.transpose(x as Tensor);
}

/** The operations as methods. What `Tensor` below is made of; there are no objects of these classes themselves. */
class Methods extends ElementwiseMethods {
  // --- products -------------------------------------------------------------------------------------------------------

  /**
   * The matrix product: [..., M, K] · [..., K, N] → [..., M, N]. Leading axes broadcast. A vector counts as a row on the
   * left and as a column on the right, and its axis is gone from the result.
   */
  matmul(this: Tensor, other: Tensor): Tensor {
    return matmul(this, other);
  }

  // --- shape ----------------------------------------------------------------------------------------------------------

  /**
   * The same elements in row-major order with another shape; one length may be −1, which is what is left. A view wherever
   * strides allow it.
   */
  reshape(this: Tensor, ...shape: Numbers): Tensor {
    return view.reshape(this, numbers(shape));
  }

  /** A view whose axis i is axis `axes[i]` of this. */
  permute(this: Tensor, ...axes: Numbers): Tensor {
    return view.permute(this, numbers(axes));
  }

  /** A view with two axes swapped, by default the last two. */
  transpose(this: Tensor, a?: number, b?: number): Tensor {
    return view.transpose(this, a, b);
  }

  /** A matrix as a view with rows and columns swapped. ShapeError for any other rank, where `transpose` and `permute` say which axes. */
  get T(): Tensor {
    return turned(this);
  }

  /** A view with axes of length 1, and new leading ones, repeated to `shape`; −1 keeps a length. */
  expand(this: Tensor, ...shape: Numbers): Tensor {
    return view.expand(this, numbers(shape));
  }

  /** A view without the axes of length 1, or without those named. ShapeError if one of them is longer. */
  squeeze(this: Tensor, axis?: number | readonly number[]): Tensor {
    return view.squeeze(this, axis);
  }

  /** A view with a new axis of length 1 at `axis`; −1 is behind the last. */
  unsqueeze(this: Tensor, axis: number): Tensor {
    return view.unsqueeze(this, axis);
  }

  /** Axes `start` … `end` merged into one; by default all of them. A scalar becomes [1]. */
  flatten(this: Tensor, start?: number, end?: number): Tensor {
    return view.flatten(this, start, end);
  }

  /** This where its elements lie in row-major order without gaps, else a copy that does. */
  contiguous(this: Tensor): Tensor {
    return view.contiguous(this);
  }

  /**
   * A view, `x[start:stop:step, …]` with Python's rules: a range `[start, stop, step]`, an index that drops the axis, or
   * null for all, for each leading axis. ShapeError for an index out of range or a step of 0.
   */
  slice(this: Tensor, ...ranges: parts.Range[]): Tensor {
    return parts.slice(this, ranges);
  }

  /**
   * A view without the first axis, at this index of it; further indices are of the axes that follow. Negative ones count from the
   * end. ShapeError for one out of range.
   */
  at(this: Tensor, index: number, ...more: number[]): Tensor {
    const all = [index, ...more];
    for (const one of all) checkArgument('at', 'index', one, anInteger);
    return parts.slice(this, all, 'at');
  }

  /** The views `at(0)`, `at(1)`, … along the first axis, as for loops, spread and destructuring take them. ShapeError for a scalar. */
  *[Symbol.iterator](this: Tensor): Generator<Tensor, void> {
    if (this.rank === 0) throw new ShapeError(`iteration: expected at least one axis, got ${describe(this)}`);
    for (let i = 0; i < this.shape[0]!; i++) yield this.at(i);
  }

  /** A view of `length` slices along `axis` from `start` on. */
  narrow(this: Tensor, axis: number, start: number, length: number): Tensor {
    return parts.narrow(this, axis, start, length);
  }

  /** Surrounded by `value` (default 0): `pads[i]` = [before, after] for axis i; missing trailing axes get none. */
  pad(this: Tensor, pads: readonly (readonly [number, number])[], value?: number): Tensor {
    return parts.pad(this, pads, value);
  }

  // --- picking --------------------------------------------------------------------------------------------------------

  /**
   * out[…, i, …] = this[…, indices[…, i, …], …] along `axis`. `indices` (int32) agree in rank and fit elsewhere.
   * RangeError for an index below 0 or beyond the axis.
   */
  gather(this: Tensor, axis: number, indices: Tensor): Tensor {
    return select.gather(this, axis, indices);
  }

  /** The slices along `axis` that the int32 vector `indices` names, in its order. RangeError for one out of range. */
  indexSelect(this: Tensor, axis: number, indices: Tensor): Tensor {
    return select.indexSelect(this, axis, indices);
  }

  // --- reductions: over `axis`, one or several, all by default; `keepdim` (default false) leaves them as length 1 -------

  /** The sum over `axis` (all by default), accumulated in float64 on the CPU. Booleans count as 0 and 1, in int32. */
  sum(this: Tensor, axis?: Axes, o?: ReduceOptions): Tensor {
    return reduce.sum(this, axis, o);
  }

  /** The arithmetic mean over `axis` (all by default); NaN over an empty one. Integers give float32. */
  mean(this: Tensor, axis?: Axes, o?: ReduceOptions): Tensor {
    return reduce.mean(this, axis, o);
  }

  /** The largest values over `axis` (all by default); NaN wins. Equal ones share the gradient. */
  max(this: Tensor, axis?: Axes, o?: ReduceOptions): Tensor {
    return reduce.max(this, axis, o);
  }

  /** The smallest values over `axis` (all by default); NaN wins. Equal ones share the gradient. */
  min(this: Tensor, axis?: Axes, o?: ReduceOptions): Tensor {
    return reduce.min(this, axis, o);
  }

  /** Σ (x − mean)² / (n − correction) over `axis` (all by default); `correction` defaults to 1, as in PyTorch. */
  var(this: Tensor, axis?: Axes, o?: ReduceOptions & { correction?: number }): Tensor {
    return reduce.variance(this, axis, o);
  }

  /** The Euclidean norm √Σx² over `axis` (all by default). Its gradient at 0 is 0. Integers give float32. */
  norm(this: Tensor, axis?: Axes, o?: ReduceOptions): Tensor {
    return reduce.norm(this, axis, o);
  }

  /** The int32 index of the first largest element along `axis`, or in row-major order of all. NaN counts as largest. */
  argmax(this: Tensor, axis?: number, o?: ReduceOptions): Tensor {
    return reduce.argmax(this, axis, o);
  }

  /** The int32 index of the first smallest element along `axis`, or in row-major order of all. NaN counts as smallest. */
  argmin(this: Tensor, axis?: number, o?: ReduceOptions): Tensor {
    return reduce.argmin(this, axis, o);
  }

  /** Whether any element over `axis` (all by default) is not 0; bool. */
  any(this: Tensor, axis?: Axes, o?: ReduceOptions): Tensor {
    return reduce.any(this, axis, o);
  }

  /** Whether all elements over `axis` (all by default) are not 0; bool. */
  all(this: Tensor, axis?: Axes, o?: ReduceOptions): Tensor {
    return reduce.all(this, axis, o);
  }

  /** The sums of the elements up to each one along `axis`, as NumPy's cumsum. Booleans count as 0 and 1. */
  cumsum(this: Tensor, axis: number): Tensor {
    return reduce.cumsum(this, axis);
  }

  /** exp(x) / Σ exp(x) along `axis` (default the last), computed without overflow. Floating tensors only. */
  softmax(this: Tensor, axis?: number): Tensor {
    return reduce.softmax(this, axis);
  }

  /** log softmax(x) along `axis` (default the last), computed without overflow. Floating tensors only. */
  logSoftmax(this: Tensor, axis?: number): Tensor {
    return reduce.logSoftmax(this, axis);
  }

  // --- copies and conversions -----------------------------------------------------------------------------------------

  /** A contiguous copy, through which gradients flow. */
  clone(this: Tensor): Tensor {
    return view.clone(this);
  }

  /** This in another dtype; itself if it has it. A fraction loses its part behind the point in int32; bool is x ≠ 0. */
  astype(this: Tensor, dtype: DType): Tensor {
    return cast(this, dtype);
  }

  /**
   * This on another device; itself if it is there. An Error that lists the devices if there is none of that name. A TypeError if
   * this device is read with await: there `await x.cpu()` is a copy.
   */
  to(this: Tensor, device: string): Tensor {
    return to(this, device);
  }

  /** A copy on 'cpu', outside of the graph, from every device. Rejects as `data` does. */
  async cpu(this: Tensor, ...none: []): Promise<Tensor> {
    checkNone('cpu', none, "to('…') moves to other devices");
    return toCpu(this);
  }

  /** The same values outside of the graph; memory is shared. */
  detach(this: Tensor): Tensor {
    return new Tensor(this.storage, this.shape, this.strides, this.offset);
  }

  // --- in place: unrecorded, so on tensors without gradients or inside `noGrad`, else a GraphError -----------------------

  /** this ← x, converted to this dtype and broadcast to this shape. Returns this. */
  copy_(this: Tensor, x: Tensor): Tensor {
    inplace.copyInto(this, x);
    return this;
  }

  /** this ← keep · this + alpha · x, with x broadcast, in one pass; `keep` defaults to 1. Floating. Returns this. */
  addScaled_(this: Tensor, x: Tensor, alpha: number, keep = 1): Tensor {
    inplace.addScaledInto(this, x, alpha, keep);
    return this;
  }

  /**
   * this ← keep · this + value · x / d, with x and d broadcast; `keep` defaults to 1. One pass without temporaries where
   * all lie without gaps. Floating. Returns this.
   */
  addcdiv_(this: Tensor, x: Tensor, d: Tensor, value: number, keep = 1): Tensor {
    inplace.addcdivInto(this, x, d, value, keep);
    return this;
  }

  /** this ← beta · this. Floating. Returns this. */
  scale_(this: Tensor, beta: number): Tensor {
    inplace.scaleInto(this, beta);
    return this;
  }

  // --- autograd -------------------------------------------------------------------------------------------------------

  /**
   * Adds the gradient of this to `.grad` of every leaf it depends on, and frees the graph. `gy`, the gradient of what is
   * differentiated by this, may be left out for a scalar. GraphError if nothing here requires a gradient.
   */
  backward(this: Tensor, gy?: Tensor): void {
    backward(this, gy);
  }
}

/**
 * The class of all tensors, with the methods in its prototype. It is the result of this call, so whoever can make a tensor from
 * nothing has made it, and no bundler can drop the methods. A class that extends TensorBase would cost 16 ns a tensor.
 */
function withMethods(): TensorClass {
  for (const { prototype } of [Methods, ElementwiseMethods])
    for (const name of Reflect.ownKeys(prototype))
      if (name !== 'constructor')
        Object.defineProperty(TensorBase.prototype, name, Reflect.getOwnPropertyDescriptor(prototype, name)!);
  return TensorBase as TensorClass;
}

/**
 * An array of numbers of one dtype, any number of axes, on one device; the object that gradients flow to and through.
 *
 * `tensor`, `zeros`, `randn` and the like make one. Operands broadcast and promote (bool < int32 < float32 < float64) as
 * in NumPy; numbers and nested arrays may stand beside a tensor. Errors are ShapeError and DTypeError unless noted.
 */
export interface Tensor extends Methods {}

/** A class whose instances have the methods that a program adds by `@otimes/core/methods`, too. */
interface TensorClass {
  new (...x: ConstructorParameters<typeof TensorBase>): Tensor;
  readonly prototype: Tensor;
}

export const Tensor: TensorClass = withMethods();
