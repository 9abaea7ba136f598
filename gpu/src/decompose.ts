/** What eigenbases that are followed need beside products: Cholesky factors of small matrices, of which large ones are made, and an order. */

import type { Operand } from '@otimes/core';
import { type Context, kernelOf, memoryOf } from './context.ts';
import { constants, FLAT, flatGroups, INDEX, tensor } from './wgsl.ts';

/** Rows of the largest matrix: it fills the workgroup memory that every adapter has. */
const MOST = 64;

/** Y [2, n, n] ← L and L⁻¹ of X [n, n], strided. L grows in workgroup memory, column by column; then each thread solves for a column of L⁻¹. */
const CODE = `${constants('n:u32, shift:f32, least:f32, x0:i32, xr:i32, xc:i32, y0:u32')}
${tensor(1, 'X')} ${tensor(2, 'Y', 'read_write')}
var<workgroup> A : array<f32, ${MOST * MOST}>;
@compute @workgroup_size(256) fn main(@builtin(local_invocation_index) t : u32) {
  let n = p.n;
  for (var e = t; e < n * n; e += 256u) { A[e] = X[p.x0 + i32(e / n) * p.xr + i32(e % n) * p.xc]; }
  workgroupBarrier();
  for (var k = 0u; k < n; k++) {
    let pivot = sqrt(max(A[k * n + k] + p.shift, p.least));
    workgroupBarrier();
    if (t == 0u) { A[k * n + k] = pivot; }
    for (var i = k + 1u + t; i < n; i += 256u) { A[i * n + k] /= pivot; }
    workgroupBarrier();
    let rest = n - k - 1u;
    for (var e = t; e < rest * rest; e += 256u) {
      let i = k + 1u + e / rest; let j = k + 1u + e % rest;
      if (j <= i) { A[i * n + j] -= A[i * n + k] * A[j * n + k]; }
    }
    workgroupBarrier();
  }
  for (var e = t; e < n * n; e += 256u) { Y[p.y0 + e] = select(0.0, A[e], e % n <= e / n); }
  // A thread reads what it wrote itself.
  let column = p.y0 + n * n + t;
  if (t < n) {
    for (var i = 0u; i < n; i++) {
      var sum = select(0.0, 1.0, i == t);
      for (var k = t; k < i; k++) { sum -= A[i * n + k] * Y[column + k * n]; }
      Y[column + i * n] = select(0.0, sum / A[i * n + i], i >= t);
    }
  }
}`;

export function cholesky(c: Context, x: Operand, shift: number, least: number, out: Operand): void {
  const n = x.shape[0]!;
  if (n > MOST) throw new RangeError(`gpu: expected a matrix of at most ${MOST} rows, got ${n}`);
  const kernel = kernelOf(c, 'cholesky', () => ({ code: CODE, types: 'uffiiiu' }));
  const values = [n, shift, least, x.offset, x.strides[0]!, x.strides[1]!, out.offset];
  c.commands.dispatch(kernel, [x, out].map(memoryOf), values, [1]);
}

/** A thread for each element counts those before it. */
const ORDER = `${constants('n:u32, x0:i32, step:i32, y0:u32')}
${tensor(1, 'X')} ${tensor(2, 'Y', 'read_write', 'i32')}
@compute @workgroup_size(64) fn main(${FLAT}) {
  ${INDEX}
  if (i >= p.n) { return; }
  let own = X[p.x0 + i32(i) * p.step];
  var rank = 0u;
  for (var j = 0u; j < p.n; j++) {
    let other = X[p.x0 + i32(j) * p.step];
    if (other > own || (other == own && j < i)) { rank++; }
  }
  Y[p.y0 + rank] = i32(i);
}`;

/** Of an x that has NaN, some positions of `out` are left as they were; what is done with them touches no other memory. */
export function descending(c: Context, x: Operand, out: Operand): void {
  const n = x.shape[0]!;
  const kernel = kernelOf(c, 'descending', () => ({ code: ORDER, types: 'uiiu' }));
  c.commands.dispatch(kernel, [x, out].map(memoryOf), [n, x.offset, x.strides[0]!, out.offset], flatGroups(n));
}
