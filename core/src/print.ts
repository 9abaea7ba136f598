/** How tensors look: in consoles, in template strings, and as JSON. Looking computes, allocates and records nothing. */

import { isFloat, type TypedArray } from './dtype.ts';
import { ShapeError } from './errors.ts';
import { contiguousStrides, sizeOf } from './shape.ts';
import type { TensorBase } from './tensor.ts';

/** A tensor of more elements shows this many at both ends of each axis, as in NumPy. */
const [WHOLE, EDGE] = [1000, 3];
const COLUMNS = 80;
/** Elements, beyond which JSON is no way to keep a tensor. */
const JSON_LIMIT = 2 ** 24;

type Part = string | readonly Part[];

/** `float32[2,3]`, with the device if it is not 'cpu', and whether gradients flow. */
function kindOf({ dtype, shape, device, requiresGrad }: TensorBase): string {
  return `${dtype}[${shape}]${device === 'cpu' ? '' : ` on '${device}'`}${requiresGrad ? ', requiresGrad' : ''}`;
}

/** Four significant digits, but integers whole, and an exponent where zeros would hide the number. */
function number(x: number): string {
  const size = Math.abs(x);
  if (!Number.isFinite(x) || (Number.isInteger(x) && size < 1e7)) return Object.is(x, -0) ? '-0' : String(x);
  const short = Number(x.toPrecision(4));
  return size < 1e-4 || size >= 1e4 ? short.toExponential() : String(short);
}

/** As the elements' values where they can be seen, else why not. One line with `brief`. */
export function print(x: TensorBase, brief = false): string {
  const { shape, dtype, size, storage } = x;
  const kind = kindOf(x);
  const seen = elementsOf(x);
  if (brief || typeof seen === 'string') return `tensor(${kind}${typeof seen === 'string' ? `, ${seen}` : ''})`;
  const strides = storage.backend.onHost ? x.strides : contiguousStrides(shape);
  let edge = size > WHOLE ? EDGE : size;
  // Of many axes, even three at each end are too many.
  while (edge > 1 && size > WHOLE && sizeOf(shape.map(n => Math.min(n, 2 * edge))) > WHOLE) edge--;
  let width = 0;
  const partOf = (axis: number, at: number): Part => {
    if (axis === shape.length) {
      const text = dtype === 'bool' ? `${seen[at] !== 0}` : isFloat(dtype) ? number(seen[at]!) : `${seen[at]}`;
      width = Math.max(width, text.length);
      return text;
    }
    const parts: Part[] = [];
    for (let i = 0; i < shape[axis]!; i++) {
      if (i === edge && shape[axis]! > 2 * edge) {
        parts.push('…');
        i = shape[axis]! - edge;
      }
      parts.push(partOf(axis + 1, at + i * strides[axis]!));
    }
    return parts;
  };
  // Brackets under each other, rows cut where the page ends.
  const layOut = (part: Part, axis: number): string => {
    if (typeof part === 'string') return part === '…' ? part : part.padStart(width);
    const start = ' '.repeat(8 + axis);
    let column = start.length;
    const cells = part.map((one, i) => {
      const text = layOut(one, axis + 1);
      if (axis < shape.length - 1) return i === 0 ? text : '\n'.repeat(shape.length - 1 - axis) + start + text;
      column += text.length + 2;
      if (i === 0) return text;
      if (column + shape.length <= COLUMNS) return ` ${text}`;
      column = start.length + text.length + 2;
      return `\n${start}${text}`;
    });
    return `[${cells.join()}]`;
  };
  const text = size === 0 ? '[]' : layOut(partOf(0, storage.backend.onHost ? x.offset : 0), 0);
  const last = text.length - text.lastIndexOf('\n') + 8;
  return `tensor(${text},${last + kind.length > COLUMNS ? '\n       ' : ' '}${kind})`;
}

/** The elements, or in words why they cannot be seen. */
function elementsOf(x: TensorBase): TypedArray | string {
  try {
    if (x.storage.backend.readAsync !== undefined) return 'to be read with await t.data()';
    const seen = x.storage.peek();
    if (typeof seen === 'string') return seen.split(';')[0]!;
    return x.storage.backend.onHost ? seen : x.storage.backend.read(x);
  } catch {
    return 'to be read with data()';
  }
}

/** What JSON has of a tensor: nested arrays, and 'NaN', 'Infinity' and '-Infinity' as text, since its numbers lack them. */
export type Json = number | boolean | string | readonly Json[];

export function toJson(x: TensorBase): Json {
  if (x.size > JSON_LIMIT)
    throw new ShapeError(`toJSON: ${kindOf(x)} has more than 2²⁴ elements; saveSafetensors keeps as many as there are`);
  const plain = (value: unknown): Json =>
    Array.isArray(value)
      ? value.map(plain)
      : typeof value === 'number' && !Number.isFinite(value)
        ? String(value)
        : (value as Json);
  return plain(x.toArray());
}
