/** Products: tiles in workgroup memory, t × t results in the registers of each thread. */

import type { Operand } from '@otimes/core';
import { sizeOf, transposed, withLayout } from '@otimes/core/extend';
import { type Context, kernelOf, memoryOf } from './context.ts';
import { copied, inWords, rowMajor } from './copy.ts';
import { joined } from './layouts.ts';
import { fill } from './memory.ts';
import { constants, tensor, times, type Word } from './wgsl.ts';

const FIELDS =
  'm:u32, n:u32, k:u32, bias:u32, a0:i32, ab:i32, ar:i32, ac:i32, b0:i32, bb:i32, br:i32, bc:i32, c0:i32, cc:i32, y0:u32';

/** Y [batch, M, N] = A · B (+ bias [N]), all strided: tiles of 16 t × 16 t, 16 × 16 threads. */
const matmulCode = (t: number, word: Word) => {
  const side = 16 * t;
  const zero = `${word}(0)`;
  return `${constants(FIELDS)}
${tensor(1, 'A', 'read', word)} ${tensor(2, 'B', 'read', word)} ${tensor(3, 'C', 'read', word)} ${tensor(4, 'Y', 'read_write', word)}
var<workgroup> As : array<${word}, ${16 * side}>;
var<workgroup> Bs : array<${word}, ${16 * side}>;
@compute @workgroup_size(16, 16) fn main(@builtin(workgroup_id) w : vec3<u32>, @builtin(local_invocation_id) l : vec3<u32>, @builtin(local_invocation_index) t : u32) {
  let row = w.y * ${side}u; let col = w.x * ${side}u;
  let alongA = p.ac == 1; let alongB = p.bc == 1;
  let a0 = p.a0 + i32(w.z) * p.ab; let b0 = p.b0 + i32(w.z) * p.bb;
  ${times(t * t, i => `var y${i} = ${zero};`)}
  for (var k = 0u; k < p.k; k += 16u) {
    for (var e = t; e < ${16 * side}u; e += 256u) {
      // Neighbouring threads read along whichever axis lies without gaps.
      let i = select(e % ${side}u, e / 16u, alongA); let ka = select(e / ${side}u, e % 16u, alongA);
      var a = ${zero}; if (row + i < p.m && k + ka < p.k) { a = A[a0 + i32(row + i) * p.ar + i32(k + ka) * p.ac]; }
      As[ka * ${side}u + i] = a;
      let j = select(e / 16u, e % ${side}u, alongB); let kb = select(e % 16u, e / ${side}u, alongB);
      var b = ${zero}; if (col + j < p.n && k + kb < p.k) { b = B[b0 + i32(k + kb) * p.br + i32(col + j) * p.bc]; }
      Bs[kb * ${side}u + j] = b;
    }
    workgroupBarrier();
    for (var kk = 0u; kk < 16u; kk++) {
      let at = kk * ${side}u + l.y * ${t}u; let bt = kk * ${side}u + l.x * ${t}u;
      ${times(t, i => `let a${i} = As[at + ${i}u]; let b${i} = Bs[bt + ${i}u];`)}
      ${times(t * t, i => `y${i} += a${Math.floor(i / t)} * b${i % t};`)}
    }
    workgroupBarrier();
  }
  let i = row + l.y * ${t}u; let j = col + l.x * ${t}u;
  ${times(t, c => `var c${c} = ${zero}; if (p.bias == 1u && j + ${c}u < p.n) { c${c} = C[p.c0 + i32(j + ${c}u) * p.cc]; }`)}
  ${times(t * t, e => `if (i + ${Math.floor(e / t)}u < p.m && j + ${e % t}u < p.n) { Y[p.y0 + (w.z * p.m + i + ${Math.floor(e / t)}u) * p.n + j + ${e % t}u] = y${e} + c${e % t}; }`)}
}`;
};

const TYPES = `uuuu${'i'.repeat(10)}u`;

export function matmul(c: Context, a: Operand, b: Operand, out: Operand): void {
  multiply(c, a, b, null, out);
}

/** Exactly symmetric: (i, j) and (j, i) add the same products in the same order. */
export function gram(c: Context, x: Operand, out: Operand): void {
  const n = x.shape.at(-1)!;
  const count = sizeOf(x.shape.slice(0, -1));
  const rows = withLayout(rowMajor(c, x), [count, n]);
  multiply(c, transposed(rows), rows, null, out);
}

export function linear(c: Context, x: Operand, weight: Operand, bias: Operand | null, out: Operand): void {
  const k = x.shape.at(-1)!;
  const count = sizeOf(x.shape.slice(0, -1));
  const rows = x.shape.length === 2 ? x : withLayout(rowMajor(c, x), [count, k]);
  const m = weight.shape[0]!;
  multiply(c, rows, transposed(weight), bias, withLayout(out, [count, m]));
}

/** Rows and columns of a product that a thread computes. Not measured on a GPU yet: 4 keeps more threads busy where it is small. */
const tileOf = (m: number, n: number): number => (m * n >= 2 ** 20 ? 8 : m * n <= 1024 ? 2 : 4);

/** Workgroups of the z axis. */
const MOST_BATCHES = 65535;

function multiply(c: Context, left: Operand, right: Operand, bias: Operand | null, out: Operand): void {
  const size = sizeOf(out.shape);
  if (size === 0) return;
  const [m, n, k] = [out.shape.at(-2)!, out.shape.at(-1)!, left.shape.at(-1)!];
  if (k === 0 && bias === null) return fill(c, 0, out);
  const word: Word = out.dtype === 'int32' ? 'i32' : 'f32';
  let [a, b] = [left, right].map(x => inWords(c, x, word)) as [Operand, Operand];
  const lead = (x: Operand) => ({ shape: x.shape.slice(0, -2), strides: x.strides.slice(0, -2), offset: 0 });
  const batch = out.shape.slice(0, -2);
  if (joined(batch, [lead(a), lead(b)]).lengths.length > 1) {
    [a, b] = [a, b].map(x => copied(c, x, [...batch, ...x.shape.slice(-2)])) as [Operand, Operand];
  }
  const { lengths, strides } = joined(batch, [lead(a), lead(b)]);
  const count = lengths[0] ?? 1;
  const t = tileOf(m, n);
  const kernel = kernelOf(c, `${word} matmul ${t}`, () => ({ code: matmulCode(t, word), types: TYPES }));
  const memories = [a, b, bias ?? a, out].map(memoryOf);
  const [stepA, stepB] = [strides[0]![0] ?? 0, strides[1]![0] ?? 0];
  for (let first = 0; first < count; first += MOST_BATCHES) {
    const values = [
      ...[m, n, k, Number(bias !== null)],
      ...[a.offset + first * stepA, stepA, a.strides.at(-2)!, a.strides.at(-1)!],
      ...[b.offset + first * stepB, stepB, b.strides.at(-2)!, b.strides.at(-1)!],
      ...[bias?.offset ?? 0, bias?.strides[0] ?? 0, first * m * n],
    ];
    const groups = [Math.ceil(n / (16 * t)), Math.ceil(m / (16 * t)), Math.min(MOST_BATCHES, count - first)];
    c.commands.dispatch(kernel, memories, values, groups);
  }
}
