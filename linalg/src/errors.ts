// The errors of this package: operation, expectation, what came, as in
// `matmul: inner dimensions differ: float64[2,3] and float64[4,5]`.
import type { AnyNdArray } from './ndarray.ts';

/** dtype and shape of an array, as error messages name it: `float64[2,3]`. */
export const describe = (a: AnyNdArray): string => `${a.dtype}[${a.shape.join(',')}]`;

export function fail(operation: string, expectation: string, ...came: string[]): never {
  throw new Error(`${operation}: ${expectation}: ${came.join(' and ')}`);
}

/** A Cholesky pivot was not positive. `pivot` is its row, `value` what stood under the square root. */
export class NotPositiveDefiniteError extends Error {
  readonly pivot: number;
  readonly value: number;

  constructor(operation: string, came: string, pivot: number, value: number) {
    super(`${operation}: expected a positive definite matrix: pivot ${pivot} of ${came} is ${value}`);
    this.name = 'NotPositiveDefiniteError';
    this.pivot = pivot;
    this.value = value;
  }
}
