/** Numbers and nested arrays as operands: they take the dtype that the tensor beside them suggests. */

import { checkArgument, type Kind } from '../check.ts';
import { type DType, isFloat } from '../dtype.ts';
import { arrayLike, fullLike } from '../fill.ts';
import { fromNested } from '../nested.ts';
import { type Nested, type Tensor, TensorBase } from '../tensor.ts';

const anOperand: Kind = { expected: 'a tensor, a number or nested arrays of numbers', is: () => false };

/** An operand of a binary operation. */
export type TensorLike = Tensor | Nested;

/**
 * A JavaScript number is weak: beside a floating tensor it takes that dtype; beside int32 or bool it is int32 if it is
 * an integer, else float32.
 */
export function asTensor(op: string, value: TensorLike, like: Tensor): Tensor {
  if (value instanceof TensorBase) return value;
  if (typeof value === 'number') return fullLike(op, like, value, [], weakNumber(value, like.dtype));
  if (typeof value !== 'boolean' && !Array.isArray(value)) checkArgument(op, 'operand', value, anOperand);
  const { data, shape } = fromNested(op, value, weakDtype(value, like.dtype));
  return arrayLike(like, data, shape);
}

function weakNumber(value: number, beside: DType): DType {
  if (isFloat(beside)) return beside;
  return Number.isInteger(value) ? 'int32' : 'float32';
}

function weakDtype(value: Nested, beside: DType): DType {
  if (isFloat(beside)) return beside;
  if (every(value, v => typeof v === 'boolean')) return beside;
  return every(value, v => Number.isInteger(v)) ? 'int32' : 'float32';
}

function every(value: Nested, holds: (v: number | boolean) => boolean): boolean {
  return typeof value === 'object' ? value.every(v => every(v, holds)) : holds(value);
}
