/** Products, running products and linear recurrences on the plain devices: in float64, rounded when they are stored. */

import { sizeOf } from '../../../shape.ts';
import type { Operand } from '../../backend.ts';
import { around, rowMajor } from '../../walk.ts';

export function prod(x: Operand, out: Operand): void {
  const [data, target] = [rowMajor(x), out.storage.array];
  const length = x.shape.at(-1)!;
  const rows = sizeOf(out.shape);
  const whole = out.dtype === 'int32';
  for (let r = 0, at = 0; r < rows; r++) {
    let product = 1;
    if (whole) for (let i = 0; i < length; i++, at++) product = Math.imul(product, data[at]!);
    else for (let i = 0; i < length; i++, at++) product *= data[at]!;
    target[r] = product;
  }
}

export function cumprod(x: Operand, axis: number, out: Operand): void {
  const [data, target] = [rowMajor(x), out.storage.array];
  const { before, length, after } = around(x.shape, axis);
  const whole = out.dtype === 'int32';
  if (after === 1 && !whole) {
    for (let b = 0, at = 0; b < before; b++) {
      let product = 1;
      for (let i = 0; i < length; i++, at++) {
        product *= data[at]!;
        target[at] = product;
      }
    }
    return;
  }
  const products = new Float64Array(after);
  for (let b = 0, at = 0; b < before; b++) {
    products.fill(1);
    for (let i = 0; i < length; i++)
      for (let j = 0; j < after; j++, at++) {
        products[j] = whole ? Math.imul(products[j]!, data[at]!) : products[j]! * data[at]!;
        target[at] = products[j]!;
      }
  }
}

export function recurrence(a: Operand, b: Operand, axis: number, out: Operand): void {
  const [factors, terms, target] = [rowMajor(a), rowMajor(b), out.storage.array];
  const { before, length, after } = around(a.shape, axis);
  const last = new Float64Array(after);
  for (let o = 0, at = 0; o < before; o++)
    for (let i = 0; i < length; i++)
      for (let j = 0; j < after; j++, at++) {
        // Nothing comes before the first one, whatever its factor is.
        last[j] = i === 0 ? terms[at]! : terms[at]! + factors[at]! * last[j]!;
        target[at] = last[j]!;
      }
}
