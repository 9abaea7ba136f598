// Matrix products of f32 and f64 for operands of any strides: C ← A·B, with C's old values, a bias and a ReLU on the
// way. Blocked as by Goto & van de Geijn (2008): panels of B stay in the first-level cache, a block of A in the second.
// Small operands are not packed. One accumulation order for all but few rows or columns (`FEW`), so splitting M or N between
// threads changes no bit as long as no piece has few where the whole has many.
import { dots, MR, panel, rows } from './generated/blocks';
import { dotRow, finish, sumPair } from './gemv';
import { panelOf, panelsOf } from './pack';
import { lanes, shift, zero } from './vector';

/** Steps of k, rows of A and bytes of a row of B that a block takes. */
export const KC: i32 = 256;
export const MC: i32 = 32 * MR;
const NC_BYTES: i32 = 7680;
/** A register block is two vectors wide. */
export const BLOCK_BYTES: i32 = 32;
/** Operands of up to this many bytes are read where they are. */
const SMALL: i64 = 32768;
/** Up to so many columns, rows of A that lie without gaps are read where they are: to pack them would take a fortieth of the product. */
const FEW_DIRECT: i32 = 128;
/** Panels of B that are packed side by side, each a stream of writes. */
const PANELS: i32 = 16;
/** Bytes between packed panels, whose starts would else fall on the same lines of the first-level cache. */
const GAP: i32 = 64;
/** Up to so many rows, or columns, are computed as dot products where both operands are contiguous along k. */
const FEW: i32 = 12;
/** Steps of k from which that pays. */
const DOT_K: i32 = 64;
/** Bytes along k that blocks of dot products take: so much of `FEW` rows stays in the first-level cache. */
const DOT_BYTES: i32 = 2048;
/** Bytes of B from which a product that reads it once fetches it. */
const LARGE: usize = 131072;
/** So much of B few rows of A meet at a time, that what was fetched stays in the second-level cache: of columns, and of rows. */
const FETCH_BYTES: usize = 262144;
const FEW_KC_BYTES: i32 = 256;
const FEW_NC: i32 = 1920;

/** A diagonal so far above that it leaves nothing out. */
const ALL: i32 = 0x3fffffff;

/** Bytes of scratch that a product needs: one register block, a block of A and one of B. */
export function gemmScratch(): i32 {
  return 256 + MC * KC * 8 + KC * NC_BYTES + GAP * (NC_BYTES / BLOCK_BYTES);
}

/** `length` cut into equal parts of at most `most`, a multiple of `unit`: their length. */
export function part(length: i32, most: i32, unit: i32): i32 {
  if (length <= most) return max(length, 1);
  const parts = (length + most - 1) / most;
  return min(most, ((length + parts - 1) / parts + unit - 1) / unit * unit);
}

/** Moves `m` × `n` elements of a finished register block to c, with what the block would have done itself. */
export function edge<T>(m: i32, n: i32, block: usize, c: usize, cr: usize, from: usize, fr: usize, relu: bool): void {
  for (let i = 0; i < m; i++) {
    for (let j = 0; j < n; j++) {
      const at = <usize>j << shift<T>();
      let x = load<T>(block + at);
      if (from) x += load<T>(from + at);
      if (relu) x = max<T>(x, 0);
      store<T>(c + at, x);
    }
    block += BLOCK_BYTES;
    c += cr;
    if (from) from += fr;
  }
}

/** c ← max(c, 0) in a whole register block of `m` rows. */
function clipBlock<T>(m: i32, c: usize, cr: usize): void {
  for (; m > 0; m--) {
    v128.store(c, v128.max<T>(v128.load(c), zero<T>()));
    v128.store(c, v128.max<T>(v128.load(c, 16), zero<T>()), 16);
    c += cr;
  }
}

/**
 * Reads `count` lines of `bytes` bytes in order, which brings them into the second-level cache several times as fast as the
 * blocks would, that walk along many lines at once. The sum goes to `to`, so that no compiler leaves it out.
 */
function fetch(count: i32, bytes: usize, p: usize, step: usize, to: usize): void {
  let sum = 0;
  for (; count > 0; count--) {
    for (let at: usize = 0; at < bytes; at += 64) sum += load<i32>(p + at);
    p += step;
  }
  store<i32>(to, sum);
}

/** Whether few rows or columns are better computed as dot products: both operands contiguous along a k that is not short. */
// @ts-ignore: decorator
@inline
function dotsPay<T>(k: i32, ac: usize, br: usize): bool {
  return k >= DOT_K && ac == sizeof<T>() && br == sizeof<T>();
}

/** C ← A·B + from where rows of A and columns of B are contiguous: blocks of dot products. */
function dotProducts<T>(
  m: i32, n: i32, k: i32, a: usize, ar: usize, b: usize, bc: usize, c: usize, cr: usize,
  from: usize, fr: usize, relu: bool, scratch: usize,
): void {
  const kPart = part(k, DOT_BYTES >> <i32>shift<T>(), lanes<T>());
  const column = <usize>k << shift<T>();
  const group = m > FEW ? n : max(2, <i32>(FETCH_BYTES / max(column, 1)) & ~1);
  const mPart = part(m, FEW, 1);
  const high = part(mPart, MR, 1);
  for (let jg = 0; jg < n; jg += group) {
    const jEnd = min(jg + group, n);
    if (m <= FEW && column * n > LARGE) fetch(jEnd - jg, column, b + <usize>jg * bc, bc, scratch);
    for (let pc = 0; pc == 0 || pc < k; pc += kPart) {
      const kc = min(kPart, k - pc);
      const along = <usize>pc << shift<T>();
      for (let ic = 0; ic < m; ic += mPart) {
        const iEnd = min(ic + mPart, m);
        for (let j = jg; j < jEnd; j += 2) {
          const nr = min(2, jEnd - j);
          const bAt = b + <usize>j * bc + along;
          for (let i = ic; i < iEnd; i += high) {
            const mr = min(high, iEnd - i);
            const aAt = a + <usize>i * ar + along;
            const at = <usize>i * cr + (<usize>j << shift<T>());
            // NOTE: two calls, as Binaryen inlines what is called once, and TurboFan then spills.
            if (nr == 2) dots<T>(mr, kc, aAt, ar, bAt, bc, scratch);
            else dots<T>(mr, kc, aAt, ar, bAt, 0, scratch);
            let source: usize = 0;
            let sr = fr;
            if (pc > 0) {
              source = c + at;
              sr = cr;
            } else if (from) source = from + (fr ? at : <usize>j << shift<T>());
            endDots<T>(mr, nr, kc, aAt, ar, bAt, nr == 2 ? bc : 0, scratch, c + at, cr, source, sr, relu && pc + kc >= k);
          }
        }
      }
    }
  }
}

/** What is left of a block of dot products: its lanes are added up, the end of k is added that no vector covers. */
function endDots<T>(
  m: i32, n: i32, k: i32, a: usize, ar: usize, b: usize, bc: usize, block: usize,
  c: usize, cr: usize, from: usize, fr: usize, relu: bool,
): void {
  const rest = <usize>(k & (lanes<T>() - 1)) << shift<T>();
  const skipped = (<usize>k << shift<T>()) - rest;
  a += skipped;
  b += skipped;
  for (; m > 0; m--) {
    const pair = sumPair<T>(v128.load(block), v128.load(block, 16));
    let x = v128.extract_lane<T>(pair, 0);
    let y = v128.extract_lane<T>(pair, 1);
    for (let at: usize = 0; at < rest; at += sizeof<T>()) {
      const u = load<T>(a + at);
      x += u * load<T>(b + at);
      y += u * load<T>(b + bc + at);
    }
    finish<T>(x, c, from, relu);
    if (n == 2) finish<T>(y, c + sizeof<T>(), from ? from + sizeof<T>() : 0, relu);
    block += BLOCK_BYTES;
    a += ar;
    c += cr;
    if (from) from += fr;
  }
}

/**
 * C ← A·B + from, all strides in bytes; `from` is 0 (nothing), C itself or a bias (fr = 0). Blocks are left out in which all
 * columns are larger than row + `diagonal`.
 */
export function product<T>(
  m: i32, n: i32, k: i32,
  a: usize, ar: usize, ac: usize,
  b: usize, br: usize, bc: usize,
  c: usize, cr: usize,
  from: usize, fr: usize, relu: bool, diagonal: i32, scratch: usize,
): void {
  if (n == 1 && cr == sizeof<T>() && (from == 0 || fr)) {
    // One column of C is one row of its transpose.
    n = m;
    m = 1;
    const right = b;
    b = a;
    a = right;
    const inner = br;
    br = ac;
    ac = inner;
    bc = ar;
  }
  if (m == 1 && br == sizeof<T>() && bc != sizeof<T>() && (ac == sizeof<T>() || k <= MC * KC)) {
    let x = a;
    if (ac != sizeof<T>()) panelOf<T>(1, 1, k, a, 0, ac, (x = scratch));
    dotRow<T>(n, k, x, b, bc, c, from, relu);
    return;
  }
  if (m <= FEW && dotsPay<T>(k, ac, br)) {
    dotProducts<T>(m, n, k, a, ar, b, bc, c, cr, from, fr, relu, scratch);
    return;
  }
  const NR = 2 * lanes<T>();
  const packedA = scratch + 256;
  const packedB = packedA + MC * KC * 8;
  const kPart = part(k, m <= FEW ? FEW_KC_BYTES >> <i32>shift<T>() : KC, 4);
  const mPart = part(m, MC, MR);
  const high = part(m, MR, 1);
  const directA = n <= (ac == sizeof<T>() ? FEW_DIRECT : 2 * NR) || (<i64>m * k) << shift<T>() <= SMALL;
  const directB = bc == sizeof<T>() && (m <= FEW || (<i64>n * k) << shift<T>() <= SMALL);
  const NC = m <= FEW && directB ? FEW_NC : NC_BYTES >> <i32>shift<T>();
  for (let jc = 0; jc < n; jc += NC) {
    const nc = min(NC, n - jc);
    for (let pc = 0; pc == 0 || pc < k; pc += kPart) {
      const kc = min(kPart, k - pc);
      const last = pc + kc >= k;
      const panelBytes = <usize>kc * BLOCK_BYTES + GAP;
      const bBlock = b + <usize>pc * br + <usize>jc * bc;
      if (m <= mPart && bc == sizeof<T>() && (<usize>n * k) << shift<T>() > LARGE)
        fetch(kc, <usize>nc << shift<T>(), bBlock, br, scratch);
      // Of a B that is read in place only the last columns are packed.
      const panels = directB ? packedB - <usize>(nc / NR) * panelBytes : packedB;
      let jr = directB ? nc / NR * NR : 0;
      if (bc == sizeof<T>())
        for (; jr + NR <= nc; ) {
          const count = min((nc - jr) / NR, PANELS);
          const to = panels + <usize>(jr / NR) * panelBytes;
          panelsOf(count, kc, bBlock + <usize>jr * bc, br, to, panelBytes);
          jr += count * NR;
        }
      for (; jr < nc; jr += NR)
        panelOf<T>(min(NR, nc - jr), NR, kc, bBlock + <usize>jr * bc, bc, br, panels + <usize>(jr / NR) * panelBytes);
      for (let ic = 0; ic < m; ic += mPart) {
        const mc = min(mPart, m - ic);
        if (jc > ic + mc - 1 + diagonal) continue;
        const aBlock = a + <usize>ic * ar + <usize>pc * ac;
        if (!directA)
          for (let ir = 0; ir < mc; ir += high) {
            const count = min(high, mc - ir);
            panelOf<T>(count, count, kc, aBlock + <usize>ir * ar, ar, ac, packedA + (<usize>(ir * kc) << shift<T>()));
          }
        for (let jr = 0; jr < nc; jr += NR) {
          const nr = min(NR, nc - jr);
          const direct = directB && nr == NR;
          const bAt = direct ? bBlock + (<usize>jr << shift<T>()) : panels + <usize>(jr / NR) * panelBytes;
          const bStep: usize = direct ? br : BLOCK_BYTES;
          for (let ir = 0; ir < mc; ir += high) {
            const mr = min(high, mc - ir);
            if (jc + jr > ic + ir + mr - 1 + diagonal) continue;
            const at = <usize>(ic + ir) * cr + (<usize>(jc + jr) << shift<T>());
            const cAt = c + at;
            let source: usize = 0;
            let sr = fr;
            if (pc > 0) {
              source = cAt;
              sr = cr;
            } else if (from) source = from + (fr ? at : <usize>(jc + jr) << shift<T>());
            const whole = nr == NR;
            const to = whole ? cAt : scratch;
            const toRow: usize = whole ? cr : BLOCK_BYTES;
            const base = whole ? source : 0;
            const clip = relu && last;
            if (directA) rows<T>(mr, kc, aBlock + <usize>ir * ar, ar, ac, bAt, bStep, to, toRow, base, sr);
            else panel<T>(mr, kc, packedA + (<usize>(ir * kc) << shift<T>()), bAt, bStep, to, toRow, base, sr);
            if (!whole) edge<T>(mr, nr, scratch, cAt, cr, source, sr, clip);
            else if (clip) clipBlock<T>(mr, cAt, cr);
          }
        }
      }
    }
  }
}

function gemm<T>(
  m: i32, n: i32, k: i32,
  a: usize, ar: i32, ac: i32,
  b: usize, br: i32, bc: i32,
  c: usize, cr: i32,
  bias: usize, accumulate: bool, relu: bool,
  batch: i32, aBatch: i32, bBatch: i32, cBatch: i32, scratch: usize,
): void {
  const s = shift<T>();
  const row = <usize>cr << s;
  const aRow = <usize>ar << s;
  const aCol = <usize>ac << s;
  const bRow = <usize>br << s;
  const bCol = <usize>bc << s;
  const fr = accumulate ? row : 0;
  // NOTE: not in `product`, whose n is what convolutions cut between threads.
  const fewColumns = m > FEW && n > 1 && n <= FEW && dotsPay<T>(k, aCol, bRow);
  for (; batch > 0; batch--) {
    const from = accumulate ? c : bias;
    if (fewColumns) dotProducts<T>(m, n, k, a, aRow, b, bCol, c, row, from, fr, relu, scratch);
    else product<T>(m, n, k, a, aRow, aCol, b, bRow, bCol, c, row, from, fr, relu, ALL, scratch);
    a += <usize>aBatch << s;
    b += <usize>bBatch << s;
    c += <usize>cBatch << s;
  }
}

/**
 * C [n, n] ← (C +) A·Aᵀ: the lower half is computed and mirrored, so the result is exactly symmetric. Of that half only the rows
 * `begin` … end − 1, or all if `end` is 0.
 */
function syrk<T>(
  n: i32, k: i32, a: usize, ar: i32, ac: i32, c: usize, cr: i32, accumulate: bool, scratch: usize, begin: i32, end: i32,
): void {
  const s = shift<T>();
  const row = <usize>cr << s;
  const outer = <usize>ar << s;
  const inner = <usize>ac << s;
  if (end == 0) end = n;
  const rows = a + <usize>begin * outer;
  const to = c + <usize>begin * row;
  product<T>(end - begin, end, k, rows, outer, inner, a, inner, outer, to, row, accumulate ? to : 0, row, false, begin, scratch);
  mirror<T>(begin, end, c, row);
}

/** Copies what lies below the diagonal in the rows begin … n − 1 to above it, in vectors that are transposed 4 × 4 (f64: 2 × 2). */
function mirror<T>(begin: i32, n: i32, c: usize, row: usize): void {
  const TILE = 32;
  for (let i0 = begin; i0 < n; i0 += TILE) {
    const iEnd = min(i0 + TILE, n);
    for (let j0 = 0; j0 < iEnd; j0 += TILE)
      for (let j = j0; j < min(j0 + TILE, iEnd); j += lanes<T>()) {
        let i = max(i0, j + lanes<T>());
        for (; i + lanes<T>() <= iEnd; i += lanes<T>()) mirrorBlock<T>(c, row, i, j);
        // What no vector covers: the blocks on the diagonal, and the last rows.
        for (let r = max(i0, j); r < min(iEnd, j + lanes<T>()); r++) mirrorRow<T>(c, row, r, j, r);
        for (; i < iEnd; i++) mirrorRow<T>(c, row, i, j, min(j + lanes<T>(), i));
      }
  }
}

/** Row i, columns j … end − 1. */
function mirrorRow<T>(c: usize, row: usize, i: i32, j: i32, end: i32): void {
  for (; j < end; j++)
    store<T>(c + <usize>j * row + (<usize>i << shift<T>()), load<T>(c + <usize>i * row + (<usize>j << shift<T>())));
}

/** The block of as many rows as columns at (i, j). */
// @ts-ignore: decorator
@inline
function mirrorBlock<T>(c: usize, row: usize, i: i32, j: i32): void {
  const from = c + <usize>i * row + (<usize>j << shift<T>());
  const to = c + <usize>j * row + (<usize>i << shift<T>());
  const p = v128.load(from);
  const q = v128.load(from + row);
  if (sizeof<T>() == 8) {
    v128.store(to, v128.shuffle<f64>(p, q, 0, 2));
    v128.store(to + row, v128.shuffle<f64>(p, q, 1, 3));
    return;
  }
  const r = v128.load(from + 2 * row);
  const s = v128.load(from + 3 * row);
  const pq = v128.shuffle<f32>(p, q, 0, 4, 1, 5);
  const rs = v128.shuffle<f32>(r, s, 0, 4, 1, 5);
  const PQ = v128.shuffle<f32>(p, q, 2, 6, 3, 7);
  const RS = v128.shuffle<f32>(r, s, 2, 6, 3, 7);
  v128.store(to, v128.shuffle<f64>(pq, rs, 0, 2));
  v128.store(to + row, v128.shuffle<f64>(pq, rs, 1, 3));
  v128.store(to + 2 * row, v128.shuffle<f64>(PQ, RS, 0, 2));
  v128.store(to + 3 * row, v128.shuffle<f64>(PQ, RS, 1, 3));
}

export function sgemm(
  m: i32, n: i32, k: i32, a: usize, ar: i32, ac: i32, b: usize, br: i32, bc: i32, c: usize, cr: i32, bias: usize,
  accumulate: bool, relu: bool, batch: i32, aBatch: i32, bBatch: i32, cBatch: i32, scratch: usize,
): void {
  gemm<f32>(m, n, k, a, ar, ac, b, br, bc, c, cr, bias, accumulate, relu, batch, aBatch, bBatch, cBatch, scratch);
}

export function dgemm(
  m: i32, n: i32, k: i32, a: usize, ar: i32, ac: i32, b: usize, br: i32, bc: i32, c: usize, cr: i32, bias: usize,
  accumulate: bool, relu: bool, batch: i32, aBatch: i32, bBatch: i32, cBatch: i32, scratch: usize,
): void {
  gemm<f64>(m, n, k, a, ar, ac, b, br, bc, c, cr, bias, accumulate, relu, batch, aBatch, bBatch, cBatch, scratch);
}

export function ssyrk(
  n: i32, k: i32, a: usize, ar: i32, ac: i32, c: usize, cr: i32, accumulate: bool, scratch: usize, from: i32, to: i32,
): void {
  syrk<f32>(n, k, a, ar, ac, c, cr, accumulate, scratch, from, to);
}

export function dsyrk(
  n: i32, k: i32, a: usize, ar: i32, ac: i32, c: usize, cr: i32, accumulate: bool, scratch: usize, from: i32, to: i32,
): void {
  syrk<f64>(n, k, a, ar, ac, c, cr, accumulate, scratch, from, to);
}

// For modules that import them: products with strides in bytes.

export function sproduct(
  m: i32, n: i32, k: i32, a: usize, ar: usize, ac: usize, b: usize, br: usize, bc: usize, c: usize, cr: usize,
  from: usize, fr: usize, scratch: usize,
): void {
  product<f32>(m, n, k, a, ar, ac, b, br, bc, c, cr, from, fr, false, ALL, scratch);
}

export function dproduct(
  m: i32, n: i32, k: i32, a: usize, ar: usize, ac: usize, b: usize, br: usize, bc: usize, c: usize, cr: usize,
  from: usize, fr: usize, scratch: usize,
): void {
  product<f64>(m, n, k, a, ar, ac, b, br, bc, c, cr, from, fr, false, ALL, scratch);
}
