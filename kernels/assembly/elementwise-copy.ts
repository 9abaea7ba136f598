// Copies: strided, converting, transposed; fill; and the choice between two operands.
import { bytesOf, choose, halves, loadMasks, splatOf, storeMasks } from './elementwise-lanes';

/** Columns of a block of a transposition: its lines of the source, one from each column, stay in the first cache. */
// @ts-ignore: decorator
@inline
const TILE: i32 = 64;

/**
 * out[i, j] ← x[i, j] converted, for element strides of both. Returns 1 where int32 cannot hold an element (which is
 * then clamped, or 0), else 0.
 */
export function copy<S, D>(rows: i32, cols: i32, x: usize, x0: i32, x1: i32, out: usize, o0: i32, o1: i32): i32 {
  if (rows <= 0 || cols <= 0) return 0;
  if (isFloat<S>() != isFloat<D>() || isSigned<S>() != isSigned<D>() || sizeof<S>() != sizeof<D>())
    return convert<S, D>(rows, cols, x, x0, x1, out, o0, o1);
  if (sizeof<S>() == 8) move<u64>(rows, cols, x, x0, x1, out, o0, o1);
  else if (sizeof<S>() == 4) move<u32>(rows, cols, x, x0, x1, out, o0, o1);
  else move<u8>(rows, cols, x, x0, x1, out, o0, o1);
  return 0;
}

/** Elements of one type, that is of one size. */
function move<T>(rows: i32, cols: i32, x: usize, x0: i32, x1: i32, out: usize, o0: i32, o1: i32): void {
  // The result's rows are the axis along which it has no gaps.
  if (o1 != 1 && o0 == 1) {
    move<T>(cols, rows, x, x1, x0, out, o1, o0);
    return;
  }
  if (x1 == 1 && o1 == 1) {
    if (rows == 1 || (x0 == cols && o0 == cols)) {
      memory.copy(out, x, bytesOf<T>(rows * cols));
      return;
    }
    const bytes = bytesOf<T>(cols);
    if (bytes >= 64) {
      for (; rows > 0; rows--, x += bytesOf<T>(x0), out += bytesOf<T>(o0)) memory.copy(out, x, bytes);
      return;
    }
  }
  let done = 0;
  if (sizeof<T>() > 1 && x0 == 1 && o1 == 1 && rows >= 4 && cols >= 4) {
    done = cols & ~3;
    for (let j = 0; j < done; j += TILE)
      transpose<T>(rows & ~3, min(TILE, done - j), x + bytesOf<T>(j * x1), x1, out + bytesOf<T>(j), o0);
    // The last rows of the columns that are done.
    const rest = rows & ~3;
    loose<T>(rows - rest, done, x + bytesOf<T>(rest), x0, x1, out + bytesOf<T>(rest * o0), o0, o1);
  }
  x += bytesOf<T>(done * x1);
  out += bytesOf<T>(done * o1);
  loose<T>(rows, cols - done, x, x0, x1, out, o0, o1);
}

/** One by one. */
function loose<T>(rows: i32, cols: i32, x: usize, x0: i32, x1: i32, out: usize, o0: i32, o1: i32): void {
  for (; rows > 0; rows--, x += bytesOf<T>(x0), out += bytesOf<T>(o0)) {
    let p = x;
    let q = out;
    for (let n = cols; n > 0; n--, p += bytesOf<T>(x1), q += bytesOf<T>(o1)) store<T>(q, load<T>(p));
  }
}

/** Rows and columns are multiples of 4; in `x` the rows lie side by side. */
// @ts-ignore: decorator
@inline
function transpose<T>(rows: i32, cols: i32, x: usize, x1: i32, out: usize, o0: i32): void {
  const column = bytesOf<T>(x1);
  const row = bytesOf<T>(o0);
  for (; rows > 0; rows -= 16 / sizeof<T>(), x += 16, out += (16 / sizeof<T>()) * row) {
    let p = x;
    let q = out;
    for (let n = cols; n > 0; n -= 16 / sizeof<T>(), p += (16 / sizeof<T>()) * column, q += 16) {
      const a = v128.load(p);
      const b = v128.load(p + column);
      if (sizeof<T>() == 8) {
        v128.store(q, v128.shuffle<i64>(a, b, 0, 2));
        v128.store(q + row, v128.shuffle<i64>(a, b, 1, 3));
      } else {
        const c = v128.load(p + 2 * column);
        const d = v128.load(p + 3 * column);
        const ac = v128.shuffle<i32>(a, c, 0, 4, 1, 5);
        const bd = v128.shuffle<i32>(b, d, 0, 4, 1, 5);
        v128.store(q, v128.shuffle<i32>(ac, bd, 0, 4, 1, 5));
        v128.store(q + row, v128.shuffle<i32>(ac, bd, 2, 6, 3, 7));
        const ca = v128.shuffle<i32>(a, c, 2, 6, 3, 7);
        const db = v128.shuffle<i32>(b, d, 2, 6, 3, 7);
        v128.store(q + 2 * row, v128.shuffle<i32>(ca, db, 0, 4, 1, 5));
        v128.store(q + 3 * row, v128.shuffle<i32>(ca, db, 2, 6, 3, 7));
      }
    }
  }
}

/** Whether four elements at a time can be converted. */
// @ts-ignore: decorator
@inline
function inFours<S, D>(): bool {
  return isFloat<D>() || (sizeof<D>() == 1 && isFloat<S>());
}

/** Four elements from p to q. */
// @ts-ignore: decorator
@inline
function convert4<S, D>(p: usize, q: usize): void {
  if (sizeof<D>() == 1) {
    const zero = i32x4.splat(0);
    if (sizeof<S>() == 4) storeMasks(q, f32x4.ne(v128.load(p), zero));
    else storeMasks(q, halves(f64x2.ne(v128.load(p), zero), f64x2.ne(v128.load(p, 16), zero)));
    return;
  }
  if (isFloat<S>()) {
    if (sizeof<S>() == 4) {
      v128.store(q, f64x2.promote_low_f32x4(v128.load64_zero(p)));
      v128.store(q, f64x2.promote_low_f32x4(v128.load64_zero(p, 8)), 16);
    } else {
      const low = f32x4.demote_f64x2_zero(v128.load(p));
      v128.store(q, v128.shuffle<i64>(low, f32x4.demote_f64x2_zero(v128.load(p, 16)), 0, 2));
    }
    return;
  }
  const integers = sizeof<S>() == 1 ? i32x4.neg(loadMasks(p)) : v128.load(p);
  if (sizeof<D>() == 4) v128.store(q, f32x4.convert_i32x4_s(integers));
  else {
    v128.store(q, f64x2.convert_low_i32x4_s(integers));
    v128.store(q, f64x2.convert_low_i32x4_s(v128.shuffle<i64>(integers, integers, 1, 1)), 16);
  }
}

/** Elements of another type. Floats become integers by truncation, and true where not 0. */
// @ts-ignore: decorator
@inline
function convert<S, D>(rows: i32, cols: i32, x: usize, x0: i32, x1: i32, out: usize, o0: i32, o1: i32): i32 {
  let lost = 0;
  for (; rows > 0; rows--, x += bytesOf<S>(x0), out += bytesOf<D>(o0)) {
    let p = x;
    let q = out;
    let n = cols;
    if (inFours<S, D>() && x1 == 1 && o1 == 1)
      for (; n >= 4; n -= 4, p += 4 * sizeof<S>(), q += 4 * sizeof<D>()) convert4<S, D>(p, q);
    for (; n > 0; n--, p += bytesOf<S>(x1), q += bytesOf<D>(o1)) {
      const value = load<S>(p);
      if (sizeof<D>() == 1) store<u8>(q, value != 0 ? 1 : 0);
      else if (isFloat<S>() && !isFloat<D>()) {
        if (!(<f64>value > -2147483649 && <f64>value < 2147483648)) lost = 1;
        store<i32>(q, <i32>value);
      } else store<D>(q, <D>value);
    }
  }
  return lost;
}

/** out ← value, n times. */
export function fill<T>(n: i32, value: T, out: usize): void {
  if (sizeof<T>() == 1) {
    memory.fill(out, <u8>value, n);
    return;
  }
  const v = v128.splat<T>(value);
  for (; n >= 16 / sizeof<T>(); n -= 16 / sizeof<T>(), out += 16) v128.store(out, v);
  for (; n > 0; n--, out += sizeof<T>()) store<T>(out, value);
}

/** out ← c ? a : b, for element strides of the bools c and of both operands. */
export function where<T>(
  rows: i32, cols: i32, c: usize, c0: i32, c1: i32, a: usize, a0: i32, a1: i32, b: usize, b0: i32, b1: i32,
  out: usize,
): void {
  if (sizeof<T>() == 8) select<u64>(rows, cols, c, c0, c1, a, a0, a1, b, b0, b1, out);
  else if (sizeof<T>() == 4) select<u32>(rows, cols, c, c0, c1, a, a0, a1, b, b0, b1, out);
  else select<u8>(rows, cols, c, c0, c1, a, a0, a1, b, b0, b1, out);
}

function select<T>(
  rows: i32, cols: i32, c: usize, c0: i32, c1: i32, a: usize, a0: i32, a1: i32, b: usize, b0: i32, b1: i32,
  out: usize,
): void {
  if (cols <= 0) return;
  for (; rows > 0; rows--, c += c0, a += bytesOf<T>(a0), b += bytesOf<T>(b0)) {
    let p = a;
    let q = b;
    let r = c;
    let n = cols;
    if (c1 == 0) {
      // All of the row is of one operand.
      const step = load<u8>(c) ? a1 : b1;
      let from = load<u8>(c) ? a : b;
      if (step == 1) {
        memory.copy(out, from, bytesOf<T>(n));
        out += bytesOf<T>(n);
        continue;
      }
      const value = v128.splat<T>(load<T>(from));
      if (step == 0) for (; n >= 16 / sizeof<T>(); n -= 16 / sizeof<T>(), out += 16) v128.store(out, value);
      for (; n > 0; n--, from += bytesOf<T>(step), out += sizeof<T>()) store<T>(out, load<T>(from));
      continue;
    }
    if (sizeof<T>() > 1 && c1 == 1 && <u32>(a1 | b1) <= 1) {
      let u = splatOf<T>(p);
      let v = splatOf<T>(q);
      for (; n >= 4; n -= 4, r += 4, out += 4 * sizeof<T>()) {
        let mask = loadMasks(r);
        for (let half = sizeof<T>() / 4; half > 0; half--) {
          if (a1) {
            u = v128.load(p);
            p += 16;
          }
          if (b1) {
            v = v128.load(q);
            q += 16;
          }
          const wide = sizeof<T>() == 4 ? mask : i64x2.extend_low_i32x4_s(mask);
          v128.store(out + (sizeof<T>() == 8 && half == 1 ? 16 : 0), choose(wide, u, v));
          mask = v128.shuffle<i64>(mask, mask, 1, 1);
        }
      }
    }
    for (; n > 0; n--, r += c1, p += bytesOf<T>(a1), q += bytesOf<T>(b1), out += sizeof<T>())
      store<T>(out, load<T>(load<u8>(r) ? p : q));
  }
}
