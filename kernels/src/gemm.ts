/**
 * Matrix products in wasm memory. Pointers are byte addresses, strides count elements and may be anything (so every
 * transpose and slice is one), results are row-major. Nothing is checked here: a wrong pointer writes elsewhere. C must not
 * overlap A or B.
 */

import type { Exports } from './generated/types.gen.ts';
import type { Kernels } from './instance.ts';

/** The products alone, and the scratch that they need: who has no use for the rest takes these. */
export type GemmExports = Pick<Exports, 'sgemm' | 'dgemm' | 'ssyrk' | 'dsyrk' | 'gemmScratch'>;

export type FloatType = 'float32' | 'float64';

export type Gemm = {
  readonly dtype: FloatType;
  /** A is m × k, B k × n, C m × n; any may be 0. */
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly a: number;
  readonly aRow: number;
  readonly aCol: number;
  readonly b: number;
  readonly bRow: number;
  readonly bCol: number;
  readonly c: number;
  readonly cRow: number;
  /** C ← C + A·B, defaults to C ← A·B. */
  readonly accumulate?: boolean;
  /** n elements that are added to each row; not with `accumulate`. */
  readonly bias?: number;
  /** max(0, ·) of the result, NaN staying NaN; defaults to false. */
  readonly relu?: boolean;
  /** So many products, whose operands lie these distances apart (0: the same one); one by default. */
  readonly batch?: number;
  readonly aBatch?: number;
  readonly bBatch?: number;
  readonly cBatch?: number;
};

/** C ← A·B. */
export function gemm(kernels: Kernels, g: Gemm): void {
  const { bias = 0, accumulate = false, relu = false, batch = 1, aBatch = 0, bBatch = 0, cBatch = 0 } = g;
  if (bias !== 0 && accumulate) throw new RangeError('gemm: a bias and accumulate exclude each other');
  const { sgemm, dgemm } = kernels.exports;
  const { m, n, k, a, aRow, aCol, b, bRow, bCol, c, cRow } = g;
  const plus = accumulate ? 1 : 0;
  const clip = relu ? 1 : 0;
  const f = g.dtype === 'float32' ? sgemm : dgemm;
  // biome-ignore format: the order of the arguments is easier to see in rows
  f(
    m, n, k,
    a, aRow, aCol,
    b, bRow, bCol,
    c, cRow,
    bias, plus, clip,
    batch, aBatch, bBatch, cBatch, kernels.scratch,
  );
}

export type Syrk = {
  readonly dtype: FloatType;
  /** A is n × k, C n × n. */
  readonly n: number;
  readonly k: number;
  readonly a: number;
  readonly aRow: number;
  readonly aCol: number;
  readonly c: number;
  readonly cRow: number;
  /** C ← C + A·Aᵀ for a symmetric C, defaults to C ← A·Aᵀ. */
  readonly accumulate?: boolean;
};

/** C ← A·Aᵀ, exactly symmetric; swap the strides of A for Aᵀ·A. */
export function syrk(kernels: Kernels, s: Syrk): void {
  const { ssyrk, dsyrk } = kernels.exports;
  const f = s.dtype === 'float32' ? ssyrk : dsyrk;
  f(s.n, s.k, s.a, s.aRow, s.aCol, s.c, s.cRow, s.accumulate ? 1 : 0, kernels.scratch);
}
