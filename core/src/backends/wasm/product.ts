/** Matrix products of the `wasm` backend. */

import { bytesPerElement, isFloat } from '../../dtype.ts';
import { broadcastStrides, type Layout, sizeOf } from '../../shape.ts';
import type { Operand } from '../backend.ts';
import * as reference from '../reference/product.ts';
import { walkRows } from '../walk.ts';
import type { Context } from './context.ts';
import { resident, rowMajor } from './memory.ts';
import { addressOf, inMemory } from './region.ts';

/** Rows of the matrices of a batch below which `gram` rather copies them into one: then a product each takes longer. */
const SHORT = 32;

/** `accumulate` adds to what `out`, in this memory, holds. */
export function gram(c: Context, x: Operand, out: Operand, accumulate = false): void {
  if (!inMemory(out)) return reference.gram(x, out);
  const { exports, scratch } = c.kernels;
  const product = out.dtype === 'float32' ? exports.ssyrk : exports.dsyrk;
  const [m, n] = x.shape.slice(-2) as [number, number];
  const batch = x.shape.length === 3 ? x.shape[0]! : 1;
  const even = asMatrix(x) ?? (m < SHORT ? asMatrix(rowMajor(c, x))! : null);
  if (even !== null) {
    const rows = resident(c, even);
    product(
      n,
      batch * m,
      addressOf(rows),
      rows.strides[1]!,
      rows.strides[0]!,
      addressOf(out),
      n,
      accumulate ? 1 : 0,
      scratch,
    );
    return;
  }
  const entries = resident(c, x);
  const [step, row, column] = entries.strides as [number, number, number];
  const [from, to] = [addressOf(entries), addressOf(out)];
  const bytes = step * bytesPerElement(out.dtype);
  for (let i = 0; i < batch; i++)
    product(n, m, from + i * bytes, column, row, to, n, accumulate || i > 0 ? 1 : 0, scratch);
}

export function linear(c: Context, x: Operand, weight: Operand, bias: Operand | null, out: Operand): void {
  if (!inMemory(out)) return reference.linear(x, weight, bias, out);
  // Many rows against one matrix are one product: the rows must lie at equal distances.
  const rows = x.shape.length === 2 ? resident(c, x) : rowMajor(c, x);
  const [w, b] = [resident(c, weight), bias && rowMajor(c, bias)];
  const { exports, scratch } = c.kernels;
  const product = out.dtype === 'float32' ? exports.sgemm : exports.dgemm;
  const [n, k] = weight.shape as [number, number];
  const m = k === 0 ? sizeOf(out.shape) / Math.max(1, n) : sizeOf(x.shape) / k;
  const [xRow, xColumn] = x.shape.length === 2 ? [rows.strides[0]!, rows.strides[1]!] : [k, 1];
  const [px, pw, pb, po] = [addressOf(rows), addressOf(w), b === null ? 0 : addressOf(b), addressOf(out)];
  product(m, n, k, px, xRow, xColumn, pw, w.strides[1]!, w.strides[0]!, po, n, pb, 0, 0, 1, 0, 0, 0, scratch);
}

export function matmul(c: Context, a: Operand, b: Operand, out: Operand): void {
  if (!isFloat(out.dtype) || !inMemory(out)) {
    reference.matmul(a, b, out);
    return;
  }
  const [left, right] = [resident(c, a), resident(c, b)];
  const { exports, scratch } = c.kernels;
  const product = out.dtype === 'float32' ? exports.sgemm : exports.dgemm;
  const bytes = bytesPerElement(out.dtype);
  const rank = out.shape.length;
  const [m, n, k] = [out.shape[rank - 2]!, out.shape[rank - 1]!, a.shape.at(-1)!];
  const [aRow, aColumn] = left.strides.slice(-2) as [number, number];
  const [bRow, bColumn] = right.strides.slice(-2) as [number, number];
  const [pa, pb, pc] = [addressOf(left), addressOf(right), addressOf(out)];
  // NOTE: spread arguments would cost 0.25 µs a call.
  const run = (count: number, aAt: number, aBatch: number, bAt: number, bBatch: number, entry: number) => {
    const [p, q, c] = [pa + aAt * bytes, pb + bAt * bytes, pc + entry * m * n * bytes];
    product(m, n, k, p, aRow, aColumn, q, bRow, bColumn, c, n, 0, 0, 0, count, aBatch, bBatch, m * n, scratch);
  };
  if (rank === 2) {
    run(1, 0, 0, 0, 0, 0);
    return;
  }
  // The entries of a row of the batch lie at equal distances in every operand: one call a row.
  const batch = out.shape.slice(0, -2);
  const [pathA, pathB] = [batchPath(left, batch), batchPath(right, batch)];
  const [aStep, bStep] = [pathA.strides.at(-1)!, pathB.strides.at(-1)!];
  walkRows(batch, [pathA, pathB], (entry, at) => run(batch.at(-1)!, at[0]!, aStep, at[1]!, bStep, entry));
}

/** x [N, T, C] as one matrix [N·T, C], and a matrix as it is; null where the rows do not lie at equal distances. */
function asMatrix({ storage, dtype, shape, strides, offset }: Operand): Operand | null {
  if (shape.length === 2) return { storage, dtype, shape, strides, offset };
  const [n, t, c] = shape as [number, number, number];
  const [step, row, column] = strides as [number, number, number];
  if (n > 1 && t > 1 && step !== t * row) return null;
  return { storage, dtype, shape: [n * t, c], strides: [t === 1 ? step : row, column], offset };
}

/** The way through the batch axes of an operand of matmul, in elements from its first one. */
function batchPath(x: Layout, batch: readonly number[]): { strides: readonly number[]; offset: number } {
  const full = [...batch, ...x.shape.slice(-2)];
  return { strides: broadcastStrides('matmul', x, full).slice(0, -2), offset: 0 };
}
