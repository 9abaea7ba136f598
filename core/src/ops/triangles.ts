/** Triangles and diagonals of matrices, and of stacks of them. */

import { anInteger, checkArgument } from '../check.ts';
import { describe, ShapeError } from '../errors.ts';
import { arrayLike, fullLike } from '../fill.ts';
import { defineOp, type Op } from '../op.ts';
import { type Layout, normalizeAxis, type Shape } from '../shape.ts';
import { checkTensors, type Tensor } from '../tensor.ts';
import { ge, le, where } from './elementwise.ts';
import { sum } from './reduce.ts';

/** Where column − row ≤ k (≥ k for `upper`) in the last two axes, as bool [rows, columns]. */
function triangle(op: string, x: Tensor, k: number, upper: boolean): Tensor {
  checkTensors(op, x);
  checkArgument(op, 'k', k, anInteger);
  if (x.rank < 2) throw new ShapeError(`${op}: expected a matrix or a stack of them, got ${describe(x)}`);
  const [rows, columns] = x.shape.slice(-2) as [number, number];
  const column = arrayLike(
    x,
    Int32Array.from({ length: columns }, (_, j) => j),
    [columns],
  );
  // A diagonal that lies outside is like the first one outside, which int32 holds.
  const near = Math.max(-rows - 1, Math.min(columns + 1, k));
  const row = arrayLike(
    x,
    Int32Array.from({ length: rows }, (_, i) => i + near),
    [rows, 1],
  );
  return upper ? ge(column, row) : le(column, row);
}

/** The lower triangle of the last two axes: 0 above the diagonal k, which is k places above the main one (default 0). */
export function tril(x: Tensor, k = 0): Tensor {
  return where(triangle('tril', x, k, false), x, fullLike('tril', x, 0));
}

/** The upper triangle of the last two axes: 0 below the diagonal k, which is k places above the main one (default 0). */
export function triu(x: Tensor, k = 0): Tensor {
  return where(triangle('triu', x, k, true), x, fullLike('triu', x, 0));
}

type Diagonal = { readonly k: number; readonly a: number; readonly b: number };

/** The diagonal with index (i, i + k) in axes a and b, as the last axis. */
function layoutOf(x: Layout, { k, a, b }: Diagonal): Layout {
  const [down, right] = [Math.max(0, -k), Math.max(0, k)];
  const length = Math.max(0, Math.min(x.shape[a]! - down, x.shape[b]! - right));
  const others = x.shape.map((_, i) => i).filter(i => i !== a && i !== b);
  return {
    shape: [...others.map(i => x.shape[i]!), length],
    strides: [...others.map(i => x.strides[i]!), x.strides[a]! + x.strides[b]!],
    offset: length === 0 ? x.offset : x.offset + down * x.strides[a]! + right * x.strides[b]!,
  };
}

const diagonalView: Op<Diagonal> = defineOp<Diagonal>({
  name: 'diagonal',
  view: layoutOf,
  backward: (gy, { inputs, attrs }) => [place([gy], { into: inputs[0]!.shape, on: attrs })],
});

/** Zeros but for that diagonal. */
const place: Op<{ into: Shape; on: Diagonal }> = defineOp<{ into: Shape; on: Diagonal }>({
  name: 'diagEmbed',
  shape: ([x], { into }) => ({ shape: into, dtype: x!.dtype }),
  forward(backend, [x], out, { on }) {
    backend.fill(0, out);
    const { shape, strides, offset } = layoutOf(out, on);
    backend.assign(out.make(out.storage, shape, strides, offset), x!);
  },
  backward: (gy, { attrs }) => [diagonalView([gy], attrs.on)],
});

function planeOf(op: string, k: number, a: number, b: number, rank: number): Diagonal {
  checkArgument(op, 'k', k, anInteger);
  const plane = { k, a: normalizeAxis(op, a, rank), b: normalizeAxis(op, b, rank) };
  if (plane.a === plane.b) throw new ShapeError(`${op}: expected two axes, got ${a} and ${b}, which are the same one`);
  return plane;
}

/**
 * A view of the elements with index (i, i + k) in axes `a` (default 0) and `b` (default 1), as the last axis; `k` is 0 by default. For
 * stacks of matrices the axes are −2 and −1.
 */
export function diagonal(x: Tensor, k = 0, a = 0, b = 1): Tensor {
  checkTensors('diagonal', x);
  if (x.rank < 2) throw new ShapeError(`diagonal: expected at least two axes, got ${describe(x)}`);
  return diagonalView([x], planeOf('diagonal', k, a, b, x.rank));
}

/**
 * The last axis of `x` as the diagonals k (default 0) of square matrices, 0 elsewhere. They lie in the axes `a` (default −2) and `b`
 * (default −1) of the result: x [..., n] → [..., n + |k|, n + |k|].
 */
export function diagEmbed(x: Tensor, k = 0, a = -2, b = -1): Tensor {
  checkTensors('diagEmbed', x);
  if (x.rank === 0) throw new ShapeError(`diagEmbed: expected at least one axis, got ${describe(x)}`);
  const on = planeOf('diagEmbed', k, a, b, x.rank + 1);
  const side = x.shape.at(-1)! + Math.abs(k);
  const lead = [...x.shape.slice(0, -1)];
  const into = Array.from({ length: x.rank + 1 }, (_, i) => (i === on.a || i === on.b ? side : lead.shift()!));
  return place([x], { into, on });
}

/** The square matrix with a vector as its diagonal k (default 0), or the diagonal k of a matrix, a view. */
export function diag(x: Tensor, k = 0): Tensor {
  checkTensors('diag', x);
  checkArgument('diag', 'k', k, anInteger);
  if (x.rank === 1) return diagEmbed(x, k);
  if (x.rank === 2) return diagonal(x, k);
  throw new ShapeError(
    `diag: expected a vector or a matrix, got ${describe(x)}; diagEmbed and diagonal take stacks of them`,
  );
}

/** The sum of the diagonal of a matrix. Booleans count as 0 and 1. */
export function trace(x: Tensor): Tensor {
  checkTensors('trace', x);
  if (x.rank !== 2) throw new ShapeError(`trace: expected a matrix, got ${describe(x)}`);
  return sum(diagonal(x));
}
