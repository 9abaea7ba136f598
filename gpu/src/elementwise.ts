/** Elementwise kernels: float32 and bool by gpu.js, int32 and what looks at bits by templates of WGSL. */

import type { BinaryKernel, Operand, UnaryGradKernel, UnaryKernel } from '@otimes/core';
import { checkKernel } from './check.ts';
import { type Context, kernelOf, memoryOf, temporary } from './context.ts';
import { copied, copyWords } from './copy.ts';
import {
  BINARY,
  FLOAT_BINARY,
  FLOAT_POWER,
  FLOAT_UNARY,
  INT_BINARY,
  INT_POWER,
  INT_UNARY,
  UNARY,
  UNARY_GRAD,
  WHERE,
} from './functions.ts';
import { joined, led, sizeOf } from './layouts.ts';

import { AXES, constants, FINITE, FLAT, flatGroups, INDEX, tensor, walk, walkFields, walkTypes } from './wgsl.ts';

type Operands = Readonly<Record<string, Operand | number>>;

const isFloat = (x: Operand): boolean => x.dtype !== 'int32';
const isOperand = (x: Operand | number): x is Operand => typeof x !== 'number';

/** One buffer cannot be read and written in one dispatch: an operand that lies in the result is copied. */
const apart = (c: Context, x: Operand, out: Operand): Operand => (memoryOf(x) === memoryOf(out) ? copied(c, x) : x);

/** `x` as float32 words: itself unless it is int32. */
function asFloat(c: Context, x: Operand): Operand {
  if (isFloat(x)) return x;
  const out = temporary(c, 'float32', x.shape);
  copyWords(c, x, out);
  return out;
}

function asInt(c: Context, x: Operand): Operand {
  if (!isFloat(x)) return x;
  const out = temporary(c, 'int32', x.shape);
  copyWords(c, x, out);
  return out;
}

/** out ← `body`, a function body in JavaScript, of operands in f32 words and numbers, broadcast to the shape of `out`; by gpu.js. */
export function byGpuJs(c: Context, body: string, operands: Operands, out: Operand): void {
  const size = sizeOf(out.shape);
  if (size === 0) return;
  const names = Object.keys(operands).filter(name => isOperand(operands[name]!));
  const numbers = Object.keys(operands).filter(name => !names.includes(name));
  let all = names.map(name => apart(c, asFloat(c, operands[name] as Operand), out));
  let { shape, strides } = joined(out.shape, all);
  let { workgroup } = { workgroup: [64] as readonly number[] };
  if (
    shape.length > 3 ||
    (shape.length > 1 && shape.some((n, i) => n > 65535 * (i === 0 && shape.length === 3 ? 1 : 8)))
  ) {
    // More axes than gpu.js has: operands without gaps have one.
    all = all.map(x => {
      const packed = temporary(c, x.dtype, out.shape);
      copyWords(c, x, packed);
      return packed;
    });
    ({ shape, strides } = joined(out.shape, all));
  }
  const flat = shape.length < 2;
  const compiled = c.compiler.get(body, names, numbers, flat);
  workgroup = compiled.workgroup;
  const axes = flat ? 1 : 3;
  const lengths = led(shape, axes, 1).reverse();
  const groups = flat ? flatGroups(lengths[0]!) : lengths.map((n, i) => Math.ceil(n / workgroup[i]!));
  const values = [
    ...lengths,
    ...new Array<number>(3 - axes).fill(1),
    flat ? groups[0]! * 64 : 0,
    ...new Array<number>(compiled.pad).fill(0),
    ...numbers.map(name => operands[name] as number),
    ...all.flatMap((x, k) => [...led(strides[k]!, axes, 0).reverse(), x.offset]),
  ];
  c.commands.dispatch(compiled.kernel, [...all, out].map(memoryOf), values, groups);
}

/** out ← an expression in WGSL of one or two operands, all of them i32 or all of them f32 words. */
function byWgsl(c: Context, name: string, expression: string, operands: Operands, out: Operand, prelude = ''): void {
  const size = sizeOf(out.shape);
  if (size === 0) return;
  const names = Object.keys(operands);
  const tensors = names.filter(x => isOperand(operands[x]!));
  const ints = tensors.some(x => (operands[x] as Operand).dtype === 'int32');
  const word = ints ? 'i32' : 'f32';
  const key = `${word} ${name} of ${names.map(x => (tensors.includes(x) ? x : `number ${x}`)).join(', ')} to ${out.dtype}`;
  const kernel = kernelOf(c, key, () => ({
    code: `${constants(`n:u32, pad:u32, a_number:${word}, b_number:${word}, a0:i32, b0:i32, pad1:u32, pad2:u32, ${walkFields(['a', 'b'])}`)}
${tensors.map((x, i) => tensor(i + 1, `${x}_all`, 'read', word)).join(' ')}
${tensor(tensors.length + 1, 'Y', 'read_write', out.dtype === 'int32' ? 'i32' : 'f32')}
${FINITE} ${prelude}
@compute @workgroup_size(64) fn main(${FLAT}) {
  ${INDEX}
  if (i >= p.n) { return; }
  ${walk(['a', 'b'], ['a0', 'b0'])}
  ${names.map((x, k) => `let ${x} = ${tensors.includes(x) ? `${x}_all[${'ab'[k]}_at]` : `p.${'ab'[k]}_number`};`).join(' ')}
  Y[i] = ${expression};
}`,
    types: `uu${ints ? 'ii' : 'ff'}iiuu${walkTypes(2)}`,
  }));
  const all = tensors.map(x => apart(c, operands[x] as Operand, out));
  const { shape, strides } = joined(out.shape, all);
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
    led(shape, AXES, 1),
    steps(0),
    steps(1),
  ].flat();
  c.commands.dispatch(kernel, [...all, out].map(memoryOf), values, flatGroups(size));
}

export function unary(c: Context, kernel: UnaryKernel, x: Operand, out: Operand): void {
  const ofInt = out.dtype === 'int32' ? INT_UNARY[kernel] : undefined;
  if (ofInt !== undefined) return byWgsl(c, kernel, ofInt, { x: asInt(c, x) }, out);
  const ofBits = FLOAT_UNARY[kernel];
  if (ofBits !== undefined) return byWgsl(c, kernel, ofBits, { x: asFloat(c, x) }, out);
  const body = UNARY[kernel];
  if (body === undefined) throw new TypeError(`${kernel}: the device '${c.device}' has no such kernel`);
  byGpuJs(c, body, { x }, out);
}

export function unaryGrad(c: Context, kernel: UnaryGradKernel, gy: Operand, a: Operand, out: Operand): void {
  byGpuJs(c, UNARY_GRAD[kernel], { gy, a }, out);
}

export function binary(c: Context, kernel: BinaryKernel, a: Operand | number, b: Operand | number, out: Operand): void {
  const tensors = [a, b].filter(isOperand);
  const floats = tensors.some(x => x.dtype === 'float32') || (out.dtype === 'float32' && kernel === 'div');
  const bools = tensors.every(x => x.dtype === 'bool') && out.dtype === 'bool' && tensors.length === 2;
  if (floats || bools || out.dtype === 'float32') {
    const exact = FLOAT_BINARY[kernel];
    if (exact === undefined) return byGpuJs(c, BINARY[kernel]!, { a, b }, out);
    const [x, y] = [a, b].map(value => (isOperand(value) ? asFloat(c, value) : value)) as [Operand, Operand];
    return byWgsl(c, kernel, exact, { a: x, b: y }, out, kernel === 'pow' ? FLOAT_POWER : '');
  }
  const [x, y] = [a, b].map(value => (isOperand(value) ? asInt(c, value) : value)) as [Operand, Operand];
  if (kernel === 'pow') checkExponent(c, y);
  byWgsl(c, kernel, INT_BINARY[kernel]!, { a: x, b: y }, out, kernel === 'pow' ? INT_POWER : '');
}

function checkExponent(c: Context, b: Operand | number): void {
  const error = (_: number, value: number) =>
    new RangeError(`pow: int32 takes exponents ≥ 0, got ${value}; use astype('float32') first`);
  if (isOperand(b)) checkKernel(c, 'out of range', b, error, 0x7fffffff);
  else if (b < 0) throw error(0, b);
}

export function where(c: Context, condition: Operand, a: Operand, b: Operand, out: Operand): void {
  if (out.dtype !== 'int32') return byGpuJs(c, WHERE, { c: condition, a, b }, out);
  // Whole numbers beyond 2²⁴ do not survive as float32: both sides are taken as they are, and one is written.
  const [p, q] = [asInt(c, a), asInt(c, b)];
  selectWords(c, asFloat(c, condition), p, q, out);
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
  const { shape, strides } = joined(out.shape, all);
  const kernel = kernelOf(c, 'where i32', () => ({ code: SELECT, types: `uiii${walkTypes(3)}` }));
  const steps = [led(shape, AXES, 1), ...strides.map(s => led(s, AXES, 0))].flat();
  const values = [size, ...all.map(x => x.offset), ...steps];
  c.commands.dispatch(kernel, [...all, out].map(memoryOf), values, flatGroups(size));
}
