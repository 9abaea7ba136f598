/** Cross-entropy over a batch: one kernel for the rows, one for their sum, one for the gradient. And the squared error. */

import type { Operand } from '@otimes/core';
import { type Context, kernelOf, memoryOf } from './context.ts';
import { rowMajor } from './copy.ts';
import { byGpuJs } from './elementwise.ts';
import { fill } from './memory.ts';
import { type Reduction, reduceBy } from './reduction.ts';
import { added, ROW_FIELDS, ROW_TYPES, rowMain, rowPlan } from './rows.ts';
import { POWERS } from './softmax.ts';
import { constants, FLAT, flatGroups, INDEX, tensor, tree } from './wgsl.ts';

/** stats [N, 2] ← the largest of each row of X [N, C], and the log of Σ exp(x − that). */
const ROW_STATS = `${constants(`${ROW_FIELDS}, x0:u32`)}
${tensor(1, 'X')} ${tensor(2, 'S', 'read_write')}
${rowMain(`${POWERS('X[p.x0 + k]')} if (is && lane == 0u) { S[2u * row] = top; S[2u * row + 1u] = log_(sum); }`)}`;

/** Y ← scale · Σ over the rows of top + log Σ − x[label]. One workgroup. */
const SUM = `${constants('x0:u32, l0:i32, step:i32, rows:u32, c:u32, scale:f32')}
${tensor(1, 'X')} ${tensor(2, 'L', 'read', 'i32')} ${tensor(3, 'S')} ${tensor(4, 'Y', 'read_write')}
var<workgroup> lanes : array<f32, 256>;
@compute @workgroup_size(256) fn main(@builtin(local_invocation_index) t : u32) {
  var acc = 0.0;
  for (var i = t; i < p.rows; i += 256u) {
    let label = u32(clamp(L[p.l0 + i32(i) * p.step], 0, i32(p.c) - 1));
    acc += (S[2u * i] - X[p.x0 + i * p.c + label]) + S[2u * i + 1u];
  }
  ${tree(256, (a, b) => `${a} + ${b}`)}
  if (t == 0u) { Y[0] = p.scale * lanes[0]; }
}`;

const GRAD = `${constants('g0:u32, x0:u32, l0:i32, step:i32, rows:u32, c:u32, scale:f32, s0:u32')}
${tensor(1, 'G')} ${tensor(2, 'X')} ${tensor(3, 'L', 'read', 'i32')} ${tensor(4, 'S')} ${tensor(5, 'Y', 'read_write')}
@compute @workgroup_size(64) fn main(${FLAT}) {
  ${INDEX}
  if (i >= p.rows * p.c) { return; }
  let row = i / p.c;
  let hit = select(0.0, 1.0, L[p.l0 + i32(row) * p.step] == i32(i % p.c));
  Y[i] = G[p.g0] * p.scale * (exp_((X[p.x0 + i] - S[2u * row]) - S[2u * row + 1u]) - hit);
}`;

export function crossEntropy(
  c: Context,
  x: Operand,
  labels: Operand,
  stats: Operand,
  scale: number,
  out: Operand,
): void {
  const [rows, classes] = x.shape as [number, number];
  if (rows * classes === 0) return fill(c, 0, out);
  const logits = rowMajor(c, x);
  const rowKernel = kernelOf(c, 'row stats', () => ({ code: ROW_STATS, types: `${ROW_TYPES}u` }));
  const plan = rowPlan(rows, classes, 1);
  c.commands.dispatch(rowKernel, [logits, stats].map(memoryOf), [...plan.values, logits.offset], plan.groups);
  const kernel = kernelOf(c, 'crossEntropy', () => ({ code: SUM, types: 'uiiuuf' }));
  const values = [logits.offset, labels.offset, labels.strides[0]!, rows, classes, scale];
  c.commands.dispatch(kernel, [logits, labels, stats, out].map(memoryOf), values, [1]);
}

export function crossEntropyGrad(
  c: Context,
  gy: Operand,
  x: Operand,
  labels: Operand,
  stats: Operand,
  scale: number,
  out: Operand,
): void {
  const [rows, classes] = x.shape as [number, number];
  if (rows * classes === 0) return;
  const logits = rowMajor(c, x);
  const values = [gy.offset, logits.offset, labels.offset, labels.strides[0]!, rows, classes, scale, 0];
  const kernel = kernelOf(c, 'crossEntropyGrad', () => ({ code: GRAD, types: 'uuiiuufu' }));
  const memories = [gy, logits, labels, stats, out].map(memoryOf);
  c.commands.dispatch(kernel, memories, values, flatGroups(rows * classes));
}

const SQUARES: Reduction = {
  name: 'squared error',
  type: 'f32',
  start: '0.0',
  join: added,
  element: '(x - y) * (x - y)',
  finish: ['p.scale * sum'],
};

/** out ← scale · Σ (a − b)² */
export function squaredError(c: Context, a: Operand, b: Operand, scale: number, out: Operand): void {
  reduceBy(c, SQUARES, { x: a, y: b }, a.shape, [...a.shape.keys()], [out], { scale });
}

/** out ← gy · scale · (a − b) */
export function squaredErrorGrad(c: Context, gy: Operand, a: Operand, b: Operand, scale: number, out: Operand): void {
  byGpuJs(c, 'return gy * scale * (a - b);', { gy, a, b, scale }, out);
}
