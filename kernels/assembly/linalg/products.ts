// Matrix products: those of the first module, imported from its instance. All addresses in bytes, strides in elements.

// @ts-ignore: decorator
@external("kernels", "sgemm")
declare function sgemm(
  m: i32, n: i32, k: i32, a: usize, ar: i32, ac: i32, b: usize, br: i32, bc: i32, c: usize, cr: i32, bias: usize,
  accumulate: bool, relu: bool, batch: i32, aBatch: i32, bBatch: i32, cBatch: i32, scratch: usize,
): void;
// @ts-ignore: decorator
@external("kernels", "dgemm")
declare function dgemm(
  m: i32, n: i32, k: i32, a: usize, ar: i32, ac: i32, b: usize, br: i32, bc: i32, c: usize, cr: i32, bias: usize,
  accumulate: bool, relu: bool, batch: i32, aBatch: i32, bBatch: i32, cBatch: i32, scratch: usize,
): void;

let scratch: usize = 0;

/** Where products pack their operands: `gemmScratch()` bytes. Every export says it first. */
export function packAt(address: usize): void {
  scratch = address;
}

/** C [m, n] ← (C +) A [m, k] · B [k, n]. */
export function gemm<T>(
  m: i32, n: i32, k: i32, a: usize, ar: i32, ac: i32, b: usize, br: i32, bc: i32, c: usize, cr: i32, accumulate: bool,
): void {
  if (m <= 0 || n <= 0) return;
  if (sizeof<T>() == 4) sgemm(m, n, k, a, ar, ac, b, br, bc, c, cr, 0, accumulate, false, 1, 0, 0, 0, scratch);
  else dgemm(m, n, k, a, ar, ac, b, br, bc, c, cr, 0, accumulate, false, 1, 0, 0, 0, scratch);
}

/** Rows of a triangle [n, n] that one product takes: fewer waste less beyond the diagonal and pack more often. */
function stripOf(n: i32): i32 {
  return n <= 160 ? 24 : n <= 600 ? 48 : 120;
}

/** The upper triangle of C [n, n] ← C + A [n, k] · B [k, n]; some of the lower one changes too. */
export function gemmUpper<T>(
  n: i32, k: i32, a: usize, ar: i32, ac: i32, b: usize, br: i32, bc: i32, c: usize, cr: i32,
): void {
  const s = alignof<T>();
  const strip = stripOf(n);
  for (let i = 0; i < n; i += strip)
    gemm<T>(
      min(strip, n - i), n - i, k,
      a + (<usize>i * ar << s), ar, ac,
      b + (<usize>i * bc << s), br, bc,
      c + (<usize>i * (cr + 1) << s), cr, true,
    );
}

/** The lower triangle of the same; some of the upper one changes too. */
export function gemmLower<T>(
  n: i32, k: i32, a: usize, ar: i32, ac: i32, b: usize, br: i32, bc: i32, c: usize, cr: i32,
): void {
  const s = alignof<T>();
  const strip = stripOf(n);
  for (let i = 0; i < n; i += strip) {
    const rows = min(strip, n - i);
    gemm<T>(rows, i + rows, k, a + (<usize>i * ar << s), ar, ac, b, br, bc, c + (<usize>i * cr << s), cr, true);
  }
}
