/** Numbers and nested arrays as operands: they take the dtype that the tensor beside them suggests. */

import { full, tensor } from '../create.ts';
import { type DType, isFloat, toElement } from '../dtype.ts';
import { type Nested, Tensor } from '../tensor.ts';

/** An operand of a binary operation. */
export type TensorLike = Tensor | Nested;

/** Their results have no dtype that a number could change. */
const CONDITIONS = ['eq', 'ne', 'lt', 'le', 'gt', 'ge', 'and', 'or'];

/**
 * A JavaScript number is weak: beside a floating tensor it takes that dtype; beside int32 or bool it is int32 if it is
 * an integer, else float32. In comparisons it is float64 where int32 does not hold it, so that they are exact; elsewhere,
 * but in division, an integer beyond int32 is refused.
 */
export function asTensor(value: TensorLike, like: Tensor, op: string): Tensor {
  if (value instanceof Tensor) return value;
  const dtype = weakDtype(value, like.dtype, op);
  if (typeof value === 'number') return full([], value, { dtype, device: like.device });
  return tensor(value, { dtype, device: like.device });
}

function weakDtype(value: Nested, beside: DType, op: string): DType {
  if (isFloat(beside)) return beside;
  if (typeof value === 'object' && every(value, v => typeof v === 'boolean')) return beside;
  if (every(value, v => Number(v) === (Number(v) | 0))) return 'int32';
  if (CONDITIONS.includes(op)) return 'float64';
  if (op !== 'div' && every(value, v => Number.isInteger(v)))
    every(value, v => toElement(op, Number(v), 'int32') === v);
  return 'float32';
}

function every(value: Nested, holds: (v: number | boolean) => boolean): boolean {
  return typeof value === 'object' ? value.every(v => every(v, holds)) : holds(value);
}
