/** Writing, adding and taking the larger by index, into a copy. */

import type { DeviceKernels } from '../backends/backend.ts';
import { bring } from '../backends/bring.ts';
import * as reference from '../backends/reference/layers/scatter.ts';
import { aNumber, checkArgument } from '../check.ts';
import { isFloat, promote } from '../dtype.ts';
import { DTypeError, describe, ShapeError } from '../errors.ts';
import { fullLike } from '../fill.ts';
import { noGrad } from '../graph.ts';
import { defineOp, notDifferentiable, type Op } from '../op.ts';
import { normalizeAxis, type Shape } from '../shape.ts';
import { checkTensors, type Tensor } from '../tensor.ts';
import { cast } from './cast.ts';
import { maskedFill } from './compare.ts';
import { composeInto } from './compose.ts';
import { add, div, eq, ge, gt, maximum, mul, ne, sub, where } from './elementwise.ts';
import { argsort } from './order.ts';
import { checkIndex, gather, indexAddOp, scatterAddOp } from './select.ts';
import { concat, narrow, pad } from './slice.ts';
import { expand, reshape } from './view.ts';

// A write goes anywhere: plain loops wait for memory as long as others would.
bring<Required<Pick<DeviceKernels, 'lastWriter' | 'scatterMax'>>>(reference, reference);

/** The elements of a line that write to the same place, side by side. */
type Grouped = { readonly index: Tensor; readonly order: Tensor; readonly isLast: Tensor };

function grouped(index: Tensor, axis: number): Grouped {
  const order = argsort(index, axis);
  const sorted = gather(index, axis, order);
  const length = index.shape[axis]!;
  const end = index.shape.map((n, i) => (i === axis ? 1 : n));
  const next = concat([narrow(sorted, axis, 1, length - 1), fullLike('scatter', index, -1, end)], axis);
  return { index: sorted, order, isLast: ne(sorted, next) };
}

/** For each place of `shape` where along the axis the last element stands that writes there, −1 if none does; int32. */
const lastWriter: Op<{ readonly axis: number; readonly shape: Shape }> = defineOp({
  name: 'scatter',
  shape: (_, { shape }) => ({ shape, dtype: 'int32' }),
  forward(backend, [index], out, { axis, shape }) {
    if (backend.lastWriter !== undefined) backend.lastWriter(index!, axis, out);
    else
      composeInto(backend, out, () => {
        if (index!.size === 0) return fullLike('scatter', index!, -1, shape);
        const { index: sorted, order, isLast } = grouped(index!, axis);
        return sub(scatterAddOp([where(isLast, add(order, 1), 0), sorted], { axis, shape }), 1);
      });
  },
  backward: notDifferentiable,
});

/** Checks what a scatter is given; `src` cut to the shape of `index`. */
function fitted(op: string, x: Tensor, axis: number, index: Tensor, src: Tensor): { axis: number; src: Tensor } {
  checkTensors(op, x, index, src);
  const a = normalizeAxis(op, axis, x.rank);
  const fits = (n: number, i: number) => n <= src.shape[i]! && (i === a || n <= x.shape[i]!);
  if (index.rank !== x.rank || src.rank !== x.rank || !index.shape.every(fits))
    throw new ShapeError(
      `${op}: index ${describe(index)} does not fit ${describe(x)} along axis ${a}, or is larger than ${describe(src)}`,
    );
  checkIndex(op, index, x.shape[a]!);
  if (promote(x.dtype, src.dtype) !== x.dtype)
    throw new DTypeError(`${op}: expected elements of ${x.dtype}, got ${describe(src)}; astype converts them`);
  const cut = index.shape.reduce((t, n, i) => (t.shape[i] === n ? t : narrow(t, i, 0, n)), src);
  return { axis: a, src: cast(cut, x.dtype) };
}

/**
 * A copy of x with out[…, index[…, i, …], …] = src[…, i, …] along `axis`, where `src` is a tensor or a number. `index` (int32) agrees in
 * rank, and is nowhere larger than `src`, nor than x beside the axis. Where several elements write to one place the last one stays, and
 * gets the gradient.
 */
export function scatter(x: Tensor, axis: number, index: Tensor, src: Tensor | number): Tensor {
  checkTensors('scatter', x, index);
  if (typeof src !== 'number') checkTensors('scatter', src);
  const source = typeof src === 'number' ? expand(fullLike('scatter', x, src), index.shape) : src;
  const { axis: a, src: values } = fitted('scatter', x, axis, index, source);
  if (index.size === 0) return where(fullLike('scatter', x, 0, [], 'bool'), x, x);
  const shape = x.shape.map((n, i) => (i === a ? n : index.shape[i]!));
  const last = lastWriter([index], { axis: a, shape });
  const picked = gather(values, a, maximum(last, 0));
  const beside = x.shape.map((n, i): [number, number] => [0, n - shape[i]!]);
  const whole = beside.every(([, n]) => n === 0);
  if (whole) return where(ge(last, 0), picked, x);
  return where(ge(pad(last, beside, -1), 0), pad(picked, beside), x);
}

/** A copy of x with src[…, i, …] added to out[…, index[…, i, …], …] along `axis`; shapes as for `scatter`. */
export function scatterAdd(x: Tensor, axis: number, index: Tensor, src: Tensor): Tensor {
  const { axis: a, src: values } = fitted('scatterAdd', x, axis, index, src);
  if (x.dtype === 'bool') throw new DTypeError(`scatterAdd: expected numbers, got ${describe(x)}`);
  return add(x, scatterAddOp([values, index], { axis: a, shape: x.shape }));
}

const scatterMaxOp: Op<number> = defineOp<number>({
  name: 'scatterMax',
  shape: ([x]) => ({ shape: x!.shape, dtype: x!.dtype }),
  forward(backend, [x, src, index], out, axis) {
    if (backend.scatterMax !== undefined) backend.scatterMax(x!, src!, axis, index!, out);
    else composeInto(backend, out, () => (index!.size === 0 ? x! : largestOf(x!, src!, index!, axis)));
  },
  // Of equal largest elements, that of x among them, each gets its share.
  backward(gy, node) {
    const [x, src, index, axis] = [node.input(0), node.input(1), node.input(2), node.attrs];
    const { own, given, share } = noGrad(() => {
      const own = cast(eq(x, node.output), gy.dtype);
      const given = cast(eq(src, gather(node.output, axis, index)), gy.dtype);
      const count = add(own, scatterAddOp([given, index], { axis, shape: x.shape }));
      return { own, given, share: div(1, maximum(count, 1)) };
    });
    const g = mul(gy, share);
    return [node.needs(0) ? mul(g, own) : null, node.needs(1) ? mul(gather(g, axis, index), given) : null, null];
  },
});

/** The larger of x and, at each place, of all that is written there: running maxima of stretches that write to one place. */
function largestOf(x: Tensor, src: Tensor, index: Tensor, axis: number): Tensor {
  const { index: sorted, order, isLast } = grouped(index, axis);
  let best = gather(src, axis, order);
  const length = index.shape[axis]!;
  for (let by = 1; by < length; by *= 2) {
    const part = (t: Tensor, from: number) => narrow(t, axis, from, length - by);
    const same = eq(part(sorted, by), part(sorted, 0));
    const joined = where(same, maximum(part(best, by), part(best, 0)), part(best, by));
    best = concat([narrow(best, axis, 0, by), joined], axis);
  }
  const into = { axis, shape: x.shape };
  const written = gt(scatterAddOp([cast(isLast, 'int32'), sorted], into), 0);
  return where(written, maximum(x, scatterAddOp([where(isLast, best, 0), sorted], into)), x);
}

/**
 * A copy of x with the larger of itself and all src[…, i, …] that go to a place, along `axis`; shapes as for `scatter`. NaN wins. Equal
 * largest ones share the gradient, as in PyTorch's `scatter_reduce` with 'amax'.
 */
export function scatterMax(x: Tensor, axis: number, index: Tensor, src: Tensor): Tensor {
  const { axis: a, src: values } = fitted('scatterMax', x, axis, index, src);
  if (x.dtype === 'bool') throw new DTypeError(`scatterMax: expected numbers, got ${describe(x)}`);
  return scatterMaxOp([x, values, index], a);
}

// --- whole slices ---------------------------------------------------------------------------------------------------

/** Checks an index vector, and `src` if there is one: as many slices as it names. */
function sliced(op: string, x: Tensor, axis: number, index: Tensor, src: Tensor | null): number {
  checkTensors(op, x, index);
  const a = normalizeAxis(op, axis, x.rank);
  if (index.rank !== 1) throw new ShapeError(`${op}: expected an index vector, got ${describe(index)}`);
  const shape = x.shape.map((n, i) => (i === a ? index.shape[0]! : n));
  if (src !== null && src.shape.join() !== shape.join())
    throw new ShapeError(`${op}: expected slices of shape [${shape}], got ${describe(src)}`);
  checkIndex(op, index, x.shape[a]!);
  if (src !== null && promote(x.dtype, src.dtype) !== x.dtype)
    throw new DTypeError(`${op}: expected elements of ${x.dtype}, got ${describe(src)}; astype converts them`);
  return a;
}

/** A copy of x with slice i of `src`, times `alpha` (default 1), added to slice index[i] along `axis`. */
export function indexAdd(x: Tensor, axis: number, index: Tensor, src: Tensor, alpha = 1): Tensor {
  checkTensors('indexAdd', x, index, src);
  checkArgument('indexAdd', 'alpha', alpha, aNumber);
  const a = sliced('indexAdd', x, axis, index, src);
  if (x.dtype === 'bool') throw new DTypeError(`indexAdd: expected numbers, got ${describe(x)}`);
  if (!isFloat(x.dtype) && !Number.isInteger(alpha))
    throw new DTypeError(`indexAdd: expected an integer alpha for ${describe(x)}, got ${alpha}`);
  const values = cast(src, x.dtype);
  const scaled = alpha === 1 ? values : mul(values, alpha);
  return add(x, indexAddOp([scaled, index], { axis: a, shape: x.shape }));
}

/** A copy of x whose slice index[i] along `axis` is slice i of `src`; the last one where several are named. */
export function indexCopy(x: Tensor, axis: number, index: Tensor, src: Tensor): Tensor {
  checkTensors('indexCopy', x, index, src);
  const a = sliced('indexCopy', x, axis, index, src);
  const along = src.shape.map((n, i) => (i === a ? n : 1));
  return scatter(x, a, expand(reshape(index, along), src.shape), src);
}

/** A copy of x with `value` in the slices along `axis` that `index` names. */
export function indexFill(x: Tensor, axis: number, index: Tensor, value: number): Tensor {
  checkArgument('indexFill', 'value', value, aNumber);
  const a = sliced('indexFill', x, axis, index, null);
  const length = x.shape[a]!;
  const counts = scatterAddOp([fullLike('indexFill', index, 1, index.shape), index], { axis: 0, shape: [length] });
  const mask = reshape(
    gt(counts, 0),
    x.shape.map((_, i) => (i === a ? length : 1)),
  );
  return maskedFill(x, mask, value);
}
