/** The reference backend's matrix product: 4×4 blocks of dot products, accumulated in float64. */

import { allocateArray, type TypedArray } from '../../dtype.ts';

/**
 * c[M×N] ← a[M×K] · bᵀ, where `bt` [N×K] holds the columns of b as rows. All row-major without gaps; c starts at `cAt`.
 */
export function product(
  m: number,
  n: number,
  k: number,
  a: TypedArray,
  bt: TypedArray,
  c: TypedArray,
  cAt: number,
): void {
  const mBlocks = m - (m % 4);
  const nBlocks = n - (n % 4);
  for (let i = 0; i < mBlocks; i += 4) {
    for (let j = 0; j < nBlocks; j += 4) block(k, a, i * k, bt, j * k, c, cAt + i * n + j, n);
    for (let j = nBlocks; j < n; j++) for (let r = i; r < i + 4; r++) c[cAt + r * n + j] = dot(k, a, r * k, bt, j * k);
  }
  for (let i = mBlocks; i < m; i++) for (let j = 0; j < n; j++) c[cAt + i * n + j] = dot(k, a, i * k, bt, j * k);
}

/** The same for int32, modulo 2³². */
export const int32Product: typeof product = (m, n, k, a, bt, c, cAt) => {
  for (let i = 0; i < m; i++)
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let p = 0; p < k; p++) sum = (sum + Math.imul(a[i * k + p]!, bt[j * k + p]!)) | 0;
      c[cAt + i * n + j] = sum;
    }
};

function dot(k: number, a: TypedArray, aAt: number, b: TypedArray, bAt: number): number {
  let sum = 0;
  for (let p = 0; p < k; p++) sum += a[aAt + p]! * b[bAt + p]!;
  return sum;
}

function block(
  k: number,
  a: TypedArray,
  a0: number,
  b: TypedArray,
  b0: number,
  c: TypedArray,
  c0: number,
  n: number,
): void {
  const a1 = a0 + k;
  const a2 = a1 + k;
  const a3 = a2 + k;
  const b1 = b0 + k;
  const b2 = b1 + k;
  const b3 = b2 + k;
  let s00 = 0;
  let s01 = 0;
  let s02 = 0;
  let s03 = 0;
  let s10 = 0;
  let s11 = 0;
  let s12 = 0;
  let s13 = 0;
  let s20 = 0;
  let s21 = 0;
  let s22 = 0;
  let s23 = 0;
  let s30 = 0;
  let s31 = 0;
  let s32 = 0;
  let s33 = 0;
  for (let p = 0; p < k; p++) {
    const u = b[b0 + p]!;
    const v = b[b1 + p]!;
    const w = b[b2 + p]!;
    const x = b[b3 + p]!;
    const q = a[a0 + p]!;
    s00 += q * u;
    s01 += q * v;
    s02 += q * w;
    s03 += q * x;
    const r = a[a1 + p]!;
    s10 += r * u;
    s11 += r * v;
    s12 += r * w;
    s13 += r * x;
    const s = a[a2 + p]!;
    s20 += s * u;
    s21 += s * v;
    s22 += s * w;
    s23 += s * x;
    const t = a[a3 + p]!;
    s30 += t * u;
    s31 += t * v;
    s32 += t * w;
    s33 += t * x;
  }
  c[c0] = s00;
  c[c0 + 1] = s01;
  c[c0 + 2] = s02;
  c[c0 + 3] = s03;
  c[c0 + n] = s10;
  c[c0 + n + 1] = s11;
  c[c0 + n + 2] = s12;
  c[c0 + n + 3] = s13;
  c[c0 + 2 * n] = s20;
  c[c0 + 2 * n + 1] = s21;
  c[c0 + 2 * n + 2] = s22;
  c[c0 + 2 * n + 3] = s23;
  c[c0 + 3 * n] = s30;
  c[c0 + 3 * n + 1] = s31;
  c[c0 + 3 * n + 2] = s32;
  c[c0 + 3 * n + 3] = s33;
}

/** A row-major copy of the matrix that starts at `at` with the given strides, or the array itself if it is one. */
export function packed(
  data: TypedArray,
  rows: number,
  columns: number,
  rowStride: number,
  columnStride: number,
  at: number,
): TypedArray {
  if (columnStride === 1 && rowStride === columns && at === 0) return data;
  if (columnStride === 1 && rowStride === columns) return data.subarray(at, at + rows * columns);
  const out = allocateArray(data instanceof Float32Array ? 'float32' : 'float64', rows * columns);
  for (let i = 0; i < rows; i++) {
    let from = at + i * rowStride;
    for (let j = i * columns; j < (i + 1) * columns; j++) {
      out[j] = data[from]!;
      from += columnStride;
    }
  }
  return out;
}

/** c [n×n] ← xᵀ x for x [rows×n], exactly symmetric; c starts at `cAt`. */
export function gramOf(x: TypedArray, rows: number, n: number, c: TypedArray, cAt: number): void {
  const columns = packed(x, n, rows, 1, n, 0);
  product(n, n, rows, columns, columns, c, cAt);
}
