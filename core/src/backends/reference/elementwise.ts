/** Elementwise kernels of the reference backend. The functions themselves are in scalar.ts, their loops in rows.ts. */

import { sizeOf } from '../../shape.ts';
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

export function binary(kernel: BinaryKernel, a: Operand, b: Operand, out: Operand): void {
  const exact = out.dtype === 'int32' ? INT32.binary[kernel] : undefined;
  const loop = exact === undefined ? (FAST_BINARY[kernel] ?? binaryLoop(BINARY[kernel])) : binaryLoop(exact);
  const [p, q, target] = [a.storage.array, b.storage.array, out.storage.array];
  const size = sizeOf(out.shape);
  const [runA, runB] = [runStep(a, size), runStep(b, size)];
  if (runA !== null && runB !== null) {
    loop(p, a.offset, runA, q, b.offset, runB, target, 0, size);
    return;
  }
  const pathA = pathTo(a, out.shape);
  const pathB = pathTo(b, out.shape);
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
