// Matrix products: a packed 4 × 4 register kernel for strided float64 blocks, and `matmul` over it. Goto and van de
// Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008); one level of blocking less, as JS has no prefetch.
import { describe, fail } from './errors.ts';
import {
  type AnyNdArray,
  expectArguments,
  expectRank,
  output,
  type RealNdArray,
  readMatrix,
  resultDtype,
} from './ndarray.ts';

/** A strided block of float64: element (i, j) is data[offset + i * row + j * col]. */
export type Block = {
  readonly data: Float64Array;
  readonly offset: number;
  readonly row: number;
  readonly col: number;
};

export const block = (data: Float64Array, offset: number, row: number, col = 1): Block => ({ data, offset, row, col });
export const transposed = (a: Block): Block => ({ data: a.data, offset: a.offset, row: a.col, col: a.row });

// Panel sizes: an A panel of MC × KC doubles is 256 KiB, a B panel of KC × NC is 1 MiB; both sit in L2.
const MC = 128;
const KC = 256;
const NC = 512;
// NOTE Scratch that outlives the call: gemm runs hundreds of times within one eigh, and fresh memory costs more than
// small products do. Never holds state between calls.
let panelA = new Float64Array(0);
let panelB = new Float64Array(0);
const tile = new Float64Array(16);

/** C [m, n] += alpha · A [m, k] · B [k, n]. C has unit column stride and does not overlap A or B. */
export function gemm(m: number, n: number, k: number, alpha: number, a: Block, b: Block, c: Block): void {
  const kMax = Math.min(KC, k);
  const sizeA = (Math.min(MC, m) + 3) * kMax;
  const sizeB = (Math.min(NC, n) + 3) * kMax;
  if (panelA.length < sizeA) panelA = new Float64Array(sizeA);
  if (panelB.length < sizeB) panelB = new Float64Array(sizeB);
  for (let j = 0; j < n; j += NC) {
    const nc = Math.min(NC, n - j);
    for (let p = 0; p < k; p += KC) {
      const kc = Math.min(KC, k - p);
      pack(panelB, b.data, b.offset + p * b.row + j * b.col, b.col, b.row, nc, kc, 1);
      for (let i = 0; i < m; i += MC) {
        const mc = Math.min(MC, m - i);
        pack(panelA, a.data, a.offset + i * a.row + p * a.col, a.row, a.col, mc, kc, alpha);
        for (let jj = 0; jj < nc; jj += 4) {
          for (let ii = 0; ii < mc; ii += 4) {
            const at = c.offset + (i + ii) * c.row + j + jj;
            if (ii + 4 <= mc && jj + 4 <= nc) kernel(kc, ii * kc, jj * kc, c.data, at, c.row);
            else edge(kc, ii * kc, jj * kc, c.data, at, c.row, Math.min(4, mc - ii), Math.min(4, nc - jj));
          }
        }
      }
    }
  }
}

/** Strips of four rows (`stride` apart), interleaved along the depth; a last strip of fewer is padded with zeros. */
function pack(
  target: Float64Array,
  source: Float64Array,
  offset: number,
  stride: number,
  depthStride: number,
  count: number,
  depth: number,
  alpha: number,
): void {
  let p = 0;
  for (let i = 0; i < count; i += 4) {
    const width = Math.min(4, count - i);
    let q = offset + i * stride;
    if (width === 4) {
      for (let k = 0; k < depth; k++, p += 4, q += depthStride) {
        target[p] = alpha * source[q]!;
        target[p + 1] = alpha * source[q + stride]!;
        target[p + 2] = alpha * source[q + 2 * stride]!;
        target[p + 3] = alpha * source[q + 3 * stride]!;
      }
    } else {
      for (let k = 0; k < depth; k++, p += 4, q += depthStride) {
        for (let r = 0; r < 4; r++) target[p + r] = r < width ? alpha * source[q + r * stride]! : 0;
      }
    }
  }
}

/** c [4, 4] += strip a of panelA times strip b of panelB. Sixteen sums live in registers. */
function kernel(kc: number, a: number, b: number, out: Float64Array, c: number, row: number): void {
  const pa = panelA;
  const pb = panelB;
  // biome-ignore format: the tile
  let c00 = 0, c01 = 0, c02 = 0, c03 = 0,
    c10 = 0, c11 = 0, c12 = 0, c13 = 0,
    c20 = 0, c21 = 0, c22 = 0, c23 = 0,
    c30 = 0, c31 = 0, c32 = 0, c33 = 0;
  for (const end = a + 4 * kc; a < end; a += 4, b += 4) {
    const b0 = pb[b]!;
    const b1 = pb[b + 1]!;
    const b2 = pb[b + 2]!;
    const b3 = pb[b + 3]!;
    let x = pa[a]!;
    c00 += x * b0;
    c01 += x * b1;
    c02 += x * b2;
    c03 += x * b3;
    x = pa[a + 1]!;
    c10 += x * b0;
    c11 += x * b1;
    c12 += x * b2;
    c13 += x * b3;
    x = pa[a + 2]!;
    c20 += x * b0;
    c21 += x * b1;
    c22 += x * b2;
    c23 += x * b3;
    x = pa[a + 3]!;
    c30 += x * b0;
    c31 += x * b1;
    c32 += x * b2;
    c33 += x * b3;
  }
  addRow(out, c, c00, c01, c02, c03);
  addRow(out, c + row, c10, c11, c12, c13);
  addRow(out, c + 2 * row, c20, c21, c22, c23);
  addRow(out, c + 3 * row, c30, c31, c32, c33);
}

function addRow(out: Float64Array, c: number, x0: number, x1: number, x2: number, x3: number): void {
  out[c]! += x0;
  out[c + 1]! += x1;
  out[c + 2]! += x2;
  out[c + 3]! += x3;
}

/** The kernel at the rim of C, where fewer than 4 × 4 entries exist. */
function edge(
  kc: number,
  a: number,
  b: number,
  out: Float64Array,
  c: number,
  row: number,
  rows: number,
  cols: number,
): void {
  tile.fill(0);
  kernel(kc, a, b, tile, 0, 4);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < cols; j++) out[c + i * row + j]! += tile[4 * i + j]!;
  }
}

export type MatmulOptions = {
  /** Use aᵀ in place of a; defaults to false. */
  transposeA?: boolean;
  /** Use bᵀ in place of b; defaults to false. */
  transposeB?: boolean;
};

/** a [m, k] · b [k, n] → [m, n], summed in float64. Throws unless both are matrices whose inner dimensions agree. */
export function matmul(a: AnyNdArray, b: AnyNdArray, o: MatmulOptions = {}): RealNdArray {
  expectArguments('matmul', [a, b], o, { transposeA: [true, false], transposeB: [true, false] });
  const { transposeA = false, transposeB = false } = o;
  const left = operand(a, transposeA);
  const right = operand(b, transposeB);
  if (left.cols !== right.rows) {
    const [x, y] = [describe(a) + (transposeA ? 'ᵀ' : ''), describe(b) + (transposeB ? 'ᵀ' : '')];
    fail('matmul', 'inner dimensions differ', x, y);
  }
  const [m, n] = [left.rows, right.cols];
  const c = new Float64Array(m * n);
  gemm(m, n, left.cols, 1, left.block, right.block, block(c, 0, n));
  return output(c, [m, n], resultDtype(a, b));
}

/** float64 is read where it lies, through its strides; everything else is converted first. */
function operand(a: AnyNdArray, transpose: boolean): { rows: number; cols: number; block: Block } {
  expectRank('matmul', 2, a);
  const [rows = 0, cols = 0] = a.shape;
  const [row = 0, col = 0] = [a.stride[0], a.stride[1]];
  const view =
    a.data instanceof Float64Array ? block(a.data, a.offset, row, col) : block(readMatrix('matmul', a).data, 0, cols);
  return transpose ? { rows: cols, cols: rows, block: transposed(view) } : { rows, cols, block: view };
}
