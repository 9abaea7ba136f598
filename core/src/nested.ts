/** Numbers as a program writes them down: nested arrays, and other arrays of numbers. */

import { received } from './check.ts';
import { allocateArray, type DType, isFloat, type TypedArray, toElement } from './dtype.ts';
import { DTypeError, ShapeError } from './errors.ts';
import { checkShape, type Shape, sizeOf } from './shape.ts';
import { isTensor, type Nested } from './tensor.ts';

/** A fresh array of `dtype` with the values of `data`. */
export function converted(op: string, data: ArrayLike<number>, dtype: DType): TypedArray {
  const out = allocateArray(dtype, data.length);
  if (isFloat(dtype)) out.set(data);
  else for (let i = 0; i < data.length; i++) out[i] = toElement(op, data[i]!, dtype);
  return out;
}

/**
 * The numbers of nested arrays in row-major order, and their shape unless one is given. `dtype` defaults to float32 for
 * numbers and bool for booleans. Throws in the name of `op` where arrays differ in length or hold something else.
 */
export function fromNested(
  op: string,
  data: Nested,
  wanted?: DType,
  given?: Shape,
): { data: TypedArray; shape: Shape } {
  const shape: number[] = [];
  for (let level: Nested | undefined = data; Array.isArray(level); level = level[0] as Nested | undefined)
    shape.push(level.length);
  const flat: number[] = [];
  let booleans = 0;
  const visit = (value: Nested, axis: number, path: string): void => {
    if (Array.isArray(value)) {
      if (value.length !== shape[axis])
        throw new ShapeError(
          `${op}: nested arrays must be regular: expected ${axis < shape.length ? `${shape[axis]} entries` : 'a number'} ` +
            `at data${path}, got ${value.length} entries`,
        );
      for (let i = 0; i < value.length; i++) visit(value[i], axis + 1, `${path}[${i}]`);
      return;
    }
    if (axis !== shape.length || (typeof value !== 'number' && typeof value !== 'boolean'))
      throw new ShapeError(
        `${op}: expected ${axis === shape.length ? 'a number or boolean' : `an array of ${shape[axis]}`} at data${path}, ` +
          `got ${received(value)}${isTensor(value) ? '; stack joins tensors, clone() copies one' : ''}`,
      );
    if (typeof value === 'boolean') booleans++;
    flat.push(Number(value));
  };
  visit(data, 0, '');
  if (booleans > 0 && booleans < flat.length)
    throw new DTypeError(`${op}: nested arrays hold numbers or booleans, not both`);
  const dtype = wanted ?? (booleans > 0 ? 'bool' : 'float32');
  const target = checkShape(op, given ?? shape);
  if (sizeOf(target) !== flat.length)
    throw new ShapeError(
      `${op}: shape [${target.join(',')}] has ${sizeOf(target)} elements, the data has ${flat.length}`,
    );
  return { data: converted(op, flat, dtype), shape: target };
}
