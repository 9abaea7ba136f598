/** Making tensors: from data, and filled by rule. */

import type ndarray from 'ndarray';
import { getBackend } from './backends/registry.ts';
import { allocateArray, type DType, dtypeOfArray, isFloat, promote, type TypedArray, toElement } from './dtype.ts';
import { DTypeError, ShapeError } from './errors.ts';
import { checkShape, contiguousStrides, type Shape, sameShape, sizeOf } from './shape.ts';
import { allocate, Storage } from './storage.ts';
import { type Nested, Tensor } from './tensor.ts';

/** `dtype` defaults to float32 for numbers and bool for booleans, `device` to 'cpu', `requiresGrad` to false. */
export type TensorOptions = { dtype?: DType; device?: string; requiresGrad?: boolean };

/** What `tensor` takes. */
export type TensorData = Nested | NumberArray | NestedArrays | ndarray.NdArray;

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
type NestedArrays = readonly (NumberArray | NestedArrays)[];

/** A contiguous tensor with any content, for code that writes all of it. */
export function empty(
  shape: Shape,
  { dtype = 'float32', device = 'cpu', requiresGrad = false }: TensorOptions = {},
): Tensor {
  const storage = allocate(getBackend(device), dtype, sizeOf(shape));
  const out = new Tensor(storage, [...shape], contiguousStrides(shape));
  if (requiresGrad) out.requiresGrad = true;
  return out;
}

export function zeros(shape: Shape, o?: TensorOptions): Tensor {
  return filled('zeros', shape, 0, o);
}

/** A tensor with `value` everywhere. */
export function full(shape: Shape, value: number, o?: TensorOptions): Tensor {
  return filled('full', shape, value, o);
}

function filled(op: string, shape: Shape, value: number, o?: TensorOptions): Tensor {
  const out = empty(checkShape(op, shape), o);
  out.storage.backend.fill(toElement(op, value, out.dtype), out);
  return out;
}

export function ones(shape: Shape, o?: TensorOptions): Tensor {
  return full(shape, 1, o);
}

/** A tensor of an array that nobody else writes to: row-major, as long as `shape` says. */
export function fromArray(data: TypedArray, shape: Shape, o: TensorOptions = {}): Tensor {
  const backend = getBackend(o.device ?? 'cpu');
  const out = new Tensor(
    new Storage(backend, dtypeOfArray(data), backend.store(data)),
    [...shape],
    contiguousStrides(shape),
  );
  if (o.requiresGrad) out.requiresGrad = true;
  return out;
}

/**
 * 0, 1, …, stop−1, or start, start+step, … below (above, for a negative step) stop. int32 where all are integers.
 *
 * @throws DTypeError where int32 cannot hold an element; `dtype: 'float64'` can
 */
export function arange(start: number, stop?: number, step = 1, o: TensorOptions = {}): Tensor {
  const [from, to] = stop === undefined ? [0, start] : [start, stop];
  if (step === 0 || ![from, to, step].every(Number.isFinite))
    throw new ShapeError(`arange: expected finite bounds and a step other than 0, got ${from}, ${to}, ${step}`);
  const length = Math.max(0, Math.ceil((to - from) / step));
  const dtype = o.dtype ?? ([from, step].every(Number.isInteger) ? 'int32' : 'float32');
  // The last one before memory is taken: of integers the ends are the first to leave int32.
  if (length > 0) toElement('arange', from + (length - 1) * step, dtype);
  const data = allocateArray(dtype, length);
  for (let i = 0; i < length; i++) data[i] = toElement('arange', from + i * step, dtype);
  return fromArray(data, [length], o);
}

/** The identity matrix [n, n]. */
export function eye(n: number, o: TensorOptions = {}): Tensor {
  checkShape('eye', [n]);
  const data = allocateArray(o.dtype ?? 'float32', n * n);
  for (let i = 0; i < n; i++) data[i * n + i] = 1;
  return fromArray(data, [n, n], o);
}

/**
 * A tensor from numbers: nested arrays, a typed array (with `shape`, else one axis) or a scijs ndarray.
 *
 * Nested arrays are copied. Float32Array, Float64Array and Int32Array keep their dtype unless `dtype` says otherwise, and
 * every other typed array of integers becomes int32; they are copied, so later writes to them do not show. Lists of typed
 * arrays are rows. An ndarray over one of the three is taken in without a copy on the CPU, with its strides; both then share
 * memory. One over another typed array is copied and has the dtype of that array, one over anything else float64.
 *
 * @throws DTypeError where int32 cannot hold a value
 */
export function tensor(data: TensorData, o: TensorOptions & { shape?: Shape } = {}): Tensor {
  if (isNdarray(data)) return fromNdarray(data, o);
  if (ArrayBuffer.isView(data)) return fromTyped(data, o);
  return fromNested(data, o);
}

/** The dtype of a typed array's values: int32 for all integers. */
function dtypeOfNumbers(data: ArrayBufferView): DType {
  const name = Object.prototype.toString.call(data).slice(8, -1);
  if (name === 'DataView') throw new DTypeError('tensor: expected numbers, got a DataView');
  return name === 'Float64Array' ? 'float64' : name.startsWith('Float') ? 'float32' : 'int32';
}

function fromTyped(data: NumberArray, o: TensorOptions & { shape?: Shape }): Tensor {
  const dtype = o.dtype ?? dtypeOfNumbers(data);
  const big = data instanceof BigInt64Array || data instanceof BigUint64Array;
  const shape = checkShape('tensor', o.shape ?? [data.length]);
  if (sizeOf(shape) !== data.length)
    throw new ShapeError(
      `tensor: shape [${shape.join(',')}] has ${sizeOf(shape)} elements, the data has ${data.length}`,
    );
  return fromArray(converted(big ? Float64Array.from(data, Number) : data, dtype), shape, o);
}

/** A fresh array of `dtype` with the values of `data`. */
function converted(data: ArrayLike<number>, dtype: DType): TypedArray {
  const out = allocateArray(dtype, data.length);
  if (isFloat(dtype)) out.set(data);
  else for (let i = 0; i < data.length; i++) out[i] = toElement('tensor', data[i]!, dtype);
  return out;
}

type Row = readonly unknown[] | NumberArray;
const isRow = (value: unknown): value is Row => Array.isArray(value) || ArrayBuffer.isView(value);

function fromNested(data: Nested | NestedArrays, o: TensorOptions & { shape?: Shape }): Tensor {
  const shape: number[] = [];
  for (let level: unknown = data; isRow(level); level = level[0]) shape.push(level.length);
  const flat: number[] = [];
  let booleans = 0;
  let own: DType | undefined;
  const visit = (value: unknown, axis: number, path: string): void => {
    if (isRow(value)) {
      if (ArrayBuffer.isView(value)) own = promote(own ?? 'bool', dtypeOfNumbers(value));
      if (value.length !== shape[axis])
        throw new ShapeError(
          `tensor: nested arrays must be regular: expected ${axis < shape.length ? `${shape[axis]} entries` : 'a number'} ` +
            `at data${path}, got ${value.length} entries`,
        );
      for (let i = 0; i < value.length; i++) visit(value[i], axis + 1, `${path}[${i}]`);
      return;
    }
    // 64-bit integers come from typed arrays only.
    const kinds = ['number', 'boolean', ...(own === undefined ? [] : ['bigint'])];
    if (axis !== shape.length || !kinds.includes(typeof value))
      throw new ShapeError(
        `tensor: expected ${axis === shape.length ? 'a number or boolean' : `an array of ${shape[axis]}`} at data${path}, ` +
          `got ${value === null ? 'null' : typeof value}`,
      );
    if (typeof value === 'boolean') booleans++;
    flat.push(Number(value));
  };
  visit(data, 0, '');
  if (booleans > 0 && booleans < flat.length)
    throw new DTypeError('tensor: nested arrays hold numbers or booleans, not both');
  const dtype = o.dtype ?? own ?? (booleans > 0 ? 'bool' : 'float32');
  const target = checkShape('tensor', o.shape ?? shape);
  if (sizeOf(target) !== flat.length)
    throw new ShapeError(
      `tensor: shape [${target.join(',')}] has ${sizeOf(target)} elements, the data has ${flat.length}`,
    );
  return fromArray(converted(flat, dtype), target, o);
}

function isNdarray(data: TensorData): data is ndarray.NdArray {
  return typeof data === 'object' && data !== null && 'stride' in data && 'offset' in data && 'data' in data;
}

function fromNdarray(a: ndarray.NdArray, o: TensorOptions & { shape?: Shape }): Tensor {
  if (o.shape !== undefined && !sameShape(o.shape, a.shape))
    throw new ShapeError(
      `tensor: the ndarray has shape [${a.shape.join(',')}], the options say [${o.shape.join(',')}]`,
    );
  const { data } = a;
  const own = data instanceof Float32Array || data instanceof Float64Array || data instanceof Int32Array;
  const backend = getBackend(o.device ?? 'cpu');
  if (own && backend.onHost && (o.dtype === undefined || o.dtype === dtypeOfArray(data))) {
    const storage = new Storage(backend, dtypeOfArray(data), data);
    storage.exposed = true;
    const out = new Tensor(storage, [...a.shape], [...a.stride], a.offset);
    if (o.requiresGrad) out.requiresGrad = true;
    return out;
  }
  // Anything else is read element by element, in row-major order.
  const flat = new Float64Array(sizeOf(a.shape));
  const index = new Array<number>(a.shape.length).fill(0);
  for (let i = 0; i < flat.length; i++) {
    flat[i] = Number(a.get(...index));
    for (let axis = index.length - 1; axis >= 0 && ++index[axis]! === a.shape[axis]; axis--) index[axis] = 0;
  }
  const dtype = o.dtype ?? (ArrayBuffer.isView(data) ? dtypeOfNumbers(data) : 'float64');
  return fromArray(converted(flat, dtype), a.shape, o);
}
