/** Making tensors: from data, and filled by rule. */

import type ndarray from 'ndarray';
import { getBackend } from './backends/registry.ts';
import { aBoolean, aDevice, aDType, aNumber, aShape, checkArgument, checkOptions, isPlainObject } from './check.ts';
import { allocateArray, type DType, dtypeOfArray, type TypedArray, toElement } from './dtype.ts';
import { ShapeError } from './errors.ts';
import { Tensor } from './methods.ts';
import { converted, dtypeOfNumbers, fromNested, type NestedArrays, type NumberArray } from './nested.ts';
import { checkShape, contiguousStrides, isWithin, type Shape, sameShape, sizeOf } from './shape.ts';
import { allocate, Storage, storageOf } from './storage.ts';
import type { Nested } from './tensor.ts';

/** `dtype` defaults to float32 for numbers and bool for booleans, `device` to 'cpu', `requiresGrad` to false. */
export type TensorOptions = { dtype?: DType; device?: string; requiresGrad?: boolean };

/** The kinds of TensorOptions. */
export const TENSOR = { dtype: aDType, device: aDevice, requiresGrad: aBoolean };

/** What `tensor` takes. */
export type TensorData = Nested | NumberArray | NestedArrays | ndarray.NdArray;

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

/** A tensor of zeros. */
export function zeros(shape: Shape, o?: TensorOptions): Tensor {
  return filled('zeros', shape, 0, o);
}

/** A tensor with `value` everywhere. */
export function full(shape: Shape, value: number, o?: TensorOptions): Tensor {
  return filled('full', shape, value, o);
}

/** `full` in the name of `op`. */
export function filled(op: string, shape: Shape, value: number, o?: TensorOptions): Tensor {
  checkShape(op, shape);
  checkArgument(op, 'value', value, aNumber);
  checkOptions(op, o, TENSOR);
  const out = empty(shape, o);
  out.storage.backend.fill(toElement(op, value, out.dtype), out);
  return out;
}

/** A tensor of ones. */
export function ones(shape: Shape, o?: TensorOptions): Tensor {
  return filled('ones', shape, 1, o);
}

/** A tensor of an array that nobody else writes to: row-major, as long as `shape` says. */
export function fromArray(data: TypedArray, shape: Shape, o: TensorOptions = {}): Tensor {
  const backend = getBackend(o.device ?? 'cpu');
  const out = new Tensor(storageOf(backend, dtypeOfArray(data), data), [...shape], contiguousStrides(shape));
  if (o.requiresGrad) out.requiresGrad = true;
  return out;
}

const aRangeNumber = {
  ...aNumber,
  hint: (v: unknown) => (isPlainObject(v) ? 'options come fourth, as in arange(0, 3, 1, { … })' : ''),
};

/**
 * 0, 1, …, stop−1, or start, start+step, … below (above, for a negative step) stop. int32 where all are integers.
 *
 * @throws DTypeError where int32 cannot hold an element; `dtype: 'float64'` can
 */
export function arange(start: number, stop?: number, step = 1, o: TensorOptions = {}): Tensor {
  const [from, to] = stop === undefined ? [0, start] : [start, stop];
  for (const [name, value] of Object.entries({ start: from, stop: to, step }))
    checkArgument('arange', name, value, aRangeNumber);
  checkOptions('arange', o, TENSOR);
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
  checkOptions('eye', o, TENSOR);
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
 * @throws ShapeError where an ndarray reaches beyond its data, or has an offset or strides that are no integers
 */
export function tensor(data: TensorData, o: TensorOptions & { shape?: Shape } = {}): Tensor {
  checkOptions('tensor', o, { ...TENSOR, shape: aShape });
  if (isNdarray(data)) return fromNdarray(data, o);
  if (ArrayBuffer.isView(data)) return fromTyped(data, o);
  const nested = fromNested('tensor', data, o.dtype, o.shape);
  return fromArray(nested.data, nested.shape, o);
}

function fromTyped(data: NumberArray, o: TensorOptions & { shape?: Shape }): Tensor {
  const dtype = o.dtype ?? dtypeOfNumbers('tensor', data);
  const shape = checkShape('tensor', o.shape ?? [data.length]);
  if (sizeOf(shape) !== data.length)
    throw new ShapeError(
      `tensor: shape [${shape.join(',')}] has ${sizeOf(shape)} elements, the data has ${data.length}`,
    );
  return fromArray(converted('tensor', data, dtype), shape, o);
}

function isNdarray(data: TensorData): data is ndarray.NdArray {
  return typeof data === 'object' && data !== null && 'stride' in data && 'offset' in data && 'data' in data;
}

function fromNdarray(a: ndarray.NdArray, o: TensorOptions & { shape?: Shape }): Tensor {
  if (!isWithin({ shape: a.shape, strides: a.stride, offset: a.offset }, a.data.length))
    throw new ShapeError(
      `tensor: expected an ndarray within the ${a.data.length} elements of its data, got shape [${a.shape}], ` +
        `strides [${a.stride}], offset ${a.offset}`,
    );
  if (o.shape !== undefined && !sameShape(o.shape, a.shape))
    throw new ShapeError(
      `tensor: the ndarray has shape [${a.shape.join(',')}], the options say [${o.shape.join(',')}]`,
    );
  const { data } = a;
  const own = data instanceof Float32Array || data instanceof Float64Array || data instanceof Int32Array;
  const backend = getBackend(o.device ?? 'cpu');
  if (own && backend.onHost && (o.dtype === undefined || o.dtype === dtypeOfArray(data))) {
    const storage = new Storage(backend, dtypeOfArray(data), data);
    storage.expose();
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
  const dtype = o.dtype ?? (ArrayBuffer.isView(data) ? dtypeOfNumbers('tensor', data) : 'float64');
  return fromArray(converted('tensor', flat, dtype), a.shape, o);
}
