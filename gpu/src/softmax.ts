/** Softmax along an axis, its logarithm, and the gradients of both: one workgroup for each row along that axis. */

import type { Operand } from '@otimes/core';
import { sizeOf } from '@otimes/core/extend';
import { type Context, kernelOf, memoryOf } from './context.ts';
import { rowMajor } from './copy.ts';
import { constants, FINITE, GROUP, PER_GROUP, rowGroups, tensor, tree } from './wgsl.ts';

/** The rows of [outer, length, inner] along the middle: where one begins, and how far its elements are apart. */
const ROW = `
  ${GROUP}
  let isRow = row < p.rows;
  let at = (row / p.inner) * p.length * p.inner + row % p.inner;`;
const FIELDS = 'rows:u32, length:u32, inner:u32, a0:u32, b0:u32';
const TYPES = 'uuuuu';

const each = (body: string) =>
  `if (isRow) { for (var i = t; i < p.length; i += 64u) { let k = at + i * p.inner; ${body} } }`;

/** y of an element x, from the largest of the row and Σ exp(x − that). */
const forward = (y: string) => `${constants(FIELDS)}
${tensor(1, 'X')} ${tensor(2, 'Y', 'read_write')}
${FINITE}
var<workgroup> lanes : array<f32, 64>;
@compute @workgroup_size(64) fn main(${PER_GROUP}) {
  ${ROW}
  var acc = -inf_();
  ${each('let x = X[p.a0 + k]; acc = select(max(acc, x), nan_(), isnan_(acc) || isnan_(x));')}
  ${tree(64, (a, b) => `select(max(${a}, ${b}), nan_(), isnan_(${a}) || isnan_(${b}))`)}
  // A row of −∞ alone: exp(−∞ − 0) = 0, so the result is 0/0 = NaN, as it should be.
  let top = select(lanes[0], 0.0, lanes[0] == -inf_());
  workgroupBarrier();
  acc = 0.0;
  ${each('acc += exp(X[p.a0 + k] - top);')}
  ${tree(64, (a, b) => `${a} + ${b}`)}
  let sum = lanes[0];
  ${each(`let x = X[p.a0 + k]; Y[k] = ${y};`)}
}`;

/** The gradient of an element from gy = g, the result y and the row's sum of `term`. */
const backward = (term: string, gradient: string) => `${constants(FIELDS)}
${tensor(1, 'G')} ${tensor(2, 'R')} ${tensor(3, 'Y', 'read_write')}
${FINITE}
var<workgroup> lanes : array<f32, 64>;
@compute @workgroup_size(64) fn main(${PER_GROUP}) {
  ${ROW}
  var acc = 0.0;
  ${each(`let g = G[p.a0 + k]; let y = R[p.b0 + k]; acc += ${term};`)}
  ${tree(64, (a, b) => `${a} + ${b}`)}
  let sum = lanes[0];
  ${each(`let g = G[p.a0 + k]; let y = R[p.b0 + k]; Y[k] = ${gradient};`)}
}`;

const CODE = {
  softmax: forward('exp(x - top) / sum'),
  logSoftmax: forward('(x - top) - log(sum)'),
  softmaxGrad: backward('g * y', 'y * (g - sum)'),
  logSoftmaxGrad: backward('g', 'g - exp(y) * sum'),
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
  const values = [rows, length, sizeOf(out.shape.slice(axis + 1)), all[0]!.offset, all[1]?.offset ?? 0];
  c.commands.dispatch(kernel, [...all, out].map(memoryOf), values, rowGroups(rows));
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
