/** Tensors that operations need beside their operands: on the device of one, and of its dtype unless told otherwise. */

import { type DType, dtypeOfArray, type TypedArray, toElement } from './dtype.ts';
import { contiguousStrides, type Shape, sizeOf } from './shape.ts';
import { allocate, storageOf } from './storage.ts';
import type { Tensor } from './tensor.ts';

/** Contiguous, with any content, for code that writes all of it. */
export function emptyLike(like: Tensor, shape: Shape = like.shape, dtype: DType = like.dtype): Tensor {
  return like.make(allocate(like.storage.backend, dtype, sizeOf(shape)), shape, contiguousStrides(shape));
}

/** `value` everywhere. Throws a DTypeError in the name of `op` where int32 cannot hold it. */
export function fullLike(
  op: string,
  like: Tensor,
  value: number,
  shape: Shape = [],
  dtype: DType = like.dtype,
): Tensor {
  const out = emptyLike(like, shape, dtype);
  out.storage.backend.fill(toElement(op, value, dtype), out);
  return out;
}

/** From an array that nobody else writes to: row-major, as long as `shape` says. */
export function arrayLike(like: Tensor, data: TypedArray, shape: Shape): Tensor {
  const { backend } = like.storage;
  return like.make(storageOf(backend, dtypeOfArray(data), data), shape, contiguousStrides(shape));
}
