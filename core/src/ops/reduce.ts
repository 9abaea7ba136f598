/** Reductions over axes, and softmax. */

import type { ReduceKernel } from '../backends/backend.ts';
import { aBoolean, aNumber, checkOptions } from '../check.ts';
import { widestFloat } from '../device.ts';
import type { DType } from '../dtype.ts';
import { isFloat, toFloat } from '../dtype.ts';
import { DTypeError, describe, ShapeError } from '../errors.ts';
import { type ComputeSpec, defineOp, notDifferentiable, type Op } from '../op.ts';
import { normalizeAxes, normalizeAxis, reducedShape, type Shape, sameShape } from '../shape.ts';
import type { Tensor } from '../tensor.ts';
import { cast } from './cast.ts';
import { div, eq, exp, mul, neg, square, sub, where } from './elementwise.ts';
import { slice } from './slice.ts';
import { expand, flatten, reshape } from './view.ts';

/** Axes to reduce; all of them if undefined. Negative ones count from the end. */
export type Axes = number | readonly number[] | undefined;

/** `keepdim` (default false) leaves reduced axes with length 1. */
export type ReduceOptions = { keepdim?: boolean };

type ReduceAttrs = { readonly axes: readonly number[]; readonly keepdim: boolean };

/** `x` reduced over `axes` with those as length 1, so that it broadcasts against the original. */
const kept = (x: Tensor, shape: Shape, { axes }: ReduceAttrs) => reshape(x, reducedShape(shape, axes, true));

/** An operation that is one reduction of the backend. */
const defineReduction = (
  name: ReduceKernel,
  result: (dtype: DType) => DType,
  backward: ComputeSpec<ReduceAttrs>['backward'],
  check?: (x: Tensor, axes: readonly number[]) => void,
): Op<ReduceAttrs> =>
  defineOp<ReduceAttrs>({
    name,
    shape([x], { axes, keepdim }) {
      check?.(x!, axes);
      return { shape: reducedShape(x!.shape, axes, keepdim), dtype: result(x!.dtype) };
    },
    forward: (backend, [x], out, { axes }) => backend.reduce(name, x!, axes, out),
    backward,
  });

const sumOp = defineReduction(
  'sum',
  dtype => (dtype === 'bool' ? 'int32' : dtype),
  (gy, { inputs, attrs }) => [expand(kept(gy, inputs[0]!.shape, attrs), inputs[0]!.shape)],
);

/**
 * The sum over `axis`, accumulated in float64 on the CPU. Booleans count as 0 and 1.
 *
 * NOTE: what is summed has been rounded to its dtype before: `x.square().sum()` overflows where a square does, which `norm`
 * does not.
 */
export function sum(x: Tensor, axis?: Axes, o?: ReduceOptions): Tensor {
  return sumOp([x], reductionOf('sum', x, axis, o));
}

const KEEPDIM = { keepdim: aBoolean };

function reductionOf(op: string, x: Tensor, axis: Axes, o: ReduceOptions | undefined): ReduceAttrs {
  checkOptions(op, o, KEEPDIM);
  return { axes: normalizeAxes(op, axis, x.rank), keepdim: o?.keepdim ?? false };
}

/** `x` summed down to `shape`, which broadcasts to the shape of `x`: the gradient of broadcasting. */
export function sumTo(x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x;
  const lead = x.rank - shape.length;
  const axes: number[] = [];
  for (let i = 0; i < x.rank; i++) if (i < lead || (shape[i - lead] === 1 && x.shape[i] !== 1)) axes.push(i);
  return reshape(axes.length === 0 ? x : sumOp([x], { axes, keepdim: false }), shape);
}

/** The number of elements that one result is made of. */
function countOf(shape: Shape, axes: readonly number[]): number {
  return axes.reduce((n, axis) => n * shape[axis]!, 1);
}

const meanOp = defineReduction('mean', toFloat, (gy, { inputs, attrs }) => {
  const { shape } = inputs[0]!;
  return [expand(kept(div(gy, countOf(shape, attrs.axes)), shape, attrs), shape)];
});

/** The arithmetic mean over `axis`, in range wherever the elements are; NaN over an empty one. */
export function mean(x: Tensor, axis?: Axes, o?: ReduceOptions): Tensor {
  return meanOp([x.dtype === 'bool' ? cast(x, 'float32') : x], reductionOf('mean', x, axis, o));
}

/** `x` less its mean over `axes`. Twice, because the mean is rounded: that of the rest is what the first lacks. */
export function centred(x: Tensor, axes: Axes): Tensor {
  const rest = sub(x, mean(x, axes, { keepdim: true }));
  return sub(rest, mean(rest, axes, { keepdim: true }));
}

/**
 * The variance over `axis`: Σ (x − mean)² / (n − correction). `correction` defaults to 1, the unbiased estimate, as in
 * PyTorch.
 */
export function variance(x: Tensor, axis?: Axes, o: ReduceOptions & { correction?: number } = {}): Tensor {
  checkOptions('var', o, { ...KEEPDIM, correction: aNumber });
  const { correction = 1, ...keep } = o;
  const count = countOf(x.shape, normalizeAxes('var', axis, x.rank));
  // float32 holds no difference of integers that it does not hold.
  const floating = cast(x, x.dtype === 'int32' ? widestFloat(x.storage.backend) : toFloat(x.dtype));
  const result = div(sum(square(centred(floating, axis)), axis, keep), Math.max(0, count - correction));
  return cast(result, toFloat(x.dtype));
}

const normOp = defineReduction('norm', toFloat, (gy, node) => {
  const x = node.input(0);
  const zero = eq(node.output, 0);
  const [length, g] = [where(zero, 1, node.output), where(zero, 0, gy)].map(t => kept(t, x.shape, node.attrs));
  return [mul(div(x, length!), g!)];
});

/**
 * The Euclidean norm √Σx² over `axis`, in range wherever the result is: squares are float64, and those of float64 relative
 * to the largest element where they have to be. Its gradient at 0 is 0.
 */
export function norm(x: Tensor, axis?: Axes, o?: ReduceOptions): Tensor {
  return normOp([cast(x, toFloat(x.dtype))], reductionOf('norm', x, axis, o));
}

function defineExtremum(name: 'max' | 'min') {
  const op = defineReduction(
    name,
    dtype => dtype,
    (gy, node) => {
      const x = node.input(0);
      const chosen = cast(eq(x, kept(node.output, x.shape, node.attrs)), gy.dtype);
      const shares = div(chosen, sum(chosen, [...node.attrs.axes], { keepdim: true }));
      return [mul(shares, kept(gy, x.shape, node.attrs))];
    },
    (x, axes) => {
      if (axes.some(axis => x.shape[axis] === 0))
        throw new ShapeError(`${name}: no elements along a reduced axis of ${describe(x)}`);
    },
  );
  return (x: Tensor, axis?: Axes, o?: ReduceOptions): Tensor => op([x], reductionOf(name, x, axis, o));
}

/** The largest values over `axis`; NaN wins. Equal largest elements share the gradient evenly. */
export const max = defineExtremum('max');
/** The smallest values over `axis`; NaN wins. Equal smallest elements share the gradient evenly. */
export const min = defineExtremum('min');

function defineArg(name: 'argmax' | 'argmin') {
  const op = defineOp<number>({
    name,
    shape([x], axis) {
      if (x!.shape[axis] === 0) throw new ShapeError(`${name}: no elements along axis ${axis} of ${describe(x!)}`);
      return { shape: x!.shape.filter((_, i) => i !== axis), dtype: 'int32' };
    },
    forward: (backend, [x], out, axis) => backend.argReduce(name, x!, axis, out),
    backward: notDifferentiable,
  });
  return (x: Tensor, axis?: number, o?: ReduceOptions): Tensor => {
    const { axes, keepdim } = reductionOf(name, x, axis, o);
    const y = axis === undefined ? op([flatten(x)], 0) : op([x], normalizeAxis(name, axis, x.rank));
    return keepdim ? reshape(y, reducedShape(x.shape, axes, true)) : y;
  };
}

/** The int32 index of the first largest element along `axis`, or in row-major order of all. NaN counts as largest. */
export const argmax = defineArg('argmax');
/** The int32 index of the first smallest element along `axis`, or in row-major order of all. NaN counts as smallest. */
export const argmin = defineArg('argmin');

/** True where any (all) of the elements over `axis` are not 0. */
export function any(x: Tensor, axis?: Axes, o?: ReduceOptions): Tensor {
  return cast(sumOp([cast(x, 'bool')], reductionOf('any', x, axis, o)), 'bool');
}

export function all(x: Tensor, axis?: Axes, o?: ReduceOptions): Tensor {
  return eq(
    sumOp([cast(x, 'bool')], reductionOf('all', x, axis, o)),
    countOf(x.shape, normalizeAxes('all', axis, x.rank)),
  );
}

const cumsumOp: Op<number> = defineOp<number>({
  name: 'cumsum',
  shape: ([x]) => ({ shape: x!.shape, dtype: x!.dtype === 'bool' ? 'int32' : x!.dtype }),
  forward: (backend, [x], out, axis) => backend.cumsum(x!, axis, out),
  // Each element is part of all sums from its own on.
  backward: (gy, { attrs: axis }) => [reversed(cumsumOp([reversed(gy, axis)], axis), axis)],
});

/** `x` from the end to the beginning of an axis. */
const reversed = (x: Tensor, axis: number) => slice(x, [...x.shape.slice(0, axis).map(() => null), [null, null, -1]]);

/** Sums of the elements up to each one along `axis`. Booleans count as 0 and 1. */
export function cumsum(x: Tensor, axis: number): Tensor {
  return cumsumOp([x], normalizeAxis('cumsum', axis, x.rank));
}

function checkFloat(name: string, x: Tensor): void {
  if (!isFloat(x.dtype)) throw new DTypeError(`${name}: expected a floating tensor, got ${describe(x)}`);
}

const softmaxOp = defineOp<number>({
  name: 'softmax',
  shape: ([x]) => ({ shape: x!.shape, dtype: x!.dtype }),
  forward: (backend, [x], out, axis) => backend.softmax(x!, axis, out),
  backward: (gy, node) => [softmaxGrad([gy, node.output], node.attrs)],
});

/** Bilinear in gy and quadratic in y; the gradient by gy is the same map again. */
const softmaxGrad: Op<number> = defineOp<number>({
  name: 'softmaxGrad',
  shape: ([, y]) => y!,
  forward: (backend, [gy, y], out, axis) => backend.softmaxGrad(gy!, y!, axis, out),
  backward(ggx, node) {
    const [gy, y] = [node.input(0), node.input(1)];
    const dot = (t: Tensor) => sum(t, node.attrs, { keepdim: true });
    return [
      node.needs(0) ? softmaxGrad([ggx, y], node.attrs) : null,
      node.needs(1) ? sub(mul(ggx, sub(gy, dot(mul(gy, y)))), mul(gy, dot(mul(ggx, y)))) : null,
    ];
  },
});

const logSoftmaxOp = defineOp<number>({
  name: 'logSoftmax',
  shape: ([x]) => ({ shape: x!.shape, dtype: x!.dtype }),
  forward: (backend, [x], out, axis) => backend.logSoftmax(x!, axis, out),
  backward: (gy, node) => [logSoftmaxGrad([gy, node.output], node.attrs)],
});

const logSoftmaxGrad: Op<number> = defineOp<number>({
  name: 'logSoftmaxGrad',
  shape: ([, y]) => y!,
  forward: (backend, [gy, y], out, axis) => backend.logSoftmaxGrad(gy!, y!, axis, out),
  backward(ggx, node) {
    const p = exp(node.input(1));
    const dot = (t: Tensor) => sum(t, node.attrs, { keepdim: true });
    return [
      node.needs(0) ? sub(ggx, dot(mul(ggx, p))) : null,
      node.needs(1) ? neg(mul(mul(ggx, p), dot(node.input(0)))) : null,
    ];
  },
});

/** exp(x) / Σ exp(x) along `axis` (default the last), computed without overflow. */
export function softmax(x: Tensor, axis = -1): Tensor {
  checkFloat('softmax', x);
  return softmaxOp([x], normalizeAxis('softmax', axis, x.rank));
}

/** log softmax(x) along `axis` (default the last), computed without overflow. */
export function logSoftmax(x: Tensor, axis = -1): Tensor {
  checkFloat('logSoftmax', x);
  return logSoftmaxOp([x], normalizeAxis('logSoftmax', axis, x.rank));
}
