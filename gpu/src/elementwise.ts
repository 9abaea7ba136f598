/** Elementwise kernels: float32 and bool by gpu.js, int32 by templates of WGSL. */

import type { BinaryKernel, Operand, UnaryGradKernel, UnaryKernel } from '@otimes/core';
import { powerError, sizeOf } from '@otimes/core/extend';
import { checkKernel } from './check.ts';
import { type Context, kernelOf, memoryOf } from './context.ts';
import { apart, copied, inWords } from './copy.ts';
import { BINARY, INT_BINARY, INT_POWER, INT_UNARY, UNARY, UNARY_GRAD, WHERE } from './functions.ts';
import { joined, led } from './layouts.ts';

import { AXES, constants, FLAT, flatGroups, INDEX, tensor, walk, walkFields, walkTypes } from './wgsl.ts';

type Operands = Readonly<Record<string, Operand | number>>;

const isOperand = (x: Operand | number): x is Operand => typeof x !== 'number';

/** Whether a kernel of gpu.js takes so many axes, of which the first of three is one workgroup for each place. */
const fits = (lengths: readonly number[]): boolean =>
  lengths.length < 2 ||
  (lengths.length <= 3 && lengths.every((n, i) => n <= 65535 * (i === 0 && lengths.length === 3 ? 1 : 8)));

/** out ← `body`, a function body in JavaScript, of operands in f32 words and numbers, broadcast to the shape of `out`; by gpu.js. */
export function byGpuJs(c: Context, body: string, operands: Operands, out: Operand): void {
  const size = sizeOf(out.shape);
  if (size === 0) return;
  const names = Object.keys(operands).filter(name => isOperand(operands[name]!));
  const numbers = Object.keys(operands).filter(name => !names.includes(name));
  let all = names.map(name => apart(c, inWords(c, operands[name] as Operand, 'f32'), out));
  let { lengths, strides } = joined(out.shape, all);
  if (!fits(lengths)) {
    // More than a kernel of gpu.js takes: operands without gaps have one axis.
    all = all.map(x => copied(c, x, out.shape));
    ({ lengths, strides } = joined(out.shape, all));
  }
  const flat = lengths.length < 2;
  const { kernel, workgroup, pad } = c.compiler.get(body, names, numbers, flat);
  const axes = flat ? 1 : 3;
  const output = led(lengths, axes, 1).reverse();
  const groups = flat ? flatGroups(output[0]!) : output.map((n, i) => Math.ceil(n / workgroup[i]!));
  const values = [
    ...output,
    ...new Array<number>(3 - axes).fill(1),
    flat ? groups[0]! * 64 : 0,
    ...new Array<number>(pad).fill(0),
    ...numbers.map(name => operands[name] as number),
    ...all.flatMap((x, k) => [...led(strides[k]!, axes, 0).reverse(), x.offset]),
  ];
  const takes = all.map((x, k) => x.offset === 0 && (size === 1 || strides[k]![0] === 1));
  const flow = flat ? { stores: all.length, count: size, takes: [...takes, false] } : null;
  c.commands.dispatch(kernel, [...all, out].map(memoryOf), values, groups, flow);
}

/** out ← an expression in WGSL of one or two operands in i32 words. */
function byWgsl(c: Context, name: string, expression: string, operands: Operands, out: Operand, prelude = ''): void {
  const size = sizeOf(out.shape);
  if (size === 0) return;
  const names = Object.keys(operands);
  const tensors = names.filter(x => isOperand(operands[x]!));
  const key = `int32 ${name} of ${names.map(x => (tensors.includes(x) ? x : `number ${x}`)).join(', ')} to ${out.dtype}`;
  const kernel = kernelOf(c, key, () => ({
    code: `${constants(`n:u32, pad:u32, a_number:i32, b_number:i32, a0:i32, b0:i32, pad1:u32, pad2:u32, ${walkFields(['a', 'b'])}`)}
${tensors.map((x, i) => tensor(i + 1, `${x}_all`, 'read', 'i32')).join(' ')}
${tensor(tensors.length + 1, 'Y', 'read_write', out.dtype === 'int32' ? 'i32' : 'f32')}
${prelude}
@compute @workgroup_size(64) fn main(${FLAT}) {
  ${INDEX}
  if (i >= p.n) { return; }
  ${walk(['a', 'b'], ['a0', 'b0'])}
  ${names.map((x, k) => `let ${x} = ${tensors.includes(x) ? `${x}_all[${'ab'[k]}_at]` : `p.${'ab'[k]}_number`};`).join(' ')}
  Y[i] = ${expression};
}`,
    types: `uuiiiiuu${walkTypes(2)}`,
  }));
  const all = tensors.map(x => apart(c, operands[x] as Operand, out));
  const { lengths, strides } = joined(out.shape, all);
  const of = (k: number) => tensors.indexOf(names[k] ?? '');
  const start = (k: number) => (of(k) < 0 ? 0 : all[of(k)]!.offset);
  const steps = (k: number) => led(of(k) < 0 ? [] : strides[of(k)]!, AXES, 0);
  const value = (k: number) => (typeof operands[names[k]!] === 'number' ? (operands[names[k]!] as number) : 0);
  const values = [
    size,
    0,
    value(0),
    value(1),
    start(0),
    start(1),
    0,
    0,
    led(lengths, AXES, 1),
    steps(0),
    steps(1),
  ].flat();
  c.commands.dispatch(kernel, [...all, out].map(memoryOf), values, flatGroups(size));
}

export function unary(c: Context, kernel: UnaryKernel, x: Operand, out: Operand): void {
  const ofInt = out.dtype === 'int32' ? INT_UNARY[kernel] : undefined;
  if (ofInt !== undefined) return byWgsl(c, kernel, ofInt, { x: inWords(c, x, 'i32') }, out);
  byGpuJs(c, UNARY[kernel], { x }, out);
}

export function unaryGrad(c: Context, kernel: UnaryGradKernel, gy: Operand, a: Operand, out: Operand): void {
  byGpuJs(c, UNARY_GRAD[kernel], { gy, a }, out);
}

export function binary(c: Context, kernel: BinaryKernel, a: Operand | number, b: Operand | number, out: Operand): void {
  const tensors = [a, b].filter(isOperand);
  const floats = tensors.some(x => x.dtype === 'float32') || (out.dtype === 'float32' && kernel === 'div');
  const bools = tensors.every(x => x.dtype === 'bool') && out.dtype === 'bool' && tensors.length === 2;
  if (floats || bools || out.dtype === 'float32') return byGpuJs(c, BINARY[kernel], { a, b }, out);
  const [x, y] = [a, b].map(value => (isOperand(value) ? inWords(c, value, 'i32') : value)) as [Operand, Operand];
  if (kernel === 'pow') checkExponent(c, y);
  byWgsl(c, kernel, INT_BINARY[kernel]!, { a: x, b: y }, out, kernel === 'pow' ? INT_POWER : '');
}

function checkExponent(c: Context, b: Operand | number): void {
  if (isOperand(b)) checkKernel(c, 'negative', b, (_, value) => powerError(value));
  else if (b < 0) throw powerError(b);
}

export function where(c: Context, condition: Operand, a: Operand, b: Operand, out: Operand): void {
  if (out.dtype !== 'int32') return byGpuJs(c, WHERE, { c: condition, a, b }, out);
  // Whole numbers beyond 2²⁴ do not survive as float32: both sides are taken as they are, and one is written.
  const [p, q] = [a, b].map(x => inWords(c, x, 'i32')) as [Operand, Operand];
  selectWords(c, inWords(c, condition, 'f32'), p, q, out);
}

const SELECT = `${constants(`n:u32, c0:i32, a0:i32, b0:i32, ${walkFields(['c', 'a', 'b'])}`)}
${tensor(1, 'C')} ${tensor(2, 'A', 'read', 'i32')} ${tensor(3, 'B', 'read', 'i32')} ${tensor(4, 'Y', 'read_write', 'i32')}
@compute @workgroup_size(64) fn main(${FLAT}) {
  ${INDEX}
  if (i >= p.n) { return; }
  ${walk(['c', 'a', 'b'], ['c0', 'a0', 'b0'])}
  Y[i] = select(B[b_at], A[a_at], C[c_at] != 0.0);
}`;

function selectWords(c: Context, condition: Operand, a: Operand, b: Operand, out: Operand): void {
  const size = sizeOf(out.shape);
  if (size === 0) return;
  const all = [condition, a, b].map(x => apart(c, x, out));
  const { lengths, strides } = joined(out.shape, all);
  const kernel = kernelOf(c, 'where i32', () => ({ code: SELECT, types: `uiii${walkTypes(3)}` }));
  const steps = [led(lengths, AXES, 1), ...strides.map(s => led(s, AXES, 0))].flat();
  const values = [size, ...all.map(x => x.offset), ...steps];
  c.commands.dispatch(kernel, [...all, out].map(memoryOf), values, flatGroups(size));
}
