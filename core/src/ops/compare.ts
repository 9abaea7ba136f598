/** Conditions on elements, and comparisons of whole tensors. */

import { aBoolean, aNumber, checkOptions } from '../check.ts';
import { widestFloat } from '../device.ts';
import { isFloat, promote } from '../dtype.ts';
import { DTypeError, describe } from '../errors.ts';
import { fullLike } from '../fill.ts';
import { noGrad } from '../graph.ts';
import { broadcastShapes, sameShape } from '../shape.ts';
import { checkTensors, type Tensor } from '../tensor.ts';
import { readNow } from './await.ts';
import { cast } from './cast.ts';
import { asTensor, type TensorLike } from './convert.ts';
import { abs, add, and, eq, finite, le, mul, nan, ne, or, sub, where } from './elementwise.ts';
import { all } from './reduce.ts';

// --- conditions -----------------------------------------------------------------------------------------------------

/** Whether x is ∞ or −∞; bool. */
export function isInf(x: Tensor): Tensor {
  checkTensors('isInf', x);
  return isFloat(x.dtype) ? eq(abs(x), Infinity) : ne(x, x);
}

/** `value`, a number or a tensor without axes, where the bool `mask` holds, else x; both broadcast, and the dtype stays. */
export function maskedFill(x: Tensor, mask: Tensor, value: number | Tensor): Tensor {
  checkTensors('maskedFill', x, mask);
  if (mask.dtype !== 'bool') throw new DTypeError(`maskedFill: expected a bool mask, got ${describe(mask)}`);
  broadcastShapes('maskedFill', x.shape, mask.shape);
  if (typeof value === 'number') return where(mask, fullLike('maskedFill', x, value), x);
  checkTensors('maskedFill', value);
  if (value.rank !== 0)
    throw new DTypeError(`maskedFill: expected a number or a tensor without axes, got ${describe(value)}`);
  return where(mask, cast(value, x.dtype), x);
}

/** What counts as close. */
export type Closeness = { rtol?: number; atol?: number; equalNan?: boolean };

/**
 * Whether |a − b| ≤ atol + rtol · |b|; bool. Infinities are close to themselves, NaN to nothing unless `equalNan`. Defaults: `rtol` 1e-5,
 * `atol` 1e-8, `equalNan` false. They broadcast.
 */
export function isClose(a: Tensor, b: TensorLike, o: Closeness = {}): Tensor {
  return closeness('isClose', a, b, o);
}

function closeness(op: string, a: Tensor, b: TensorLike, o: Closeness): Tensor {
  checkTensors(op, a);
  checkOptions(op, o, { rtol: aNumber, atol: aNumber, equalNan: aBoolean });
  const { rtol = 1e-5, atol = 1e-8, equalNan = false } = o;
  if (!(rtol >= 0 && atol >= 0)) throw new RangeError(`${op}: expected rtol and atol ≥ 0, got ${rtol} and ${atol}`);
  return noGrad(() => {
    const other = asTensor(op, b, a);
    broadcastShapes(op, a.shape, other.shape);
    const common = promote(a.dtype, other.dtype);
    // Differences of integers leave int32.
    const dtype = isFloat(common) ? common : widestFloat(a.storage.backend);
    const [p, q] = [cast(a, dtype), cast(other, dtype)];
    const off = abs(sub(p, q));
    const close = or(eq(p, q), and(finite(off), le(off, add(mul(abs(q), rtol), atol))));
    return equalNan ? or(close, and(nan(p), nan(q))) : close;
  });
}

/** Whether all elements are close; see `isClose`. A TypeError on a device that is read with await: there `await allCloseAsync(a, b)`. */
export function allClose(a: Tensor, b: TensorLike, o: Closeness = {}): boolean {
  return readNow('allClose', all(closeness('allClose', a, b, o)))[0] === 1;
}

/** The same on every device. */
export async function allCloseAsync(a: Tensor, b: TensorLike, o: Closeness = {}): Promise<boolean> {
  return (await all(closeness('allCloseAsync', a, b, o)).data())[0] === 1;
}

/** Whether both have the same shape and the same elements, whatever their dtypes. NaN equals nothing. See `equalAsync`. */
export function equal(a: Tensor, b: Tensor): boolean {
  checkTensors('equal', a, b);
  return sameShape(a.shape, b.shape) && readNow('equal', all(eq(a, b)))[0] === 1;
}

/** The same on every device, also where values are read with await. */
export async function equalAsync(a: Tensor, b: Tensor): Promise<boolean> {
  checkTensors('equalAsync', a, b);
  return sameShape(a.shape, b.shape) && (await all(eq(a, b)).data())[0] === 1;
}
