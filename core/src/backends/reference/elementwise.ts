/** Elementwise kernels of the reference backend. The functions themselves are in scalar.ts, their loops in rows.ts. */

import { type Layout, sizeOf } from '../../shape.ts';
import type { BinaryKernel, Operand, UnaryGradKernel, UnaryKernel } from '../backend.ts';
import { lastStride, pathTo, rowMajor, runStep, walkRows } from '../walk.ts';
import { binaryLoop, FAST_BINARY, FAST_UNARY, unaryLoop } from './rows.ts';
import { BINARY, INT32, UNARY, UNARY_GRAD } from './scalar.ts';

export function unary(kernel: UnaryKernel, x: Operand, out: Operand): void {
  const exact = out.dtype === 'int32' ? INT32.unary[kernel] : undefined;
  const loop = FAST_UNARY[kernel] ?? unaryLoop(exact ?? UNARY[kernel]);
  loop(rowMajor(x), out.storage.array);
}

export function unaryGrad(kernel: UnaryGradKernel, gy: Operand, a: Operand, out: Operand): void {
  const [p, q, target] = [rowMajor(gy), rowMajor(a), out.storage.array];
  const f = UNARY_GRAD[kernel];
  for (let i = 0; i < p.length; i++) target[i] = f(p[i]!, q[i]!);
}

/** Numbers that are operands, as loops take them. */
const [numberA, numberB] = [new Float64Array(1), new Float64Array(1)];
const ONE: Layout = { shape: [], strides: [], offset: 0 };

export function binary(kernel: BinaryKernel, a: Operand | number, b: Operand | number, out: Operand): void {
  const exact = out.dtype === 'int32' ? INT32.binary[kernel] : undefined;
  const loop = exact === undefined ? (FAST_BINARY[kernel] ?? binaryLoop(BINARY[kernel])) : binaryLoop(exact);
  const size = sizeOf(out.shape);
  if (typeof a === 'number') numberA[0] = a;
  if (typeof b === 'number') numberB[0] = b;
  const p = typeof a === 'number' ? numberA : a.storage.array;
  const q = typeof b === 'number' ? numberB : b.storage.array;
  const target = out.storage.array;
  const [left, right] = [typeof a === 'number' ? ONE : a, typeof b === 'number' ? ONE : b];
  const [runA, runB] = [runStep(left, size), runStep(right, size)];
  if (runA !== null && runB !== null) {
    loop(p, left.offset, runA, q, right.offset, runB, target, 0, size);
    return;
  }
  const pathA = pathTo(left, out.shape);
  const pathB = pathTo(right, out.shape);
  const stepA = lastStride(pathA.strides);
  const stepB = lastStride(pathB.strides);
  const length = out.shape.at(-1) ?? 1;
  walkRows(out.shape, [pathA, pathB], (start, at) =>
    loop(p, at[0]!, stepA, q, at[1]!, stepB, target, start, start + length),
  );
}

export function where(condition: Operand, a: Operand, b: Operand, out: Operand): void {
  const [c, p, q, target] = [condition.storage.array, a.storage.array, b.storage.array, out.storage.array];
  const paths = [condition, a, b].map(x => pathTo(x, out.shape));
  const [stepC, stepA, stepB] = paths.map(path => lastStride(path.strides));
  const length = out.shape.at(-1) ?? 1;
  walkRows(out.shape, paths, (start, at) => {
    for (let k = 0; k < length; k++)
      target[start + k] = c[at[0]! + k * stepC!] !== 0 ? p[at[1]! + k * stepA!]! : q[at[2]! + k * stepB!]!;
  });
}
