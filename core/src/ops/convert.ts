/** Numbers and nested arrays as operands: they take the dtype that the tensor beside them suggests. */

import { checkArgument, type Kind } from '../check.ts';
import { type DType, isFloat } from '../dtype.ts';
import { arrayLike, fullLike } from '../fill.ts';
import { fromNested, isRow } from '../nested.ts';
import { type Nested, type Tensor, TensorBase } from '../tensor.ts';

const anOperand: Kind = { expected: 'a tensor, a number or nested arrays of numbers', is: () => false };

/** An operand of a binary operation. */
export type TensorLike = Tensor | Nested;

/** Their results have no dtype that a number could change. */
const CONDITIONS = ['eq', 'ne', 'lt', 'le', 'gt', 'ge', 'and', 'or'];

/**
 * A JavaScript number is weak: beside a floating tensor it takes that dtype; beside int32 or bool it is int32 if it is
 * an integer, else float32. In comparisons it is float64 where int32 does not hold it, so that they are exact; elsewhere,
 * but in division, an integer beyond int32 is refused.
 */
export function asTensor(op: string, value: TensorLike, like: Tensor): Tensor {
  if (value instanceof TensorBase) return value;
  if (typeof value === 'number') return fullLike(op, like, value, [], weakDtype(op, value, like.dtype));
  if (typeof value !== 'boolean' && !Array.isArray(value)) checkArgument(op, 'operand', value, anOperand);
  const { data, shape } = fromNested(op, value, weakDtype(op, value, like.dtype));
  return arrayLike(like, data, shape);
}

/**
 * A number as kernels take it beside a tensor of `dtype`, an element of that or of int32; null where it is neither, and needs a
 * tensor of another dtype.
 */
export function numberBeside(dtype: DType, value: number): number | null {
  if (dtype === 'float32') return Math.fround(value);
  if (dtype === 'float64') return value;
  const whole = value | 0;
  return whole === value ? whole : null;
}

function weakDtype(op: string, value: Nested, beside: DType): DType {
  if (isFloat(beside)) return beside;
  if (typeof value !== 'number' && every(value, v => typeof v === 'boolean')) return beside;
  const [fits, whole] = [(v: unknown) => typeof v === 'number' && v === (v | 0), Number.isInteger];
  if (CONDITIONS.includes(op)) return every(value, fits) ? 'int32' : 'float64';
  return every(value, op === 'div' ? fits : whole) ? 'int32' : 'float32';
}

function every(value: unknown, holds: (v: unknown) => boolean): boolean {
  // What is no number at all is for `fromNested` to refuse.
  return isRow(value) ? Array.prototype.every.call(value, v => every(v, holds)) : holds(value);
}
