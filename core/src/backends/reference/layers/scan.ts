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
    let [p, q, u, v] = [1, 1, 1, 1];
    let i = 0;
    // Four at a time, none of which waits for another.
    if (!whole)
      for (; i + 3 < length; i += 4, at += 4) {
        p *= data[at]!;
        q *= data[at + 1]!;
        u *= data[at + 2]!;
        v *= data[at + 3]!;
      }
    let product = p * q * (u * v);
    for (; i < length; i++, at++) product = whole ? Math.imul(product, data[at]!) : product * data[at]!;
    target[r] = product;
  }
}

export function cumprod(x: Operand, axis: number, out: Operand): void {
  const [data, target] = [rowMajor(x), out.storage.array];
  const { before, length, after } = around(x.shape, axis);
  const whole = out.dtype === 'int32';
  if (after === 1 && !whole) {
    let b = 0;
    // Four rows at a time, none of which waits for another.
    for (; b + 3 < before; b += 4) {
      let [p, q, u, v] = [1, 1, 1, 1];
      for (let i = 0, at = b * length; i < length; i++, at++) {
        target[at] = p *= data[at]!;
        target[at + length] = q *= data[at + length]!;
        target[at + 2 * length] = u *= data[at + 2 * length]!;
        target[at + 3 * length] = v *= data[at + 3 * length]!;
      }
    }
    for (; b < before; b++) {
      let product = 1;
      for (let i = 0, at = b * length; i < length; i++, at++) target[at] = product *= data[at]!;
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
