/** Element types of tensors, the arrays that hold them, and the promotion lattice bool < int32 < float32 < float64. */

import { DTypeError, OutOfMemoryError } from './errors.ts';

export type DType = 'float32' | 'float64' | 'int32' | 'bool';

/** What holds the elements on the CPU. A bool is one byte, 0 or 1. */
export type TypedArray = Float32Array | Float64Array | Int32Array | Uint8Array;

export const DTYPES: readonly DType[] = ['bool', 'int32', 'float32', 'float64'];

const RANK: Record<DType, number> = { bool: 0, int32: 1, float32: 2, float64: 3 };
const BYTES: Record<DType, number> = { bool: 1, int32: 4, float32: 4, float64: 8 };

export function bytesPerElement(dtype: DType): number {
  return BYTES[dtype];
}

export function isFloat(dtype: DType): boolean {
  return dtype === 'float32' || dtype === 'float64';
}

/** The smaller of the types that can represent both, as in the order above. */
export function promote(a: DType, b: DType): DType {
  if (RANK[a] >= RANK[b]) return a;
  if (RANK[a] < RANK[b]) return b;
  throw new DTypeError(`promote: expected two of ${DTYPES.join(', ')}, got ${String(a)} and ${String(b)}`);
}

/** Floating dtypes stay; integers and booleans become float32, as with PyTorch's default dtype. */
export function toFloat(dtype: DType): DType {
  return isFloat(dtype) ? dtype : 'float32';
}

/** A zero-filled array. Throws an OutOfMemoryError where the runtime refuses the memory. */
export function allocateArray(dtype: DType, size: number): TypedArray {
  try {
    return newArray(dtype, size);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new OutOfMemoryError(
      `allocate: no memory for ${size} elements of ${dtype} (${size * bytesPerElement(dtype)} bytes): ${error.message}`,
    );
  }
}

function newArray(dtype: DType, size: number): TypedArray {
  switch (dtype) {
    case 'float32':
      return new Float32Array(size);
    case 'float64':
      return new Float64Array(size);
    case 'int32':
      return new Int32Array(size);
    case 'bool':
      return new Uint8Array(size);
  }
}

/** `value` as an element of `dtype`; a bool is value ≠ 0. Throws a DTypeError where int32 cannot hold the value. */
export function toElement(op: string, value: number, dtype: DType): number {
  if (isFloat(dtype)) return value;
  if (dtype === 'bool') return value !== 0 ? 1 : 0;
  if (value !== (value | 0)) throw new DTypeError(`${op}: int32 holds integers −2³¹ … 2³¹−1, got ${value}`);
  return value;
}

/** The dtype that an array holds without conversion. A Uint8Array counts as bool only where its values are 0 and 1. */
export function dtypeOfArray(array: TypedArray): DType {
  if (array instanceof Float32Array) return 'float32';
  if (array instanceof Float64Array) return 'float64';
  if (array instanceof Int32Array) return 'int32';
  return 'bool';
}
