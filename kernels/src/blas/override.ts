/**
 * Matrix products of a native BLAS in place of the kernels', on the same memory: what is an address in it becomes one of
 * the process. What BLAS cannot express, and what is too small to be worth the call, stays with the kernels.
 */

import type { Float } from '../elements.ts';
import type { Exports, ImagesExports } from '../generated/types.gen.ts';
import type { Kernels, Loaded, Override } from '../instance.ts';
import type { Memory } from '../memory.ts';
import { convolutionsWith } from './conv.ts';
import type { Koffi, Library, Native } from './library.ts';

type Gemm = Exports['sgemm'];
type Syrk = Exports['ssyrk'];

// What CBLAS calls them.
const ROW_MAJOR = 101;
const PLAIN = 111;
const TRANSPOSED = 112;
const LOWER = 122;

/**
 * Multiplications from which a product goes to the library. NOTE: measured with OpenBLAS 0.3.21 on AVX-512, where it breaks
 * even between 16³ and 20³, and ssyrk at 64³; a call takes 0.2 µs, in which the kernels do 5000.
 */
const GEMM_FROM = 6000;
const SYRK_FROM = 200_000;
/**
 * Channels from which unfolded patches go to ssyrk, and `patchGram` says that it did nothing; where the rows of a plane are not seen by
 * all rows of the kernel, which is what that saves. Measured with OpenBLAS 0.3.21: stride 1 and 128 channels break even, 256
 * to 512 are 1.2 to 1.4 times as fast; stride 2 and 128 channels 1.7 times.
 */
const PATCHES_FROM = [192, 48] as const;
/** Rows and columns of a block that is mirrored at a time; measured fastest of 16 … 128. */
const MIRROR = 16;

/**
 * The distance that BLAS wants between the rows of a row-major matrix with these strides; negative if it is the transpose
 * that is row-major, 0 if neither is (gaps along both, steps of 0 or backwards).
 */
function leading(rows: number, cols: number, row: number, col: number): number {
  if ((col === 1 || cols === 1) && (row >= cols || rows === 1)) return Math.max(row, cols);
  if ((row === 1 || rows === 1) && (col >= rows || cols === 1)) return -Math.max(col, rows);
  return 0;
}

/** The address of the memory's first byte, looked up again when the memory has grown, as it may have moved. */
function baseOf(koffi: Koffi, memory: Memory): () => number {
  let view: Uint8Array | null = null;
  let base = 0;
  return () => {
    if (view !== memory.u8) {
      view = memory.u8;
      base = Number(koffi.address(view));
    }
    return base;
  };
}

function gemmWith(native: Native, base: () => number, below: Exports, type: Float): Gemm {
  const bytes = type === 'f32' ? 4 : 8;
  const kernel = type === 'f32' ? below.sgemm : below.dgemm;
  const [copy, fill, relu] = [below[`copy_${type}_${type}`], below[`fill_${type}`], below[`relu_${type}`]];
  return (m, n, k, a, aRow, aCol, b, bRow, bCol, c, cRow, bias, plus, clip, batch, aBatch, bBatch, cBatch, scratch) => {
    const lda = leading(m, k, aRow, aCol);
    const ldb = leading(k, n, bRow, bCol);
    const fits = lda !== 0 && ldb !== 0 && cRow >= n && (n > 1 || cRow === 1);
    if (!fits || m * n * k < GEMM_FROM) {
      // biome-ignore format: the order of the arguments is easier to see in rows
      kernel(
        m, n, k, a, aRow, aCol, b, bRow, bCol, c, cRow, bias, plus, clip, batch, aBatch, bBatch, cBatch, scratch,
      );
      return;
    }
    const at = base();
    const [ta, tb] = [lda > 0 ? PLAIN : TRANSPOSED, ldb > 0 ? PLAIN : TRANSPOSED];
    // With one right side for all, and rows at equal distances, a batch is one tall product.
    const tall = batch > 1 && bBatch === 0 && lda === aRow && aBatch === m * aRow && cBatch === m * cRow;
    const rows = tall ? m * batch : m;
    // NOTE: a C to be overwritten may hold NaN. OpenBLAS gives a product of vectors to gemv, of which some versions
    // computed 0 · NaN; for them C is cleared instead, which costs nothing beside reading the matrix.
    const clear = (rows === 1 || n === 1) && !plus && !bias;
    const beta = plus || bias || clear ? 1 : 0;
    for (let i = tall ? 1 : batch; i > 0; i--) {
      if (bias) copy(rows, n, bias, 0, 1, c, cRow, 1);
      else if (clear) fill(rows * n, 0, c);
      native(ROW_MAJOR, ta, tb, rows, n, k, 1, at + a, Math.abs(lda), at + b, Math.abs(ldb), beta, at + c, cRow);
      if (clip && cRow === n) relu(rows * n, c, c);
      else if (clip) for (let row = c; row < c + rows * cRow * bytes; row += cRow * bytes) relu(n, row, row);
      a += aBatch * bytes;
      b += bBatch * bytes;
      c += cBatch * bytes;
    }
  };
}

const patchGramWith =
  (kernel: ImagesExports['patchGram_f32']): ImagesExports['patchGram_f32'] =>
  (...call) => {
    const [, channels, , , , , , , , stride] = call;
    return channels >= PATCHES_FROM[stride === 1 ? 0 : 1] ? 0 : kernel(...call);
  };

function syrkWith(native: Native, base: () => number, below: Exports, type: Float): Syrk {
  const bytes = type === 'f32' ? 4 : 8;
  const kernel = type === 'f32' ? below.ssyrk : below.dsyrk;
  const copy = below[`copy_${type}_${type}`];
  return (n, k, a, aRow, aCol, c, cRow, accumulate, scratch) => {
    const lda = leading(n, k, aRow, aCol);
    if (n * n * k < SYRK_FROM || n === 1 || lda === 0 || cRow < n) {
      kernel(n, k, a, aRow, aCol, c, cRow, accumulate, scratch);
      return;
    }
    const at = base();
    const trans = lda > 0 ? PLAIN : TRANSPOSED;
    native(ROW_MAJOR, LOWER, trans, n, k, 1, at + a, Math.abs(lda), accumulate ? 1 : 0, at + c, cRow);
    for (let i = 0; i < n; i += MIRROR) {
      const size = Math.min(MIRROR, n - i);
      const block = c + (i * cRow + i) * bytes;
      // Nothing is added, and the block's lower half goes to its upper one.
      kernel(size, 0, a, 1, 1, block, cRow, 1, scratch);
      const rest = n - i - size;
      if (rest > 0) copy(rest, size, block + size * cRow * bytes, cRow, 1, block + size * bytes, 1, cRow);
    }
  };
}

/** Whether the module of convolutions is loaded. */
const hasImages = (exports: Loaded): exports is Exports & ImagesExports => 'convForward_f32' in exports;

/** Resolves the products now, and makes of them what `Kernels.override` takes. */
export function overrideWith(library: Library): (kernels: Kernels) => Override {
  const { koffi, int, func } = library;
  const order = ['int', 'int', 'int'];
  const matrix = ['void *', int];
  const gemm = (name: string, real: string) =>
    func(name, 'void', [...order, int, int, int, real, ...matrix, ...matrix, real, ...matrix]);
  const syrk = (name: string, real: string) =>
    func(name, 'void', [...order, int, int, real, ...matrix, real, ...matrix]);
  const [sgemm, dgemm] = [gemm('cblas_sgemm', 'float'), gemm('cblas_dgemm', 'double')];
  const [ssyrk, dsyrk] = [syrk('cblas_ssyrk', 'float'), syrk('cblas_dsyrk', 'double')];

  return ({ memory }) => {
    const base = baseOf(koffi, memory);
    return below => {
      const products = {
        sgemm: gemmWith(sgemm, base, below, 'f32'),
        dgemm: gemmWith(dgemm, base, below, 'f64'),
      };
      const all = {
        ...products,
        ssyrk: syrkWith(ssyrk, base, below, 'f32'),
        dsyrk: syrkWith(dsyrk, base, below, 'f64'),
      };
      if (!hasImages(below)) return all;
      const [f32, f64] = [
        convolutionsWith(products.sgemm, below, 'f32'),
        convolutionsWith(products.dgemm, below, 'f64'),
      ];
      return {
        ...all,
        patchGram_f32: patchGramWith(below.patchGram_f32),
        patchGram_f64: patchGramWith(below.patchGram_f64),
        convForward_f32: f32.forward,
        convForward_f64: f64.forward,
        convInputGrad_f32: f32.inputGrad,
        convInputGrad_f64: f64.inputGrad,
        convWeightGrad_f32: f32.weightGrad,
        convWeightGrad_f64: f64.weightGrad,
      };
    };
  };
}
