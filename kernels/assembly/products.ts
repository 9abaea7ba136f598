// The products of the first module as the module of convolutions imports them, from its instance. Addresses and strides in bytes.
// Register blocks are no imports but code of that module too: a call between modules takes 3 ns, and small blocks not much more.

// @ts-ignore: decorator
@external("kernels", "sproduct")
declare function sproduct(
  m: i32, n: i32, k: i32, a: usize, ar: usize, ac: usize, b: usize, br: usize, bc: usize, c: usize, cr: usize,
  from: usize, fr: usize, scratch: usize,
): void;
// @ts-ignore: decorator
@external("kernels", "dproduct")
declare function dproduct(
  m: i32, n: i32, k: i32, a: usize, ar: usize, ac: usize, b: usize, br: usize, bc: usize, c: usize, cr: usize,
  from: usize, fr: usize, scratch: usize,
): void;
/** C [m, n] ← A [m, k] · B [k, n] + from; `from` is 0 (nothing), C itself or a bias (fr = 0). */
// @ts-ignore: decorator
@inline
export function product<T>(
  m: i32, n: i32, k: i32, a: usize, ar: usize, ac: usize, b: usize, br: usize, bc: usize, c: usize, cr: usize,
  from: usize, fr: usize, scratch: usize,
): void {
  if (sizeof<T>() == 4) sproduct(m, n, k, a, ar, ac, b, br, bc, c, cr, from, fr, scratch);
  else dproduct(m, n, k, a, ar, ac, b, br, bc, c, cr, from, fr, scratch);
}
