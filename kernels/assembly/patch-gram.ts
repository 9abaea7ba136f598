// Second moments of the patches of images: Σ p pᵀ over images and positions, [elements, elements], without the patches.
// Kernel row ky of the patch at output row i sees the row r = i·strideY + ky·dilationY − padY of the plane. So the block of two
// kernel rows (ky, ky + d) is a sum over r of products of what a kernel of ONE row sees in the rows r and r + d·dilationY.
// That sum is the same for all ky but for the first and last rows: where they coincide (`core`) it is taken once. For 3 × 3
// this is 2.5 products of thirds of a patch in place of the 4.5 of a triangle, and a third of the pixels to lay out.
// Contiguous operands; scratch does not grow with them.
import {
  channels, cols, dilationY, geometry, images, kCols, kRows, outCols, outRows, padY, rowPatches, rows, strideY,
} from './conv-patches';
import { bytesOf } from './elementwise-lanes';
import { BLOCK_BYTES, KC, MC, part } from './gemm';
import { MR, panel } from './generated/blocks';
import { panelOf } from './pack';
import { lanes } from './vector';

/** Positions of a tile, where one row of positions and its halo are not longer. */
const POSITIONS: i32 = 1024;
/** Bytes of a tile, and of it once more as the left operand. */
const TILE: i32 = MC * KC * 8;
/** As many times that is what the right operand has. */
const RIGHT: i32 = 5;

// The tile that is worked on, set by `patchGram`.
/** Elements of a row of a patch, with the homogeneous 1. */
let size: i32 = 0;
let left: usize = 0;
let right: usize = 0;
/** Positions of the tile, and of each row of a plane in it. */
let length: i32 = 0;
let wide: i32 = 0;
/** Rows of the planes from `top` on, of which those up to `end` − 1 are the first ones of a pair; slots of each remainder. */
let top: i32 = 0;
let end: i32 = 0;
let slots: i32 = 0;

/** The rows of the matrices of `work` that are computed: `upper` … beyond − 1. */
let upper: i32 = 0;
let beyond: i32 = 0;

/** Columns of a register block. */
let blockCols: i32 = 0;

/** Bytes of a row of a matrix of `work`: whole register blocks. */
function workRow(): usize {
  return <usize>((size + blockCols - 1) / blockCols) * BLOCK_BYTES;
}

/** Rows below the first one of a pair that the second one may be. */
function halo(): i32 {
  return (kRows - 1) * dilationY;
}

/** Positions that a tile may have, so that its left and right operands fit; less than `halo() + strideY`: it cannot be. */
function most<T>(): i32 {
  const fits = TILE / max(<i32>bytesOf<T>(size), (<i32>workRow() + RIGHT - 1) / RIGHT);
  return min(fits, max(POSITIONS, 2 * (halo() + strideY)));
}

/** The rows of pairs of kernel rows (ky, ky + d): the first one, and the one after the last. All are ≡ `begin` modulo strideY. */
let begin: i32 = 0;
let stop: i32 = 0;
function pairRows(ky: i32, d: i32): void {
  const at = ky * dilationY - padY;
  const skipped = at >= 0 ? 0 : (strideY - 1 - at) / strideY;
  begin = at + skipped * strideY;
  const last = min(at + (outRows - 1) * strideY, rows - 1 - d * dilationY);
  stop = last < begin ? begin : begin + ((last - begin) / strideY + 1) * strideY;
}

/** The first of the kernel rows that see the rows of the plane that `ky` sees, but for the first and last ones. */
function leader(ky: i32): i32 {
  let first = ky;
  for (let other = 0; other < first; other++) if ((ky - other) * dilationY % strideY == 0) first = other;
  return first;
}

/** The rows that the pairs (·, · + d) of all kernel rows with that leader have in common; none: `begin` = `stop`. */
function coreRows(first: i32, d: i32): void {
  let low = 0;
  let high = i32.MAX_VALUE;
  for (let ky = first; ky + d < kRows; ky++) {
    if (leader(ky) != first) continue;
    pairRows(ky, d);
    low = max(low, begin);
    high = min(high, stop);
  }
  begin = low;
  stop = max(low, high);
}

/** The matrix of `work` for kernel rows (ky, ky + d): what they share with others (of their leader), or have alone. */
function matrix(work: usize, ky: i32, d: i32, shared: bool): usize {
  // Pairs in the order (0, 0) … (kRows − 1, 0), (0, 1), ….
  const pair = d * kRows - d * (d - 1) / 2 + ky;
  return work + <usize>(2 * pair + <i32>shared) * <usize>size * workRow();
}

/** to += Σ over the rows from … till − 1 of the tile, in steps of strideY, of the products with those d·dilationY below. */
function addRows<T>(from: i32, till: i32, d: i32, to: usize): void {
  if (from < top) from += (top - from + strideY - 1) / strideY * strideY;
  till = min(till, end);
  if (from >= till) return;
  const k = ((till - from + strideY - 1) / strideY) * wide;
  const p = (from - top) % strideY * slots + (from - top) / strideY;
  const second = from - top + d * dilationY;
  const q = second % strideY * slots + second / strideY;
  // Only the pairs of one row have the homogeneous 1.
  const n = d == 0 ? size : channels * kCols;
  const row = workRow();
  for (let jr = 0; jr < n; jr += blockCols) {
    const b = right + <usize>(jr / blockCols * length + q * wide) * BLOCK_BYTES;
    for (let ir = upper; ir < min(n, beyond); ir += MR) {
      const mr = min(MR, beyond - ir);
      if (d == 0 && jr > ir + mr - 1) continue;
      const a = left + bytesOf<T>(ir * length + p * wide * mr);
      const c = to + <usize>ir * row + bytesOf<T>(jr);
      panel<T>(mr, k, a, b, BLOCK_BYTES, c, row, c, row);
    }
  }
}

/** Adds what the tile holds to `work`. */
function addTile<T>(work: usize): void {
  for (let d = 0; d < kRows; d++)
    for (let ky = 0; ky + d < kRows; ky++) {
      const first = leader(ky);
      coreRows(first, d);
      const low = begin;
      const high = stop;
      if (ky == first) addRows<T>(low, high, d, matrix(work, ky, d, true));
      pairRows(ky, d);
      const own = matrix(work, ky, d, false);
      if (low == high) {
        addRows<T>(begin, stop, d, own);
        continue;
      }
      addRows<T>(begin, low, d, own);
      addRows<T>(high, stop, d, own);
    }
}

/** out ← the sums of `work`, on both sides of the diagonal. */
function spread<T>(work: usize, out: usize, ones: bool): void {
  const elements = channels * kRows * kCols;
  const outRow = bytesOf<T>(elements + <i32>ones);
  const row = workRow();
  for (let d = 0; d < kRows; d++)
    for (let ky = 0; ky + d < kRows; ky++) {
      let p = matrix(work, ky, d, false);
      let q = matrix(work, leader(ky), d, true);
      p += <usize>upper * row;
      q += <usize>upper * row;
      for (let i = upper; i < min(beyond, d == 0 ? size : channels * kCols); i++, p += row, q += row) {
        const channel = i / kCols;
        const to = channel == channels ? elements : channel * kRows * kCols + ky * kCols + i - channel * kCols;
        const n = d == 0 ? min(i + 1, channels * kCols) : channels * kCols;
        let at = (ky + d) * kCols;
        for (let j = 0, kx = 0; j < n; j++, at++, kx++) {
          if (kx == kCols) {
            kx = 0;
            at += (kRows - 1) * kCols;
          }
          const sum = load<T>(p + bytesOf<T>(j)) + load<T>(q + bytesOf<T>(j));
          store<T>(out + <usize>to * outRow + bytesOf<T>(at), sum);
          store<T>(out + <usize>at * outRow + bytesOf<T>(to), sum);
        }
      }
    }
  if (ones && beyond == size) store<T>(out + <usize>elements * outRow + bytesOf<T>(elements), <T>(<f64>images * outRows * outCols));
}

function patchGram<T>(x: usize, ones: bool, work: usize, out: usize, scratch: usize, from: i32, to: i32): bool {
  size = channels * kCols + <i32>ones;
  upper = from;
  beyond = to == 0 || to >= channels * kCols ? size : to;
  blockCols = 2 * lanes<T>();
  const positions = most<T>();
  if (positions < halo() + strideY) return false;
  for (let i = 0; i < kRows * (kRows + 1); i++)
    memory.fill(work + <usize>(i * size + upper) * workRow(), 0, <usize>(beyond - upper) * workRow());
  left = scratch;
  right = left + TILE;
  const tile = right + RIGHT * TILE;
  const width = max(1, min(outCols, positions / (2 * (halo() + strideY))));
  const whole = (rows + strideY - 1) * width <= positions;
  const height = whole ? rows : part(rows, positions / width - halo() - strideY + 1, 1);
  const count = whole ? max(1, min(images, positions / (max(1, rows + strideY - 1) * width))) : 1;
  for (let image = 0; image < images; image += count) {
    const these = min(count, images - image);
    const planes = x + bytesOf<T>(image * channels * rows * cols);
    for (top = 0; top < rows; top += height) {
      end = min(top + height, rows);
      const tall = min(end + halo(), rows) - top;
      slots = (tall + strideY - 1) / strideY;
      for (let at = 0; at < outCols; at += width) {
        const across = min(width, outCols - at);
        wide = these * across;
        length = slots * strideY * wide;
        const line = bytesOf<T>(length);
        rowPatches<T>(planes, these, top, tall, slots, at, across, tile, line);
        if (ones) for (let i = 0; i < length; i++) store<T>(tile + <usize>(size - 1) * line + bytesOf<T>(i), 1);
        for (let ir = upper; ir < beyond; ir += MR) {
          const mr = min(MR, beyond - ir);
          panelOf<T>(mr, mr, length, tile + <usize>ir * line, line, sizeof<T>(), left + <usize>ir * line);
        }
        for (let jr = 0; jr < size; jr += blockCols) {
          const to = right + <usize>(jr / blockCols * length) * BLOCK_BYTES;
          panelOf<T>(min(blockCols, size - jr), blockCols, length, tile + <usize>jr * line, line, sizeof<T>(), to);
        }
        addTile<T>(work);
      }
    }
  }
  spread<T>(work, out, ones);
  return true;
}

export function patchGram_f32(
  n: i32, c: i32, h: i32, w: i32, o: i32, kh: i32, kw: i32, ho: i32, wo: i32, sy: i32, sx: i32,
  py: i32, px: i32, dy: i32, dx: i32, g: i32, ones: bool, x: usize, work: usize, out: usize, scratch: usize,
  from: i32, to: i32,
): bool {
  geometry(n, c, h, w, o, kh, kw, ho, wo, sy, sx, py, px, dy, dx, g);
  return patchGram<f32>(x, ones, work, out, scratch, from, to);
}

export function patchGram_f64(
  n: i32, c: i32, h: i32, w: i32, o: i32, kh: i32, kw: i32, ho: i32, wo: i32, sy: i32, sx: i32,
  py: i32, px: i32, dy: i32, dx: i32, g: i32, ones: bool, x: usize, work: usize, out: usize, scratch: usize,
  from: i32, to: i32,
): bool {
  geometry(n, c, h, w, o, kh, kw, ho, wo, sy, sx, py, px, dy, dx, g);
  return patchGram<f64>(x, ones, work, out, scratch, from, to);
}
