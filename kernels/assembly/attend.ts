// Attention of several heads, softmax(q kᵀ / √d) v, and its gradients (Vaswani et al. 2017, section 3.2.1). Heads lie side by
// side in rows of q, k, v and the result, and are read and written where they lie. What a mask hides costs nothing where it is the
// end of a row, as in causal attention: products leave it out by blocks of rows, and the function of each element that remains is
// computed as in the product of everything. Sums have the order of gemm.ts: parts of `KC` along what is summed, one after the other.
import { all, bytesOf, choose, loadMasks, sumWide } from './elementwise-lanes';
import { edge, KC, part } from './gemm';
import { MR, rows } from './generated/blocks';
import { panelOf } from './pack';
import { addProducts, scaleRow, shiftOf, subtractMean, sumExp } from './softmax';
import { lanes, shift } from './vector';

/** Bytes of a row of a register block, and of a panel of 8 or 4 columns for each step of k. */
const LINE: usize = 32;
/** What callers keep to: features of a head, and positions. With these the areas below fit the scratch of a product. */
const MOST_FEATURES: i32 = 256;
const MOST_POSITIONS: i32 = 16384;
/** Bytes of an operand that is packed: at most `KC` lines of a head. */
const PACKED: usize = <usize>KC * MOST_FEATURES * 8;
/** Bytes of the gradient by the weights, of some rows. */
const SLOPES: usize = 1048576;

// Where what a call works with lies in its scratch.
// @ts-ignore: decorator
@inline
const ENDS: usize = 256;
// @ts-ignore: decorator
@inline
const BEGINS: usize = ENDS + 4 * MOST_POSITIONS;
// @ts-ignore: decorator
@inline
const TOPS: usize = BEGINS + 4 * MOST_POSITIONS;
// @ts-ignore: decorator
@inline
const PANELS: usize = TOPS + 4096;
// @ts-ignore: decorator
@inline
const QUERIES: usize = PANELS + PACKED;
// @ts-ignore: decorator
@inline
const GRADS: usize = QUERIES + PACKED;

// --- what a mask leaves ---------------------------------------------------------------------------------------------------

/**
 * Of each row of a mask [t, s], where what it allows ends, negative where something before that is hidden; s for a row that
 * allows nothing, which is NaN everywhere. Of each column, the first row that ends behind it.
 */
function survey(t: i32, s: i32, mask: usize, scratch: usize): void {
  let covered = 0;
  for (let i = 0; i < t; i++) {
    let end = s;
    if (mask) {
      while (end > 0 && !load<u8>(mask + end - 1)) end--;
      let j = 0;
      while (j + 8 <= end && load<u64>(mask + j) == 0x0101010101010101) j += 8;
      while (j < end && load<u8>(mask + j)) j++;
      const holes = j < end || end == 0;
      if (end == 0) end = s;
      store<i32>(scratch + ENDS + 4 * i, holes ? -end : end);
      mask += s;
    } else store<i32>(scratch + ENDS + 4 * i, end);
    for (; covered < end; covered++) store<i32>(scratch + BEGINS + 4 * covered, i);
  }
  for (; covered < s; covered++) store<i32>(scratch + BEGINS + 4 * covered, t);
}

/** Of each group of `high` of the rows from `first` on, the largest end, or s for all; returns the largest of them. */
function groupEnds(first: i32, count: i32, high: i32, s: i32, whole: bool, scratch: usize): i32 {
  let most = 0;
  let to = scratch + TOPS;
  for (let i = 0; i < count; i += high, to += 4) {
    let top = whole ? s : 0;
    for (let r = first + i; r < first + min(i + high, count); r++) top = max(top, abs(load<i32>(scratch + ENDS + 4 * r)));
    store<i32>(to, top);
    most = max(most, top);
  }
  return most;
}

/** Whether all elements of rows are so small that no product of two of them, summed, overflows; then 0 · x is 0 for each. */
function tame<T>(count: i32, d: i32, x: usize, row: usize): bool {
  const limit = all<T>(sizeof<T>() == 4 ? 7.205759403792794e16 : 3.273390607896142e150);
  let good = i32x4.splat(-1);
  for (; count > 0; count--, x += row) {
    let n = d;
    let p = x;
    for (; n >= lanes<T>(); n -= lanes<T>(), p += 16)
      good = v128.and(good, v128.lt<T>(v128.abs<T>(v128.load(p)), limit));
    for (; n > 0; n--, p += sizeof<T>())
      good = v128.and(good, v128.lt<T>(v128.abs<T>(v128.splat<T>(load<T>(p))), limit));
  }
  return i32x4.all_true(good);
}

// --- products -------------------------------------------------------------------------------------------------------------

/** Bytes of a panel of `count` steps. */
// @ts-ignore: decorator
@inline
function panelBytes(count: i32): usize {
  return <usize>count * LINE;
}

/** Packs columns of a matrix [n, d], whose rows are `row` bytes apart: panels of d steps, one for as many rows as have place side by side. */
function packRows<T>(n: i32, d: i32, x: usize, row: usize, to: usize): void {
  const NR = 2 * lanes<T>();
  for (; n > 0; n -= NR, x += <usize>NR * row, to += panelBytes(d))
    panelOf<T>(min(n, NR), NR, d, x, row, sizeof<T>(), to);
}

/** The same the other way round: panels of n steps, one for as many of the d columns as have place side by side. */
function packColumns<T>(n: i32, d: i32, x: usize, row: usize, to: usize): void {
  const NR = 2 * lanes<T>();
  for (; d > 0; d -= NR, x += LINE, to += panelBytes(n)) panelOf<T>(min(d, NR), NR, n, x, sizeof<T>(), row, to);
}

/** A register block of `m` rows and `n` ≤ NR columns of C. */
// @ts-ignore: decorator
@inline
function block<T>(
  m: i32, n: i32, k: i32, a: usize, ar: usize, ac: usize, panel: usize, c: usize, cr: usize, add: bool, scratch: usize,
): void {
  const whole = n >= 2 * lanes<T>();
  rows<T>(m, k, a, ar, ac, panel, LINE, whole ? c : scratch, whole ? cr : LINE, whole && add ? c : 0, cr);
  if (!whole) edge<T>(m, n, scratch, c, cr, add ? c : 0, cr, false);
}

/**
 * C [count, s] ← A [count, d] Bᵀ for B [s, d], in groups of rows as far as their ends (`groupEnds`), rounded up to whole blocks: rows
 * of C have place for that.
 */
function outer<T>(
  count: i32, high: i32, s: i32, d: i32, a: usize, ar: usize, b: usize, br: usize, c: usize, cr: usize, scratch: usize,
): void {
  const NR = 2 * lanes<T>();
  for (let from = 0; from < s; from += KC) {
    const columns = min(KC, s - from);
    packRows<T>(columns, d, b + <usize>from * br, br, scratch + PANELS);
    let panel = scratch + PANELS;
    for (let j = from; j < from + columns; j += NR, panel += panelBytes(d)) {
      const to = c + bytesOf<T>(j);
      for (let i = 0, top = scratch + TOPS; i < count; i += high, top += 4)
        if (load<i32>(top) > j)
          rows<T>(min(high, count - i), d, a + <usize>i * ar, ar, sizeof<T>(), panel, LINE, to + <usize>i * cr, cr, 0, 0);
    }
  }
}

/** C [count, d] ← A [count, s] B for B [s, d], where what lies behind the ends of groups of rows of A, the last of them `most`, is 0. */
function inner<T>(
  count: i32, high: i32, s: i32, most: i32, d: i32, a: usize, ar: usize, b: usize, br: usize, c: usize, cr: usize, scratch: usize,
): void {
  const NR = 2 * lanes<T>();
  const step = part(s, KC, 4);
  for (let from = 0; from == 0 || from < most; from += step) {
    const k = min(step, most - from);
    packColumns<T>(k, d, b + <usize>from * br, br, scratch + PANELS);
    let panel = scratch + PANELS;
    for (let j = 0; j < d; j += NR, panel += panelBytes(k))
      for (let i = 0, top = scratch + TOPS; i < count; i += high, top += 4) {
        const left = min(k, load<i32>(top) - from);
        if (left <= 0 && from > 0) continue;
        block<T>(
          min(high, count - i), d - j, left, a + <usize>i * ar + bytesOf<T>(from), ar, sizeof<T>(), panel,
          c + <usize>i * cr + bytesOf<T>(j), cr, from > 0, scratch,
        );
      }
  }
}

/**
 * C [s, d] ← (C +) Aᵀ B for rows first … first + count − 1 of A [t, s] and of B, which lies in panels; what lies before the first row
 * of a column (`survey`) is 0.
 */
function across<T>(
  first: i32, count: i32, s: i32, d: i32, a: usize, ar: usize, panels: usize, c: usize, cr: usize, whole: bool, scratch: usize,
): void {
  const NR = 2 * lanes<T>();
  const high = part(s, MR, 1);
  for (let j = 0; j < d; j += NR, panels += panelBytes(count))
    for (let i = 0; i < s; i += high) {
      const skip = whole ? 0 : max(0, load<i32>(scratch + BEGINS + 4 * i) - first);
      if (skip >= count && first > 0) continue;
      block<T>(
        min(high, s - i), d - j, count - skip, a + <usize>skip * ar + bytesOf<T>(i), sizeof<T>(), ar, panels + panelBytes(skip),
        c + <usize>i * cr + bytesOf<T>(j), cr, first > 0, scratch,
      );
    }
}

// --- rows of weights ------------------------------------------------------------------------------------------------------

/** x ← −∞ where the mask is 0, for n elements. */
function hide<T>(n: i32, x: usize, mask: usize): void {
  if (sizeof<T>() == 4)
    for (; n >= 4; n -= 4, x += 16, mask += 4)
      v128.store(x, choose(loadMasks(mask), v128.load(x), all<T>(-Infinity)));
  for (; n > 0; n--, x += sizeof<T>(), mask++) if (!load<u8>(mask)) store<T>(x, <T>-Infinity);
}

/** x ← value, for n elements. */
// @ts-ignore: decorator
@inline
function fillRow<T>(n: i32, x: usize, value: T): void {
  for (; n >= lanes<T>(); n -= lanes<T>(), x += 16) v128.store(x, v128.splat<T>(value));
  for (; n > 0; n--, x += sizeof<T>()) store<T>(x, value);
}

/** x ← softmax of its first n elements; the rest of `place` elements is 0, or NaN where these are. */
function weigh<T>(n: i32, place: i32, x: usize): void {
  let factor: T = 0;
  if (n > 0) {
    factor = <T>(1 / sumExp<T>(n, x, shiftOf<T>(n, x), x));
    scaleRow<T>(n, x, factor);
  }
  fillRow<T>(place - n, x + bytesOf<T>(n), factor * 0);
}

/** g ← y (g − Σ g y) over n elements, 0 in the rest of `place` and where a mask, if there is one, is 0. */
function slope<T>(n: i32, place: i32, g: usize, y: usize, mask: usize): void {
  if (n > 0) subtractMean<T>(n, g, y, <T>sumWide(addProducts<T>(n, g, y)), g);
  if (mask) for (let i = 0; i < n; i++) if (!load<u8>(mask + i)) store<T>(g + bytesOf<T>(i), 0);
  fillRow<T>(place - n, g + bytesOf<T>(n), 0);
}

/** Multiplies `count` rows of d elements, `row` bytes apart, and writes them `step` bytes apart. */
function scaled<T>(count: i32, d: i32, x: usize, row: usize, factor: f64, to: usize, step: usize): void {
  const f = all<T>(factor);
  for (; count > 0; count--, x += row, to += step) {
    let at: usize = 0;
    let n = d;
    for (; n >= lanes<T>(); n -= lanes<T>(), at += 16) v128.store(to + at, v128.mul<T>(v128.load(x + at), f));
    for (; n > 0; n--, at += sizeof<T>()) store<T>(to + at, load<T>(x + at) * <T>factor);
  }
}

// --- heads ----------------------------------------------------------------------------------------------------------------

/** What queries are multiplied by. */
// @ts-ignore: decorator
@inline
function scaleOf(d: i32): f64 {
  return 1 / Math.sqrt(<f64>d);
}

/** One head; strides in bytes. Products leave out what a mask hides where that cannot be seen in the result. */
function attend<T>(
  t: i32, s: i32, d: i32, row: usize, q: usize, k: usize, v: usize, mask: usize, w: usize, place: i32, out: usize,
  scratch: usize,
): void {
  const step = part(t, KC, 4);
  const wide = bytesOf<T>(d);
  const line = bytesOf<T>(place);
  const scale = scaleOf(d);
  const whole = !mask || !tame<T>(s, d, v, row);
  for (let first = 0; first < t; first += step) {
    const count = min(step, t - first);
    const high = part(count, MR, 1);
    // Scores that are hidden are replaced whatever they are.
    const most = groupEnds(first, count, high, s, !mask, scratch);
    const at = w + <usize>first * line;
    scaled<T>(count, d, q + <usize>first * row, row, scale, scratch + QUERIES, wide);
    outer<T>(count, high, most, d, scratch + QUERIES, wide, k, row, at, line, scratch);
    for (let i = 0; i < count; i++) {
      const end = load<i32>(scratch + ENDS + 4 * (first + i));
      const x = at + <usize>i * line;
      if (end < 0) hide<T>(-end, x, mask + <usize>(first + i) * s);
      weigh<T>(abs(end), place, x);
    }
    const last = whole ? groupEnds(first, count, high, s, true, scratch) : most;
    inner<T>(count, high, s, last, d, at, line, v, row, out + <usize>first * row, row, scratch);
  }
}

/** Whether a row of weights is NaN: then all of it is. */
function someNaN<T>(t: i32, w: usize, line: usize): bool {
  for (; t > 0; t--, w += line) if (load<T>(w) != load<T>(w)) return true;
  return false;
}

/** The gradients of one head, of the weights that `attend` left. */
function attendBackward<T>(
  t: i32, s: i32, d: i32, row: usize, q: usize, k: usize, v: usize, mask: usize, w: usize, place: i32,
  dy: usize, dq: usize, dk: usize, dv: usize, scratch: usize,
): void {
  const line = bytesOf<T>(place);
  const step = max(MR, min(part(t, KC, 4), <i32>(SLOPES / max(line, 1))));
  const whole = !mask || someNaN<T>(t, w, line) || !tame<T>(t, d, q, row) || !tame<T>(s, d, k, row) || !tame<T>(s, d, v, row) ||
    !tame<T>(t, d, dy, row);
  const g = scratch + GRADS;
  const scale = scaleOf(d);
  for (let first = 0; first < t; first += step) {
    const count = min(step, t - first);
    const high = part(count, MR, 1);
    const most = groupEnds(first, count, high, s, whole, scratch);
    const at = w + <usize>first * line;
    const grads = dy + <usize>first * row;
    outer<T>(count, high, most, d, grads, row, v, row, g, line, scratch);
    for (let i = 0; i < count; i++) {
      const end = whole ? s : abs(load<i32>(scratch + ENDS + 4 * (first + i)));
      slope<T>(end, place, g + <usize>i * line, at + <usize>i * line, whole && mask ? mask + <usize>(first + i) * s : 0);
    }
    inner<T>(count, high, s, most, d, g, line, k, row, dq + <usize>first * row, row, scratch);
    scaled<T>(count, d, dq + <usize>first * row, row, scale, dq + <usize>first * row, row);
    packColumns<T>(count, d, grads, row, scratch + PANELS);
    across<T>(first, count, s, d, at, line, scratch + PANELS, dv, row, whole, scratch);
    packColumns<T>(count, d, q + <usize>first * row, row, scratch + PANELS);
    const packed = <i32>(panelBytes(count) * ((d + 2 * lanes<T>() - 1) / (2 * lanes<T>())) >> shift<T>());
    scaled<T>(1, packed, scratch + PANELS, 0, scale, scratch + PANELS, 0);
    across<T>(first, count, s, d, g, line, scratch + PANELS, dk, row, whole, scratch);
  }
}

export function attention<T>(
  batch: i32, heads: i32, t: i32, s: i32, d: i32, row: i32, q: usize, k: usize, v: usize, mask: usize, maskBatch: i32,
  w: usize, place: i32, out: usize, scratch: usize,
): void {
  const line = bytesOf<T>(row);
  for (let b = 0; b < batch; b++) {
    if (b == 0 || (mask && maskBatch != 0)) survey(t, s, mask, scratch);
    for (let h = 0; h < heads; h++) {
      const at = bytesOf<T>(h * d);
      attend<T>(t, s, d, line, q + at, k + at, v + at, mask, w, place, out + at, scratch);
      w += bytesOf<T>(t * place);
    }
    q += line * t;
    k += line * s;
    v += line * s;
    out += line * t;
    if (mask) mask += maskBatch;
  }
}

export function attentionBackward<T>(
  batch: i32, heads: i32, t: i32, s: i32, d: i32, row: i32, q: usize, k: usize, v: usize, mask: usize, maskBatch: i32,
  w: usize, place: i32, dy: usize, dq: usize, dk: usize, dv: usize, scratch: usize,
): void {
  const line = bytesOf<T>(row);
  for (let b = 0; b < batch; b++) {
    if (b == 0 || (mask && maskBatch != 0)) survey(t, s, mask, scratch);
    for (let h = 0; h < heads; h++) {
      const at = bytesOf<T>(h * d);
      attendBackward<T>(
        t, s, d, line, q + at, k + at, v + at, mask, w, place, dy + at, dq + at, dk + at, dv + at, scratch,
      );
      w += bytesOf<T>(t * place);
    }
    q += line * t;
    dq += line * t;
    dy += line * t;
    k += line * s;
    dk += line * s;
    v += line * s;
    dv += line * s;
    if (mask) mask += maskBatch;
  }
}
