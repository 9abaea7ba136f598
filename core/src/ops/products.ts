/** Products over axes, running products, log-sum-exp and the standard deviation. */

import type { DeviceKernels } from '../backends/backend.ts';
import { bring } from '../backends/bring.ts';
import * as reference from '../backends/reference/layers/scan.ts';
import { aBoolean, aNumber, checkOptions } from '../check.ts';
import { widestFloat } from '../device.ts';
import { type DType, toFloat } from '../dtype.ts';
import { fullLike } from '../fill.ts';
import { defineOp, type Op } from '../op.ts';
import { owningIntermediates } from '../scope.ts';
import { normalizeAxes, normalizeAxis, reducedShape, type Shape, sizeOf } from '../shape.ts';
import { checkTensors, type Tensor } from '../tensor.ts';
import { cast } from './cast.ts';
import { add, div, exp, finite, log, mul, sub, where } from './elementwise.ts';
import { composeInto } from './math.ts';
import { type Axes, centred, max, norm, type ReduceOptions, sum } from './reduce.ts';
import { concat, narrow, slice } from './slice.ts';
import { permute, reshape } from './view.ts';

// Plain loops are as fast as memory here: each element waits for the one before.
bring<Required<Pick<DeviceKernels, 'prod' | 'cumprod' | 'recurrence'>>>(reference, reference);

/** Products of booleans count, as their sums do. */
const counted = (dtype: DType): DType => (dtype === 'bool' ? 'int32' : dtype);

/** `x` from the end to the beginning of an axis. */
const reversed = (x: Tensor, axis: number) => slice(x, [...x.shape.slice(0, axis).map(() => null), [null, null, -1]]);

/** `x` one place further along an axis, with `value` in the first. */
function delayed(x: Tensor, axis: number, value: number): Tensor {
  const length = x.shape[axis]!;
  if (length === 0) return x;
  const first = fullLike(
    'cumprod',
    x,
    value,
    x.shape.map((n, i) => (i === axis ? 1 : n)),
  );
  return concat([first, narrow(x, axis, 0, length - 1)], axis);
}

/**
 * Combines each element with the one 1, 2, 4, … places before it, so that in the end it has met all of them (Hillis & Steele 1986).
 * `join` gets parts that are all from place `by` on, and the same from the beginning.
 */
function doubling(x: readonly Tensor[], axis: number, join: (late: Tensor[], early: Tensor[]) => Tensor[]): Tensor[] {
  let parts = [...x];
  const length = parts[0]!.shape[axis]!;
  for (let by = 1; by < length; by *= 2) {
    const [late, early] = [by, 0].map(from => parts.map(one => narrow(one, axis, from, length - by))) as [
      Tensor[],
      Tensor[],
    ];
    const joined = join(late, early);
    parts = parts.map((one, i) => concat([narrow(one, axis, 0, by), joined[i]!], axis));
  }
  return parts;
}

// --- running products -----------------------------------------------------------------------------------------------

/**
 * y_i = b_i + a_i y_(i−1) along an axis, from y_0 = b_0 on. Its gradient is such a recurrence backwards, so that derivatives of
 * products need no division and are right where factors are 0.
 */
const recurrence: Op<number> = defineOp<number>({
  name: 'recurrence',
  shape: ([a]) => ({ shape: a!.shape, dtype: a!.dtype }),
  forward(backend, [a, b], out, axis) {
    if (backend.recurrence !== undefined) backend.recurrence(a!, b!, axis, out);
    else
      composeInto(backend, out, () => {
        const join = ([a, b]: Tensor[], [before, sum]: Tensor[]) => [mul(a!, before!), add(b!, mul(a!, sum!))];
        return doubling([a!, b!], axis, join)[1]!;
      });
  },
  backward(gy, node) {
    const axis = node.attrs;
    const g = backwards(node.input(0), gy, axis);
    return [node.needs(0) ? mul(g, delayed(node.output, axis, 0)) : null, node.needs(1) ? g : null];
  },
});

/** g_i = gy_i + a_(i+1) g_(i+1), from the end on. */
function backwards(a: Tensor, gy: Tensor, axis: number): Tensor {
  return reversed(recurrence([delayed(reversed(a, axis), axis, 0), reversed(gy, axis)], axis), axis);
}

const cumprodOp: Op<number> = defineOp<number>({
  name: 'cumprod',
  shape: ([x]) => ({ shape: x!.shape, dtype: counted(x!.dtype) }),
  forward(backend, [x], out, axis) {
    if (backend.cumprod !== undefined) backend.cumprod(x!, axis, out);
    else
      composeInto(backend, out, () => {
        const join = ([late]: Tensor[], [early]: Tensor[]) => [mul(late!, early!)];
        return doubling([cast(x!, out.dtype)], axis, join)[0]!;
      });
  },
  // The product of the factors before, by the sum over all later elements of gy times the factors between.
  backward(gy, node) {
    const axis = node.attrs;
    return [mul(delayed(node.output, axis, 1), backwards(node.input(0), gy, axis))];
  },
});

/** Products of the elements up to each one along `axis`, also differentiable where some are 0. Booleans count as 0 and 1; int32 wraps. */
export function cumprod(x: Tensor, axis: number): Tensor {
  checkTensors('cumprod', x);
  return cumprodOp([x], normalizeAxis('cumprod', axis, x.rank));
}

// --- products -------------------------------------------------------------------------------------------------------

/** Over the last axis. */
const prodOp: Op<null> = defineOp<null>({
  name: 'prod',
  shape: ([x]) => ({ shape: x!.shape.slice(0, -1), dtype: counted(x!.dtype) }),
  forward(backend, [x], out) {
    if (backend.prod !== undefined) backend.prod(x!, out);
    else composeInto(backend, out, () => reshape(halved(cast(x!, out.dtype)), out.shape));
  },
  // The products of the factors before and behind.
  backward(gy, node) {
    const x = node.input(0);
    const axis = x.rank - 1;
    const before = delayed(cumprodOp([x], axis), axis, 1);
    const behind = reversed(delayed(cumprodOp([reversed(x, axis)], axis), axis, 1), axis);
    return [mul(mul(before, behind), reshape(gy, [...gy.shape, 1]))];
  },
});

/** Products of the first half and the second, until there is one. */
function halved(x: Tensor): Tensor {
  const axis = x.rank - 1;
  const length = x.shape[axis]!;
  if (length === 0) return fullLike('prod', x, 1, [...x.shape.slice(0, -1), 1]);
  if (length === 1) return x;
  const half = length >> 1;
  const halves = mul(narrow(x, axis, 0, half), narrow(x, axis, half, half));
  return halved(length % 2 === 0 ? halves : concat([halves, narrow(x, axis, length - 1, 1)], axis));
}

const KEEPDIM = { keepdim: aBoolean };

/** `x` with `axes` merged into one last axis. */
function asRows(x: Tensor, axes: readonly number[]): Tensor {
  const rest = [...x.shape.keys()].filter(axis => !axes.includes(axis));
  const shape = rest.map(axis => x.shape[axis]!);
  return reshape(permute(x, [...rest, ...axes]), [...shape, sizeOf(axes.map(axis => x.shape[axis]!))]);
}

/**
 * The product over `axis` (all by default), 1 over an empty one. Gradients of all orders are right where factors are 0. Booleans count as
 * 0 and 1; int32 wraps.
 */
export function prod(x: Tensor, axis?: Axes, o: ReduceOptions = {}): Tensor {
  checkTensors('prod', x);
  checkOptions('prod', o, KEEPDIM);
  const axes = normalizeAxes('prod', axis, x.rank);
  const result = owningIntermediates(() => prodOp([asRows(x, axes)], null));
  return o.keepdim ? reshape(result, reducedShape(x.shape, axes, true)) : result;
}

// --- log-sum-exp ----------------------------------------------------------------------------------------------------

type Reduction = { readonly axes: readonly number[]; readonly shape: Shape };

const logsumexpOp: Op<Reduction> = defineOp<Reduction>({
  name: 'logsumexp',
  shape: ([x], { shape }) => ({ shape, dtype: x!.dtype }),
  forward(backend, [x], out, { axes }) {
    composeInto(backend, out, () => {
      if (x!.size === 0) return fullLike('logsumexp', x!, -Infinity, out.shape);
      const largest = max(x!, axes, { keepdim: true });
      const shift = where(finite(largest), largest, 0);
      return reshape(add(log(sum(exp(sub(x!, shift)), axes, { keepdim: true })), shift), out.shape);
    });
  },
  backward(gy, node) {
    const x = node.input(0);
    const kept = (t: Tensor) => reshape(t, reducedShape(x.shape, node.attrs.axes, true));
    return [mul(exp(sub(x, kept(node.output))), kept(gy))];
  },
});

/** log Σ eˣ over `axis` (all by default), without overflow: −∞ over nothing or −∞ alone, ∞ where one is. Integers give float32. */
export function logsumexp(x: Tensor, axis?: Axes, o: ReduceOptions = {}): Tensor {
  checkTensors('logsumexp', x);
  checkOptions('logsumexp', o, KEEPDIM);
  const axes = normalizeAxes('logsumexp', axis, x.rank);
  return logsumexpOp([cast(x, toFloat(x.dtype))], { axes, shape: reducedShape(x.shape, axes, o.keepdim ?? false) });
}

// --- standard deviation ---------------------------------------------------------------------------------------------

/** √ of `var` over `axis` (all by default). `correction` defaults to 1, as in PyTorch; its gradient at 0 is 0. Integers give float32. */
export function std(x: Tensor, axis?: Axes, o: ReduceOptions & { correction?: number } = {}): Tensor {
  checkTensors('std', x);
  checkOptions('std', o, { ...KEEPDIM, correction: aNumber });
  normalizeAxes('std', axis, x.rank);
  const { correction = 1, ...keep } = o;
  const count = normalizeAxes('std', axis, x.rank).reduce((n, a) => n * x.shape[a]!, 1);
  // By the norm, which is in range wherever it is itself, where the variance need not be.
  const floating = x.dtype === 'int32' ? widestFloat(x.storage.backend) : toFloat(x.dtype);
  const degrees = Math.sqrt(Math.max(0, count - correction));
  return owningIntermediates(() =>
    cast(div(norm(centred(cast(x, floating), axis), axis, keep), degrees), toFloat(x.dtype)),
  );
}
