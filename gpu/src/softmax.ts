/** Softmax along an axis, its logarithm, and the gradients of both: kernels of rows. */

import type { Operand } from '@otimes/core';
import { sizeOf } from '@otimes/core/extend';
import { type Context, kernelOf, memoryOf } from './context.ts';
import { rowMajor } from './copy.ts';
import { added, each, gathered, joined, ROW_FIELDS, ROW_TYPES, rowMain, rowPlan } from './rows.ts';
import { constants, tensor } from './wgsl.ts';

const FIELDS = `${ROW_FIELDS}, a0:u32, b0:u32`;
const TYPES = `${ROW_TYPES}uu`;

/** Lines that leave the largest of a row in `top`, and Σ exp(x − that) in `sum`. */
export const POWERS = (x: string) => `
  var acc = -inf_();
  ${gathered(`acc = max_(acc, ${x});`)}
  ${joined('largest', (a, b) => `max_(${a}, ${b})`)}
  // A row of −∞ alone: exp(−∞ − 0) = 0, so the result is 0/0 = NaN, as it should be.
  let top = select(largest, 0.0, largest == -inf_());
  acc = 0.0;
  ${gathered(`acc += exp_(${x} - top);`)}
  ${joined('sum', added)}`;

/** y of an element x. */
const forward = (y: string) => `${constants(FIELDS)}
${tensor(1, 'X')} ${tensor(2, 'Y', 'read_write')}
${rowMain(`${POWERS('X[p.a0 + k]')} ${each(`let x = X[p.a0 + k]; Y[k] = ${y};`)}`)}`;

/** The gradient of an element from gy = g, the result y and the row's sum of `term`. */
const backward = (term: string, gradient: string) => `${constants(FIELDS)}
${tensor(1, 'G')} ${tensor(2, 'R')} ${tensor(3, 'Y', 'read_write')}
${rowMain(`
  var acc = 0.0;
  ${gathered(`let g = G[p.a0 + k]; let y = R[p.b0 + k]; acc += ${term};`)}
  ${joined('sum', added)}
  ${each(`let g = G[p.a0 + k]; let y = R[p.b0 + k]; Y[k] = ${gradient};`)}`)}`;

const CODE = {
  softmax: forward('div_(exp_(x - top), sum)'),
  logSoftmax: forward('(x - top) - log_(sum)'),
  softmaxGrad: backward('g * y', 'y * (g - sum)'),
  logSoftmaxGrad: backward('g', 'g - exp_(y) * sum'),
};

function alongRows(
  c: Context,
  name: keyof typeof CODE,
  operands: readonly Operand[],
  axis: number,
  out: Operand,
): void {
  if (sizeOf(out.shape) === 0) return;
  const all = operands.map(x => rowMajor(c, x));
  const length = out.shape[axis]!;
  const rows = sizeOf(out.shape) / length;
  const kernel = kernelOf(c, name, () => ({ code: CODE[name], types: TYPES }));
  const plan = rowPlan(rows, length, sizeOf(out.shape.slice(axis + 1)));
  const values = [...plan.values, all[0]!.offset, all[1]?.offset ?? 0];
  c.commands.dispatch(kernel, [...all, out].map(memoryOf), values, plan.groups);
}

export function softmax(c: Context, x: Operand, axis: number, out: Operand): void {
  alongRows(c, 'softmax', [x], axis, out);
}

export function logSoftmax(c: Context, x: Operand, axis: number, out: Operand): void {
  alongRows(c, 'logSoftmax', [x], axis, out);
}

export function softmaxGrad(c: Context, gy: Operand, y: Operand, axis: number, out: Operand): void {
  alongRows(c, 'softmaxGrad', [gy, y], axis, out);
}

export function logSoftmaxGrad(c: Context, gy: Operand, y: Operand, axis: number, out: Operand): void {
  alongRows(c, 'logSoftmaxGrad', [gy, y], axis, out);
}
