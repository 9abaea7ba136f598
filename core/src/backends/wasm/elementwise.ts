/** Elementwise kernels of the `wasm` backend. */

import { bytesPerElement, type DType } from '../../dtype.ts';
import { isContiguous, sizeOf } from '../../shape.ts';
import type { BinaryKernel, Operand, UnaryGradKernel, UnaryKernel } from '../backend.ts';
import * as reference from '../reference/elementwise.ts';
import { runStep } from '../walk.ts';
import type { Context, Tables } from './context.ts';
import { assign, pathTo, resident, rowMajor } from './memory.ts';
import { walkPlanes } from './planes.ts';
import { addressOf, inMemory } from './region.ts';

export function unary(c: Context, kernel: UnaryKernel, x: Operand, out: Operand): void {
  const predicate = out.dtype === 'bool';
  const run = c.unary[kernel][predicate ? x.dtype : out.dtype];
  // float32 does not hold int32 from 2²⁴ on.
  const rounds = x.dtype === 'int32' && out.dtype === 'float32';
  if (run === undefined || rounds || !inMemory(out)) return reference.unary(kernel, x, out);
  const size = sizeOf(out.shape);
  if (predicate || (x.dtype === out.dtype && isContiguous(x))) {
    const source = rowMajor(c, x);
    run(size, addressOf(source), addressOf(out));
    return;
  }
  assign(c, out, x);
  run(size, addressOf(out), addressOf(out));
}

export function unaryGrad(c: Context, kernel: UnaryGradKernel, gy: Operand, a: Operand, out: Operand): void {
  const run = c.slope[`${kernel}Backward`][out.dtype];
  if (run === undefined || !inMemory(out)) return reference.unaryGrad(kernel, gy, a, out);
  const [grads, at] = [rowMajor(c, gy), rowMajor(c, a)];
  run(sizeOf(out.shape), addressOf(grads), addressOf(at), addressOf(out));
}

type BinaryRun = NonNullable<Tables['binary'][BinaryKernel]['float32']>;

export function binary(c: Context, kernel: BinaryKernel, a: Operand | number, b: Operand | number, out: Operand): void {
  if (typeof a === 'number' || typeof b === 'number') return withNumber(c, kernel, a, b, out);
  const run = c.binary[kernel][a.dtype];
  if (run === undefined || a.dtype !== b.dtype || !inMemory(out)) return reference.binary(kernel, a, b, out);
  const [left, right] = [resident(c, a), resident(c, b)];
  const [pa, pb, pc] = [addressOf(left), addressOf(right), addressOf(out)];
  const size = sizeOf(out.shape);
  const [stepA, stepB] = [runStep(left, size), runStep(right, size)];
  if (stepA !== null && stepB !== null) {
    run(1, size, pa, 0, stepA, pb, 0, stepB, pc);
    return;
  }
  const [bytes, bytesOut] = [bytesPerElement(a.dtype), bytesPerElement(out.dtype)];
  walkPlanes(out.shape, [pathTo(left, out), pathTo(right, out)], (rows, cols, start, at, { row, col }) => {
    const [p, q] = [pa + at[0]! * bytes, pb + at[1]! * bytes];
    run(rows, cols, p, row[0]!, col[0]!, q, row[1]!, col[1]!, pc + start * bytesOut);
  });
}

/** One operand is a number: kernels read it where it stands still. */
function withNumber(c: Context, kernel: BinaryKernel, a: Operand | number, b: Operand | number, out: Operand): void {
  const x = typeof a === 'number' ? b : a;
  const run = typeof x === 'number' ? undefined : c.binary[kernel][x.dtype];
  // Beside bool it is int32, another dtype.
  if (typeof x === 'number' || run === undefined || x.dtype === 'bool' || !inMemory(out))
    return reference.binary(kernel, a, b, out);
  const source = resident(c, x);
  const number = putNumber(c, x.dtype, (x === a ? b : a) as number);
  const [px, pc, size] = [addressOf(source), addressOf(out), sizeOf(out.shape)];
  const step = runStep(source, size);
  if (step !== null) return besideNumber(run, x === a, 1, size, px, 0, step, number, pc);
  const [bytes, bytesOut] = [bytesPerElement(x.dtype), bytesPerElement(out.dtype)];
  walkPlanes(out.shape, [pathTo(source, out)], (rows, cols, start, at, { row, col }) =>
    besideNumber(run, x === a, rows, cols, px + at[0]! * bytes, row[0]!, col[0]!, number, pc + start * bytesOut),
  );
}

function besideNumber(
  run: BinaryRun,
  isSecond: boolean,
  rows: number,
  cols: number,
  x: number,
  row: number,
  col: number,
  number: number,
  out: number,
): void {
  if (isSecond) run(rows, cols, x, row, col, number, 0, 0, out);
  else run(rows, cols, number, 0, 0, x, row, col, out);
}

/** Puts a number operand into the scratch, which elementwise kernels leave alone; returns its address. */
function putNumber({ kernels: { memory, scratch } }: Context, dtype: DType, value: number): number {
  if (dtype === 'float32') memory.f32[scratch >>> 2] = value;
  else if (dtype === 'float64') memory.f64[scratch >>> 3] = value;
  else memory.i32[scratch >>> 2] = value;
  return scratch;
}

export function where(c: Context, condition: Operand, a: Operand, b: Operand, out: Operand): void {
  if (a.dtype !== out.dtype || b.dtype !== out.dtype || !inMemory(out)) return reference.where(condition, a, b, out);
  const run = c.other.where[out.dtype]!;
  const [which, left, right] = [resident(c, condition), resident(c, a), resident(c, b)];
  const [pc, pa, pb, po] = [addressOf(which), addressOf(left), addressOf(right), addressOf(out)];
  const bytes = bytesPerElement(out.dtype);
  const paths = [pathTo(which, out), pathTo(left, out), pathTo(right, out)];
  walkPlanes(out.shape, paths, (rows, cols, start, at, { row, col }) => {
    const [p, q] = [pa + at[1]! * bytes, pb + at[2]! * bytes];
    const to = po + start * bytes;
    run(rows, cols, pc + at[0]!, row[0]!, col[0]!, p, row[1]!, col[1]!, q, row[2]!, col[2]!, to);
  });
}
