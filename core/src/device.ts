/** The part of a backend that keeps elements, which is all that a storage uses of it: memory, copies in and out. No kernels. */

import type { DType, TypedArray } from './dtype.ts';
import { DTypeError } from './errors.ts';
import type { Layout } from './shape.ts';
import type { Storage } from './storage.ts';

/**
 * Memory that a backend keeps outside of ordinary arrays. Most regions are never released: the tensors over them become unreachable.
 * A backend whose memory the garbage collector does not reach frees it then, by `Tracker` of `@otimes/kernels` or a
 * FinalizationRegistry.
 */
export interface Region {
  /** Elements. */
  readonly size: number;
  /** The elements themselves, as long as no other region is allocated. On a device that is read with await it throws. */
  readonly array: TypedArray;
  /** Gives the memory back now, instead of when the region can no longer be reached. */
  release(): void;
}

/** A tensor as kernels see it. */
export interface Operand extends Layout {
  readonly storage: Storage;
  readonly dtype: DType;
}

/** The part of a `Backend` that keeps elements. */
export interface Device {
  /** The name that `Tensor.device` shows and `to` takes. */
  readonly device: string;
  /** True if kernels also take ordinary arrays as the memory of a storage: ndarrays then come in without a copy. */
  readonly onHost: boolean;
  /**
   * The dtypes that its elements can have; all by default. A tensor of another one is refused when it is made. float32, int32 and
   * bool must be among them: positions are int32, conditions bool.
   */
  readonly dtypes?: readonly DType[];

  /** Memory for `size` elements, with any content. */
  allocate(dtype: DType, size: number): TypedArray | Region;
  /** Memory with the elements of `data`, which nobody else writes to: a copy, or `data` itself. */
  store(data: TypedArray): TypedArray | Region;
  /** A copy of the elements in row-major order. A device that is read with await throws; it has `readAsync`. */
  read(x: Operand): TypedArray;
  /**
   * The same, in the order of the calls, on a device that cannot be read at once. Rejects with the first check that failed
   * before this call and was not told yet, and clears that failure. With `peek` it rejects too, but the failure stays for
   * another read to tell. Left out by devices whose `read` works.
   */
  readAsync?(x: Operand, peek?: boolean): Promise<TypedArray>;
}

/** Throws a DTypeError if the device has no such elements. */
export function checkDType({ device, dtypes }: Device, dtype: DType): void {
  if (dtypes === undefined || dtypes.includes(dtype)) return;
  throw new DTypeError(
    `device '${device}' has no ${dtype}, only ${dtypes.join(', ')}: convert with astype, or use another device`,
  );
}

/** The dtype of statistics that are to be better than float32: float64 where the device has it. */
export const widestFloat = ({ dtypes }: Device): 'float32' | 'float64' =>
  dtypes === undefined || dtypes.includes('float64') ? 'float64' : 'float32';
