/** Numbers as a program writes them down: nested arrays, and other arrays of numbers. */

import { received } from './check.ts';
import { allocateArray, type DType, isFloat, promote, type TypedArray, toElement } from './dtype.ts';
import { DTypeError, ShapeError } from './errors.ts';
import { checkShape, type Shape, sizeOf } from './shape.ts';
import { isTensor, type Nested } from './tensor.ts';

/** Any typed array. Those that are no element type of a tensor are converted. */
export type NumberArray =
  | TypedArray
  | Int8Array
  | Uint8ClampedArray
  | Int16Array
  | Uint16Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

/** Arrays of typed arrays, however deep. */
export type NestedArrays = readonly (NumberArray | NestedArrays)[];

/** The dtype of a typed array's values: int32 for all integers. */
export function dtypeOfNumbers(op: string, data: ArrayBufferView): DType {
  const name = Object.prototype.toString.call(data).slice(8, -1);
  if (name === 'DataView') throw new DTypeError(`${op}: expected numbers, got a DataView`);
  return name === 'Float64Array' ? 'float64' : name.startsWith('Float') ? 'float32' : 'int32';
}

/** A fresh array of `dtype` with the values of `data`. */
export function converted(op: string, data: ArrayLike<number | bigint>, dtype: DType): TypedArray {
  const out = allocateArray(dtype, data.length);
  if (isFloat(dtype) && typeof data[0] === 'number') out.set(data as ArrayLike<number>);
  else for (let i = 0; i < data.length; i++) out[i] = toElement(op, Number(data[i]!), dtype);
  return out;
}

type Row = readonly unknown[] | NumberArray;
export const isRow = (value: unknown): value is Row => Array.isArray(value) || ArrayBuffer.isView(value);

/**
 * The numbers of nested arrays in row-major order, and their shape unless one is given. `dtype` defaults to float32 for
 * numbers, bool for booleans, and that of typed arrays, from which alone come 64-bit integers. Throws in the name of `op`
 * where arrays differ in length or hold something else.
 */
export function fromNested(
  op: string,
  data: Nested | NestedArrays,
  wanted?: DType,
  given?: Shape,
): { data: TypedArray; shape: Shape } {
  const shape: number[] = [];
  for (let level: unknown = data; isRow(level); level = level[0]) shape.push(level.length);
  const flat: number[] = [];
  let booleans = 0;
  let own: DType | undefined;
  const visit = (value: unknown, axis: number, path: string): void => {
    if (isRow(value)) {
      if (ArrayBuffer.isView(value)) own = promote(own ?? 'bool', dtypeOfNumbers(op, value));
      if (value.length !== shape[axis])
        throw new ShapeError(
          `${op}: nested arrays must be regular: expected ${axis < shape.length ? `an array of ${shape[axis]}` : 'a number'} ` +
            `at data${path}, got an array of ${value.length}`,
        );
      for (let i = 0; i < value.length; i++) visit(value[i], axis + 1, `${path}[${i}]`);
      return;
    }
    if (axis !== shape.length || !['number', 'boolean', own && 'bigint'].includes(typeof value))
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
  const dtype = wanted ?? own ?? (booleans > 0 ? 'bool' : 'float32');
  const target = checkShape(op, given ?? shape);
  if (sizeOf(target) !== flat.length)
    throw new ShapeError(
      `${op}: shape [${target.join(',')}] has ${sizeOf(target)} elements, the data has ${flat.length}`,
    );
  return { data: converted(op, flat, dtype), shape: target };
}
