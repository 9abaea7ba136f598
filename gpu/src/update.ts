/** Updates in place. Each begins with a look at the status: once a check has failed nothing is written. */

import type { AdamOptions, MomentOptions, Operand, SgdOptions } from '@otimes/core';
import { sizeOf } from '@otimes/core/extend';
import { type Context, kernelOf, memoryOf } from './context.ts';
import { apart, copyWords, inWords, rowMajor } from './copy.ts';
import { joined, led } from './layouts.ts';
import { checkRange } from './memory.ts';
import { AXES, constants, FLAT, flatGroups, GUARD, INDEX, tensor, walk, walkFields, walkTypes } from './wgsl.ts';

export function assign(c: Context, y: Operand, x: Operand): void {
  checkRange(c, x, y);
  copyWords(c, apart(c, x, y), y, true);
}

/** Without the look at the status. */
export function restore(c: Context, y: Operand, x: Operand): void {
  copyWords(c, apart(c, x, y), y);
}

/** y ← keep y + α x (/ d), any layouts of up to eight axes that do not join. */
const addCode = (divided: boolean) => {
  const names = divided ? ['y', 'x', 'd'] : ['y', 'x'];
  return `${constants(`n:u32, alpha:f32, keep:f32, seen:u32, y0:i32, x0:i32, d0:i32, pad1:u32, ${walkFields(names)}`)}
${tensor(1, 'Y', 'read_write')} ${tensor(2, 'X')} ${tensor(3, 'D')} ${tensor(4, 'status', 'read', 'u32')}
@compute @workgroup_size(64) fn main(${FLAT}) {
  ${INDEX}
  if (i >= p.n) { return; }
  ${GUARD}
  ${walk(
    names,
    names.map(name => `${name}0`),
  )}
  Y[y_at] = p.keep * Y[y_at] + ${divided ? 'p.alpha * X[x_at] / D[d_at]' : 'p.alpha * X[x_at]'};
}`;
};

function add(c: Context, y: Operand, x: Operand, d: Operand | null, alpha: number, keep: number): void {
  const size = sizeOf(y.shape);
  if (size === 0) return;
  const others = (d === null ? [x] : [x, d]).map(z => apart(c, z, y));
  const { lengths, strides } = joined(y.shape, [y, ...others]);
  const kernel = kernelOf(c, d === null ? 'addScaled' : 'addcdiv', () => ({
    code: addCode(d !== null),
    types: `uffuiiiu${walkTypes(1 + others.length)}`,
  }));
  const steps = [led(lengths, AXES, 1), ...strides.map(s => led(s, AXES, 0))].flat();
  const values = [size, alpha, keep, c.commands.seen, y.offset, others[0]!.offset, others[1]?.offset ?? 0, 0, ...steps];
  const memories = [y, others[0]!, others[1] ?? others[0]!].map(memoryOf);
  c.commands.dispatch(kernel, [...memories, c.commands.status], values, flatGroups(size));
}

/** Of integers: computed beside, and written by `assign`. */
export const isFloat = (...all: readonly (Operand | null)[]): boolean =>
  all.every(x => x === null || x.dtype === 'float32');

export function addScaled(c: Context, y: Operand, x: Operand, alpha: number, keep: number): void {
  add(c, y, inWords(c, x, 'f32'), null, alpha, keep);
}

export function addcdiv(c: Context, y: Operand, x: Operand, d: Operand, value: number, keep: number): void {
  add(c, y, inWords(c, x, 'f32'), inWords(c, d, 'f32'), value, keep);
}

const SCALE = `${constants(`n:u32, beta:f32, y0:i32, seen:u32, ${walkFields(['y'])}`)}
${tensor(1, 'Y', 'read_write')} ${tensor(2, 'status', 'read', 'u32')}
@compute @workgroup_size(64) fn main(${FLAT}) {
  ${INDEX}
  if (i >= p.n) { return; }
  ${GUARD}
  ${walk(['y'], ['y0'])}
  Y[y_at] = p.beta * Y[y_at];
}`;

export function scale(c: Context, y: Operand, beta: number): void {
  const size = sizeOf(y.shape);
  if (size === 0) return;
  const { lengths, strides } = joined(y.shape, [y]);
  const kernel = kernelOf(c, 'scale', () => ({ code: SCALE, types: `ufiu${walkTypes(1)}` }));
  const values = [size, beta, y.offset, c.commands.seen, ...led(lengths, AXES, 1), ...led(strides[0]!, AXES, 0)];
  c.commands.dispatch(kernel, [memoryOf(y), c.commands.status], values, flatGroups(size));
}

/** v below 1e-36 becomes 0, so that no arithmetic on denormal numbers follows. */
const MOMENTS = `
  let m = p.beta1 * M[i] + (1.0 - p.beta1) * d;
  var v = p.beta2 * V[i] + (1.0 - p.beta2) * s;
  if (v < 1e-36) { v = 0.0; }
  M[i] = m; V[i] = v;
  let direction = (m / p.c1) / (sqrt(v / p.c2) + p.eps);`;
const ADAM_FIELDS =
  'n:u32, beta1:f32, beta2:f32, eps:f32, c1:f32, c2:f32, g0:u32, s0:u32, seen:u32, lr:f32, keep:f32, square:u32';
const ADAM_TYPES = 'ufffffuuuffu';

const ADAM = `${constants(ADAM_FIELDS)}
${tensor(1, 'W', 'read_write')} ${tensor(2, 'M', 'read_write')} ${tensor(3, 'V', 'read_write')} ${tensor(4, 'G')} ${tensor(5, 'status', 'read', 'u32')}
@compute @workgroup_size(64) fn main(${FLAT}) {
  ${INDEX}
  if (i >= p.n) { return; }
  ${GUARD}
  let d = G[p.g0 + i]; let s = d * d;
  ${MOMENTS}
  W[i] = p.keep * W[i] - p.lr * direction;
}`;
const DIRECTION = `${constants(ADAM_FIELDS)}
${tensor(1, 'M', 'read_write')} ${tensor(2, 'V', 'read_write')} ${tensor(3, 'G')} ${tensor(4, 'S')} ${tensor(5, 'Y', 'read_write')} ${tensor(6, 'status', 'read', 'u32')}
@compute @workgroup_size(64) fn main(${FLAT}) {
  ${INDEX}
  if (i >= p.n) { return; }
  ${GUARD}
  let d = G[p.g0 + i]; let s = select(S[p.s0 + i], d * d, p.square == 1u);
  ${MOMENTS}
  Y[i] = direction;
}`;

/** Whether memory begins at the start of its storage, as these kernels have it. */
export const atStart = (...all: readonly Operand[]): boolean => all.every(x => x.offset === 0);

/** The first nine of `ADAM_FIELDS`. */
const momentValues = (c: Context, size: number, o: MomentOptions, g: Operand, squares: Operand): number[] => [
  ...[size, o.beta1, o.beta2, o.eps, o.correction1, o.correction2],
  ...[g.offset, squares.offset, c.commands.seen],
];

export function adam(c: Context, p: Operand, m: Operand, v: Operand, g: Operand, o: AdamOptions): void {
  const size = sizeOf(p.shape);
  if (size === 0) return;
  const grad = apart(c, rowMajor(c, g), p, m, v);
  const values = [...momentValues(c, size, o, grad, grad), o.lr, o.keep, 1];
  const kernel = kernelOf(c, 'adam', () => ({ code: ADAM, types: ADAM_TYPES }));
  c.commands.dispatch(kernel, [...[p, m, v, grad].map(memoryOf), c.commands.status], values, flatGroups(size));
}

export function moments(
  c: Context,
  m: Operand,
  v: Operand,
  g: Operand,
  second: Operand | null,
  out: Operand,
  o: MomentOptions,
): void {
  const size = sizeOf(m.shape);
  if (size === 0) return;
  const [grad, squares] = [g, second ?? g].map(x => apart(c, rowMajor(c, x), m, v)) as [Operand, Operand];
  const flag = Number(second === null);
  const values = [...momentValues(c, size, o, grad, squares), 0, 0, flag];
  const kernel = kernelOf(c, 'moments', () => ({ code: DIRECTION, types: ADAM_TYPES }));
  const memories = [m, v, grad, squares, out].map(memoryOf);
  c.commands.dispatch(kernel, [...memories, c.commands.status], values, flatGroups(size));
}

const SGD = `${constants('n:u32, lr:f32, momentum:f32, gain:f32, bufferWeight:f32, gradientWeight:f32, g0:u32, seen:u32')}
${tensor(1, 'W', 'read_write')} ${tensor(2, 'B', 'read_write')} ${tensor(3, 'G')} ${tensor(4, 'status', 'read', 'u32')}
@compute @workgroup_size(64) fn main(${FLAT}) {
  ${INDEX}
  if (i >= p.n) { return; }
  ${GUARD}
  let g = G[p.g0 + i];
  var b = p.gain * g;
  if (p.momentum != 0.0) { b += p.momentum * B[i]; }
  B[i] = b;
  W[i] = W[i] - p.lr * (p.bufferWeight * b + p.gradientWeight * g);
}`;

export function sgd(c: Context, p: Operand, buf: Operand, g: Operand, o: SgdOptions): void {
  const size = sizeOf(p.shape);
  if (size === 0) return;
  const grad = apart(c, rowMajor(c, g), p, buf);
  const values = [size, o.lr, o.momentum, o.gain, o.bufferWeight, o.gradientWeight, grad.offset, c.commands.seen];
  const kernel = kernelOf(c, 'sgd', () => ({ code: SGD, types: 'ufffffuu' }));
  c.commands.dispatch(kernel, [...[p, buf, grad].map(memoryOf), c.commands.status], values, flatGroups(size));
}
