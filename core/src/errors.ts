/** Errors of the engine. Each message names the operation, what it expected and what came. */

import type { DType } from './dtype.ts';

/** Shapes that do not fit an operation, or an axis or index out of range. */
export class ShapeError extends Error {
  override name = 'ShapeError';
}

/** A dtype that an operation does not take. */
export class DTypeError extends Error {
  override name = 'DTypeError';
}

/** Misuse of the autograd graph: no graph, a freed one, or a value changed after it was saved. */
export class GraphError extends Error {
  override name = 'GraphError';
}

/** The values of a tensor were given back, by `scope` or by `release`. */
export class ReleasedError extends Error {
  override name = 'ReleasedError';
}

/** A file or buffer that is not what its format promises. */
export class FormatError extends Error {
  override name = 'FormatError';
}

/** The runtime refused the memory for a new tensor. */
export class OutOfMemoryError extends Error {
  override name = 'OutOfMemoryError';
}

/** `float32[2,3]`, as messages show a tensor. */
export function describe(x: { dtype: DType; shape: readonly number[] }): string {
  if (!x?.shape) throw new TypeError(`describe: expected a tensor, got ${String(x)}`);
  return `${x.dtype}[${x.shape.join(',')}]`;
}

/** What `read` throws on a device that is read with await. */
export const readError = (device: string): Error =>
  new TypeError(
    `read: tensors on '${device}' are read with await: await t.data(), await t.number() for one element, await t.array()`,
  );

/** What conversions of floats throw, or tell later, where int32 cannot hold one. */
export const int32Error = (value: number): Error =>
  new RangeError(`astype: int32 holds −2147483648 … 2147483647, got ${value}`);

/** What powers of int32 throw, or tell later, for an exponent below 0. */
export const powerError = (exponent: number): Error =>
  new RangeError(`pow: int32 takes exponents ≥ 0, got ${exponent}; use astype('float32') first`);

/** Makes the error for a bad value at a row-major position. */
export type BadValue = (position: number, value: number) => Error;

/** Throws `error` for the first of row-major `values` that is not good. */
export function checkEach(values: ArrayLike<number>, isGood: (value: number) => boolean, error: BadValue): void {
  for (let i = 0; i < values.length; i++) if (!isGood(values[i]!)) throw error(i, values[i]!);
}
