/** Elements by what their values are. How many there are is known when the values are: at once, or with await. */

import { aBoolean, checkOptions } from '../check.ts';
import { DTypeError, describe, ShapeError } from '../errors.ts';
import { arrayLike } from '../fill.ts';
import { noGrad } from '../graph.ts';
import { broadcastShapes, contiguousStrides, type Shape, sizeOf } from '../shape.ts';
import { checkTensors, type Tensor } from '../tensor.ts';
import { readNow } from './await.ts';
import { cast } from './cast.ts';
import { argsort } from './order.ts';
import { indexSelect } from './select.ts';
import { expand, reshape } from './view.ts';

/** The row-major positions of the elements that are not 0. */
function places(values: ArrayLike<number>): Int32Array {
  let count = 0;
  for (let i = 0; i < values.length; i++) if (values[i] !== 0) count++;
  const found = new Int32Array(count);
  for (let i = 0, k = 0; i < values.length; i++) if (values[i] !== 0) found[k++] = i;
  return found;
}

// --- where elements are not 0 ---------------------------------------------------------------------------------------

/** [n, rank]: the index of each. */
function coordinates(x: Tensor, values: ArrayLike<number>): Tensor {
  const [found, strides, rank] = [places(values), contiguousStrides(x.shape), x.rank];
  const out = new Int32Array(found.length * rank);
  found.forEach((place, i) => {
    for (let axis = 0, left = place; axis < rank; axis++) {
      out[i * rank + axis] = Math.floor(left / strides[axis]!);
      left %= strides[axis]!;
    }
  });
  return arrayLike(x, out, [found.length, rank]);
}

/**
 * The indices of the elements that are not 0 (NaN is not), int32 [n, rank], in row-major order. A TypeError on a device that is read with
 * await: there `await nonzeroAsync(x)`.
 */
export function nonzero(x: Tensor): Tensor {
  checkTensors('nonzero', x);
  return coordinates(x, readNow('nonzero', x));
}

/** The same on every device. */
export async function nonzeroAsync(x: Tensor): Promise<Tensor> {
  checkTensors('nonzeroAsync', x);
  return coordinates(x, await x.data());
}

// --- by a mask ------------------------------------------------------------------------------------------------------

const pick = (x: Tensor, values: ArrayLike<number>) => {
  const found = places(values);
  return indexSelect(x, 0, arrayLike(x, found, [found.length]));
};

function checkMask(op: string, x: Tensor, mask: Tensor): void {
  checkTensors(op, x, mask);
  if (mask.dtype !== 'bool') throw new DTypeError(`${op}: expected a bool mask, got ${describe(mask)}`);
}

/** x and the mask, broadcast to one shape. */
function spread(op: string, x: Tensor, mask: Tensor): { row: Tensor; mask: Tensor } {
  checkMask(op, x, mask);
  const shape = broadcastShapes(op, x.shape, mask.shape);
  return { row: reshape(expand(x, shape), [sizeOf(shape)]), mask: expand(mask, shape) };
}

/**
 * The elements where the bool `mask` holds, [n], in row-major order; both broadcast. A TypeError on a device that is read with await:
 * there `await maskedSelectAsync(x, mask)`. Gradients go to the elements that were picked.
 */
export function maskedSelect(x: Tensor, mask: Tensor): Tensor {
  const { row, mask: whole } = spread('maskedSelect', x, mask);
  return pick(row, readNow('maskedSelect', whole));
}

/** The same on every device. */
export async function maskedSelectAsync(x: Tensor, mask: Tensor): Promise<Tensor> {
  const { row, mask: whole } = spread('maskedSelectAsync', x, mask);
  return pick(row, await whole.data());
}

/** x with the leading axes, which the mask has too, as one. */
function lines(op: string, x: Tensor, mask: Tensor): Tensor {
  checkMask(op, x, mask);
  const [leading, rest]: Shape[] = [x.shape.slice(0, mask.rank), x.shape.slice(mask.rank)];
  if (leading!.join() !== mask.shape.join())
    throw new ShapeError(`${op}: expected a mask of the leading axes of ${describe(x)}, got ${describe(mask)}`);
  return reshape(x, [sizeOf(mask.shape), ...rest!]);
}

/**
 * x[mask]: the slices x[i, …] for all indices i at which the bool `mask` holds, [n, …]. `mask` has the leading axes of x, all or some. A
 * TypeError on a device that is read with await: there `await booleanMaskAsync(x, mask)`. Gradients go to the slices that were picked.
 */
export function booleanMask(x: Tensor, mask: Tensor): Tensor {
  return pick(lines('booleanMask', x, mask), readNow('booleanMask', mask));
}

/** The same on every device. */
export async function booleanMaskAsync(x: Tensor, mask: Tensor): Promise<Tensor> {
  return pick(lines('booleanMaskAsync', x, mask), await mask.data());
}

// --- distinct elements ----------------------------------------------------------------------------------------------

/** Both default to false. */
export type UniqueOptions = { returnInverse?: boolean; returnCounts?: boolean };

/**
 * `values`, ascending, of the dtype of x; if asked for, `inverse`, of the shape of x, where each element is in `values`, and `counts`, how
 * many of each there are; both int32.
 */
export type Unique = { values: Tensor; inverse?: Tensor; counts?: Tensor };

const UNIQUE = { returnInverse: aBoolean, returnCounts: aBoolean };

/** The elements in one axis, as numbers, and their order. */
function inOrder(op: string, x: Tensor, o: UniqueOptions): { row: Tensor; order: Tensor } {
  checkTensors(op, x);
  checkOptions(op, o, UNIQUE);
  return noGrad(() => {
    const flat = reshape(x, [x.size]);
    const row = flat.dtype === 'bool' ? cast(flat, 'int32') : flat;
    return { row, order: argsort(row) };
  });
}

/** NaN equals nothing, so that each stays. */
function distinct(x: Tensor, row: ArrayLike<number>, order: ArrayLike<number>, o: UniqueOptions): Unique {
  const firsts: number[] = [];
  const inverse = new Int32Array(row.length);
  const counts: number[] = [];
  for (let i = 0; i < order.length; i++) {
    const [value, last] = [row[order[i]!]!, i === 0 ? Number.NaN : row[order[i - 1]!]!];
    if (value !== last) {
      firsts.push(order[i]!);
      counts.push(0);
    }
    counts[counts.length - 1]!++;
    inverse[order[i]!] = firsts.length - 1;
  }
  const n = [firsts.length];
  const values = noGrad(() => indexSelect(reshape(x, [x.size]), 0, arrayLike(x, Int32Array.from(firsts), n)));
  return {
    values,
    ...(o.returnInverse && { inverse: arrayLike(x, inverse, x.shape) }),
    ...(o.returnCounts && { counts: arrayLike(x, Int32Array.from(counts), n) }),
  };
}

/**
 * The distinct elements in ascending order; each NaN is one of its own. No gradient. A TypeError on a device that is read with await:
 * there `await uniqueAsync(x)`.
 */
export function unique(x: Tensor, o: UniqueOptions = {}): Unique {
  const { row, order } = inOrder('unique', x, o);
  return distinct(x, readNow('unique', row), readNow('unique', order), o);
}

/** The same on every device. */
export async function uniqueAsync(x: Tensor, o: UniqueOptions = {}): Promise<Unique> {
  const { row, order } = inOrder('uniqueAsync', x, o);
  const [values, places] = await Promise.all([row.data(), order.data()]);
  return distinct(x, values, places, o);
}
