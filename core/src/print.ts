/** How tensors look: in consoles, in template strings, and as JSON. Looking computes, allocates and records nothing. */

import { ShapeError } from './errors.ts';
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
  const kind = kindOf(x);
  const seen = elementsOf(x);
  if (brief || typeof seen === 'string') return `tensor(${kind}${typeof seen === 'string' ? `, ${seen}` : ''})`;
  const { shape, dtype, size } = x;
  const { data, strides, offset } = seen;
  let edge = size > WHOLE ? EDGE : Infinity;
  // Of many axes, even three at each end are too many.
  while (edge > 1 && size > WHOLE && shape.reduce((n, length) => n * Math.min(length, 2 * edge), 1) > WHOLE) edge--;
  let width = 0;
  const partOf = (axis: number, at: number): Part => {
    if (axis === shape.length) {
      const text = dtype === 'bool' ? String(data[at] !== 0) : dtype === 'int32' ? String(data[at]) : number(data[at]!);
      width = Math.max(width, text.length);
      return text;
    }
    const parts: Part[] = [];
    const length = shape[axis]!;
    for (let i = 0; i < length; i++) {
      if (length > 2 * edge && i === edge) {
        parts.push('…');
        i = length - edge;
      }
      parts.push(partOf(axis + 1, at + i * strides[axis]!));
    }
    return parts;
  };
  const text = size === 0 ? '[]' : layOut(partOf(0, offset), shape.length, 'tensor('.length, () => width);
  const last = text.length - text.lastIndexOf('\n') + 'tensor('.length;
  return `tensor(${text},${last + kind.length > COLUMNS ? '\n       ' : ' '}${kind})`;
}

/** Brackets under each other, rows cut at the width of the page. `rank` levels of brackets begin at column `indent`. */
function layOut(part: Part, rank: number, indent: number, width: () => number): string {
  if (typeof part === 'string') return part;
  const start = ' '.repeat(indent + 1);
  if (rank > 1) {
    const blocks = part.map(one => layOut(one, rank - 1, indent + 1, width));
    return `[${blocks.join(`,${'\n'.repeat(rank - 1)}${start}`)}]`;
  }
  let text = '[';
  let column = indent + 1;
  part.forEach((one, i) => {
    const cell = one === '…' ? one : String(one).padStart(width());
    if (i > 0 && column + 2 + cell.length >= COLUMNS) {
      text += `,\n${start}`;
      column = indent + 1;
    } else if (i > 0) {
      text += ', ';
      column += 2;
    }
    text += cell;
    column += cell.length;
  });
  return `${text}]`;
}

/** Where the elements lie, or in words why they cannot be seen. */
function elementsOf(x: TensorBase) {
  const { storage, strides, offset, shape } = x;
  try {
    const seen = storage.peek();
    if (typeof seen === 'string') return seen.split(';')[0]!;
    if (storage.backend.onHost) return { data: seen, strides, offset };
    const dense = shape.map((_, axis) => shape.slice(axis + 1).reduce((n, length) => n * length, 1));
    return { data: storage.backend.read(x), strides: dense, offset: 0 };
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
