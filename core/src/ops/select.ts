/** Picking elements by index: gather, indexSelect, oneHot, and the additions that are their gradients. */

import { aDType, anInteger, checkArgument, checkOptions } from '../check.ts';
import { type DType, toElement } from '../dtype.ts';
import { DTypeError, describe, ShapeError } from '../errors.ts';
import { arrayLike } from '../fill.ts';
import { defineOp, type Op } from '../op.ts';
import { checkShape, normalizeAxis, type Shape } from '../shape.ts';
import { checkTensors, type Tensor } from '../tensor.ts';
import { checkInRange } from '../values.ts';
import { cast } from './cast.ts';
import { eq } from './elementwise.ts';
import { unsqueeze } from './view.ts';

/**
 * Throws unless `index` is int32 with values 0 … length−1. On a device that is read with await, a value out of range is told
 * at the next read.
 */
export function checkIndex(op: string, index: Tensor, length: number, what = 'index'): void {
  checkTensors(op, index);
  if (index.dtype !== 'int32')
    throw new DTypeError(
      `${op}: expected int32 ${what} values, got ${describe(index)}; ${what}.astype('int32') converts them`,
    );
  checkInRange(
    index,
    length,
    (i, value) => new RangeError(`${op}: ${what} ${value} at position ${i} is out of range 0 … ${length - 1}`),
  );
}

/** `gather` with the axis counted from 0 and indices that were checked. */
const gatherOp: Op<number> = defineOp<number>({
  name: 'gather',
  shape: ([x, index]) => ({ shape: index!.shape, dtype: x!.dtype }),
  forward: (backend, [x, index], out, axis) => backend.gather(x!, axis, index!, out),
  backward: (gy, node) => [scatterAddOp([gy, node.input(1)], { axis: node.attrs, shape: node.inputs[0]!.shape }), null],
});

export const scatterAddOp: Op<{ axis: number; shape: Shape }> = defineOp<{ axis: number; shape: Shape }>({
  name: 'scatterAdd',
  shape: ([x], { shape }) => ({ shape, dtype: x!.dtype }),
  forward: (backend, [x, index], out, { axis }) => backend.scatterAdd(x!, axis, index!, out),
  backward: (gy, node) => [gatherOp([gy, node.input(1)], node.attrs.axis), null],
});

/** out[…, i, …] = x[…, index[…, i, …], …] along `axis`; `index` (int32) agrees with `x` in rank and fits elsewhere. */
export function gather(x: Tensor, axis: number, index: Tensor): Tensor {
  checkTensors('gather', index);
  const a = normalizeAxis('gather', axis, x.rank);
  if (index.rank !== x.rank || index.shape.some((length, i) => i !== a && length > x.shape[i]!))
    throw new ShapeError(`gather: index ${describe(index)} does not fit ${describe(x)} along axis ${a}`);
  checkIndex('gather', index, x.shape[a]!);
  return gatherOp([x, index], a);
}

/** `indexSelect` with the axis counted from 0 and indices that are in range. */
export const indexSelectOp: Op<number> = defineOp<number>({
  name: 'indexSelect',
  shape: ([x, index], axis) => ({ shape: x!.shape.map((n, i) => (i === axis ? index!.size : n)), dtype: x!.dtype }),
  forward: (backend, [x, index], out, axis) => backend.indexSelect(x!, axis, index!, out),
  backward: (gy, node) => [indexAddOp([gy, node.input(1)], { axis: node.attrs, shape: node.inputs[0]!.shape }), null],
});

export const indexAddOp: Op<{ axis: number; shape: Shape }> = defineOp<{ axis: number; shape: Shape }>({
  name: 'indexAdd',
  shape: ([x], { shape }) => ({ shape, dtype: x!.dtype }),
  forward: (backend, [x, index], out, { axis }) => backend.indexAdd(x!, axis, index!, out),
  backward: (gy, node) => [indexSelectOp([gy, node.input(1)], node.attrs.axis), null],
});

/** The slices of `x` along `axis` that the int32 vector `index` names, in its order. */
export function indexSelect(x: Tensor, axis: number, index: Tensor): Tensor {
  checkTensors('indexSelect', index);
  const a = normalizeAxis('indexSelect', axis, x.rank);
  if (index.rank !== 1) throw new ShapeError(`indexSelect: expected an index vector, got ${describe(index)}`);
  checkIndex('indexSelect', index, x.shape[a]!);
  return indexSelectOp([x, index], a);
}

/** int32 labels [...] → [..., classes] with 1 at the label; float32 unless `dtype` says otherwise. */
export function oneHot(labels: Tensor, classes: number, o: { dtype?: DType } = {}): Tensor {
  checkOptions('oneHot', o, { dtype: aDType });
  if (typeof classes !== 'number') checkArgument('oneHot', 'classes', classes, anInteger);
  checkShape('oneHot', [classes]);
  toElement('oneHot', classes, 'int32');
  checkIndex('oneHot', labels, classes, 'label');
  const all = arrayLike(
    labels,
    Int32Array.from({ length: classes }, (_, i) => i),
    [classes],
  );
  return cast(eq(unsqueeze(labels, -1), all), o.dtype ?? 'float32');
}
