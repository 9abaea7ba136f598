// The patches of images that a convolution multiplies, laid out as its matrix products want them. Element k of a patch is
// (channel, kernel row, kernel column), a position is (row, column) of the output; outside of the plane are zeros.
import { bytesOf } from './elementwise-lanes';
import { lanes, shift, zero } from './vector';

// The convolution that runs; set by `geometry` on entry, as sixteen parameters everywhere would hide the loops.
// Images x [images, channels, rows, cols], weights [outputs, share, kRows, kCols], results [images, outputs, outRows, outCols].
export let images: i32 = 0;
export let channels: i32 = 0;
export let rows: i32 = 0;
export let cols: i32 = 0;
export let outputs: i32 = 0;
export let kRows: i32 = 0;
export let kCols: i32 = 0;
export let outRows: i32 = 0;
export let outCols: i32 = 0;
export let strideY: i32 = 0;
let strideX: i32 = 0;
export let padY: i32 = 0;
let padX: i32 = 0;
export let dilationY: i32 = 0;
let dilationX: i32 = 0;
export let groups: i32 = 0;

export function geometry(
  n: i32, c: i32, h: i32, w: i32, o: i32, kh: i32, kw: i32, ho: i32, wo: i32,
  sy: i32, sx: i32, py: i32, px: i32, dy: i32, dx: i32, g: i32,
): void {
  images = n;
  channels = c;
  rows = h;
  cols = w;
  outputs = o;
  kRows = kh;
  kCols = kw;
  outRows = ho;
  outCols = wo;
  strideY = sy;
  strideX = sx;
  padY = py;
  padX = px;
  dilationY = dy;
  dilationX = dx;
  groups = g;
}

/** Whether every patch is one pixel, so that the images are their own patches. */
export function pointwise(): bool {
  return kRows == 1 && kCols == 1 && strideY == 1 && strideX == 1 && padY == 0 && padX == 0;
}

// --- columns: panels of positions, for the forward product ------------------------------------------------------------

/** Bytes of an entry of the table of elements, and of what `columns` needs beside it. */
const ENTRY: usize = 16;
export const LANES_BYTES: usize = 32;

/** Bytes of the table of `count` elements. */
export function tableBytes(count: i32): usize {
  return <usize>count * ENTRY;
}

/** Whether rows beside those of the planes at x may be read: they do not end where the memory does. */
let roomy: bool = false;

/** Call before `columns`, with the address of the images. */
export function lookAround<T>(x: usize): void {
  const beside = <u64>bytesOf<T>(strideY * cols + 2 * padX + kCols * dilationX + 8);
  const end = <u64>x + <u64>bytesOf<T>(images * channels * rows * cols) + beside;
  roomy = <u64>x >= beside && end <= (<u64>memory.size()) << 16;
}

/** table ← for the elements k … k + count: bytes from the first pixel of a patch, and rows and columns below and right. */
export function fillTable<T>(k: i32, count: i32, table: usize): void {
  const taps = kRows * kCols;
  let channel = k / taps;
  let ky = (k - channel * taps) / kCols;
  let kx = k - channel * taps - ky * kCols;
  for (; count > 0; count--, table += ENTRY) {
    const y = ky * dilationY;
    const x = kx * dilationX;
    store<usize>(table, bytesOf<T>((channel * rows + y) * cols + x));
    store<i32>(table, y, 4);
    store<i32>(table, x, 8);
    if (++kx < kCols) continue;
    kx = 0;
    if (++ky < kRows) continue;
    ky = 0;
    channel++;
  }
}

/** The elements at the addresses p0 … of which `bits` names those that exist; zeros elsewhere. */
// @ts-ignore: decorator
@inline
function pick<T>(bits: i32, p0: usize, p1: usize, p2: usize, p3: usize): v128 {
  let v = zero<T>();
  if (sizeof<T>() == 8) {
    if (bits & 1) v = v128.load64_lane(p0, v, 0);
    if (bits & 2) v = v128.load64_lane(p1, v, 1);
    return v;
  }
  if (bits & 1) v = v128.load32_lane(p0, v, 0);
  if (bits & 2) v = v128.load32_lane(p1, v, 1);
  if (bits & 4) v = v128.load32_lane(p2, v, 2);
  if (bits & 8) v = v128.load32_lane(p3, v, 3);
  return v;
}

/** Masks of 32 bits as wide as T, for the first lanes. */
// @ts-ignore: decorator
@inline
function widen<T>(mask: v128): v128 {
  return sizeof<T>() == 4 ? mask : i64x2.extend_low_i32x4_s(mask);
}

/** One vector of positions from `at` on: `count` elements of the table to `to`, `to` + 32, …. Uses 32 bytes at `own`. */
function column<T>(at: i32, count: i32, image: usize, table: usize, to: usize, own: usize): void {
  const positions = outRows * outCols;
  const most = min(lanes<T>(), positions - at);
  // Row and column of the first pixel of each patch; lanes without a position lie far outside.
  v128.store(own, i32x4.splat(-0x40000000));
  v128.store(own, i32x4.splat(-0x40000000), 16);
  const first = at / outCols;
  let i = first;
  let j = at - i * outCols;
  let left = i32.MAX_VALUE;
  let right = i32.MIN_VALUE;
  let y = i * strideY - padY;
  const top = y;
  for (let lane = 0; lane < most; lane++) {
    if (j == outCols) {
      j = 0;
      y = ++i * strideY - padY;
    }
    const x = j++ * strideX - padX;
    left = min(left, x);
    right = max(right, x);
    store<i32>(own + (<usize>lane << 2), y);
    store<i32>(own + (<usize>lane << 2), x, 16);
  }
  const p0 = image + bytesOf<T>(load<i32>(own) * cols + load<i32>(own, 16));
  const p1 = image + bytesOf<T>(load<i32>(own, 4) * cols + load<i32>(own, 20));
  const p2 = image + bytesOf<T>(load<i32>(own, 8) * cols + load<i32>(own, 24));
  const p3 = image + bytesOf<T>(load<i32>(own, 12) * cols + load<i32>(own, 28));
  const whole = most == lanes<T>();
  const inside =
    whole && top >= 0 && left >= 0 &&
    y + (kRows - 1) * dilationY < rows && right + (kCols - 1) * dilationX < cols;
  // Lanes are side by side in one row, or in two: then one vector ends where another begins.
  const near = roomy && whole && strideX == 1 && i <= first + 1;
  const begin = lanes<T>() == 4 ? p3 - 12 : p1 - 8;
  if (inside && near) {
    const upper = widen<T>(i32x4.eq(v128.load(own), i32x4.splat(top)));
    for (; count > 0; count--, table += ENTRY, to += 32) {
      const k = load<usize>(table);
      v128.store(to, v128.bitselect(v128.load(p0 + k), v128.load(begin + k), upper));
    }
    return;
  }
  if (inside) {
    for (; count > 0; count--, table += ENTRY, to += 32) {
      const k = load<usize>(table);
      v128.store(to, pick<T>(15, p0 + k, p1 + k, p2 + k, p3 + k));
    }
    return;
  }
  const ys = v128.load(own);
  const xs = v128.load(own, 16);
  const bottom = i32x4.splat(rows);
  const end = i32x4.splat(cols);
  const upper = widen<T>(i32x4.eq(ys, i32x4.splat(top)));
  for (; count > 0; count--, table += ENTRY, to += 32) {
    const k = load<usize>(table);
    const inY = i32x4.lt_u(i32x4.add(ys, v128.load32_splat(table, 4)), bottom);
    const inX = i32x4.lt_u(i32x4.add(xs, v128.load32_splat(table, 8)), end);
    const exists = v128.and(inY, inX);
    const bits = i32x4.bitmask(exists);
    if (bits == 0) v128.store(to, zero<T>());
    else if (near) {
      const both = v128.bitselect(v128.load(p0 + k), v128.load(begin + k), upper);
      v128.store(to, v128.and(both, widen<T>(exists)));
    } else v128.store(to, pick<T>(bits, p0 + k, p1 + k, p2 + k, p3 + k));
  }
}

/**
 * to [count, two vectors] ← the elements of the table in the patches of the positions from `at` on: a panel of the right
 * operand. `image` is the first channel's plane. Uses LANES_BYTES at `own`.
 */
export function columns<T>(at: i32, count: i32, image: usize, table: usize, to: usize, own: usize): void {
  const i = at / outCols;
  const x = at - i * outCols;
  const y = i * strideY - padY;
  const wide = 2 * lanes<T>();
  if (
    strideX == 1 && x + wide <= outCols && x >= padX && x - padX + wide + (kCols - 1) * dilationX <= cols &&
    y >= 0 && y + (kRows - 1) * dilationY < rows
  ) {
    const p = image + bytesOf<T>(y * cols + x - padX);
    for (; count > 0; count--, table += ENTRY, to += 32) {
      const q = p + load<usize>(table);
      v128.store(to, v128.load(q));
      v128.store(to, v128.load(q, 16), 16);
    }
    return;
  }
  column<T>(at, count, image, table, to, own);
  column<T>(at + lanes<T>(), count, image, table, to + 16, own);
}

// --- rows: one element after the other, for the gradients -------------------------------------------------------------

// @ts-ignore: decorator
@inline
function clear<T>(count: i32, to: usize): void {
  for (; count > 0; count--, to += sizeof<T>()) store<T>(to, 0);
}

/** to ← every `strideX`-th of the pixels at p. */
// @ts-ignore: decorator
@inline
function take<T>(count: i32, p: usize, to: usize): void {
  if (strideX == 1 && count >= lanes<T>()) {
    const end = bytesOf<T>(count) - 16;
    for (let at: usize = 0; at < end; at += 16) v128.store(to + at, v128.load(p + at));
    v128.store(to + end, v128.load(p + end));
    return;
  }
  const step = bytesOf<T>(strideX);
  for (; count > 0; count--, p += step, to += sizeof<T>()) store<T>(to, load<T>(p));
}

/** every `strideX`-th of the pixels at p += from. */
// @ts-ignore: decorator
@inline
function addTo<T>(count: i32, p: usize, from: usize): void {
  if (strideX == 1)
    for (; count >= lanes<T>(); count -= lanes<T>(), p += 16, from += 16)
      v128.store(p, v128.add<T>(v128.load(p), v128.load(from)));
  const step = bytesOf<T>(strideX);
  for (; count > 0; count--, p += step, from += sizeof<T>()) store<T>(p, load<T>(p) + load<T>(from));
}

/** The steps of length `step` from `start` (which may be negative) that reach 0. */
// @ts-ignore: decorator
@inline
function stepsTo0(start: i32, step: i32): i32 {
  return start >= 0 ? 0 : (step - 1 - start) / step;
}

/** How many of `most` points start, start + step, … lie below `length`. */
// @ts-ignore: decorator
@inline
function stepsBelow(length: i32, start: i32, step: i32, most: i32): i32 {
  return start >= length ? 0 : min(most, (length - 1 - start) / step + 1);
}

/**
 * to [elements, positions] ← the elements k … of the patches at the positions at …; `image` is the first channel's plane.
 * With `back` it is the other way round: the planes += what `to` holds.
 */
export function patchRows<T>(k: i32, elements: i32, at: i32, positions: i32, image: usize, to: usize, back: bool): void {
  const taps = kRows * kCols;
  let channel = k / taps;
  let ky = (k - channel * taps) / kCols;
  let kx = k - channel * taps - ky * kCols;
  const startRow = at / outCols;
  const startCol = at - startRow * outCols;
  for (; elements > 0; elements--) {
    const left = kx * dilationX - padX;
    const from = stepsTo0(left, strideX);
    const end = stepsBelow(cols, left, strideX, outCols);
    const plane = image + bytesOf<T>(channel * rows * cols + left);
    let y = startRow * strideY + ky * dilationY - padY;
    let j = startCol;
    for (let rest = positions; rest > 0; y += strideY) {
      const stop = min(outCols, j + rest);
      const exists = y >= 0 && y < rows;
      const a = exists ? min(max(from, j), stop) : stop;
      const b = min(max(end, a), stop);
      const p = plane + bytesOf<T>(y * cols + a * strideX);
      if (back) addTo<T>(b - a, p, to + bytesOf<T>(a - j));
      else {
        clear<T>(a - j, to);
        take<T>(b - a, p, to + bytesOf<T>(a - j));
        clear<T>(stop - b, to + bytesOf<T>(b - j));
      }
      to += bytesOf<T>(stop - j);
      rest -= stop - j;
      j = 0;
    }
    if (++kx < kCols) continue;
    kx = 0;
    if (++ky < kRows) continue;
    ky = 0;
    channel++;
  }
}

/**
 * to, `stride` bytes from element to element ← what a kernel of one row sees at the output columns from `left` on, `width`
 * of them, in the rows of the planes from `top` on: elements (channel, kernel column), and for each of them
 * [slots, images, width]. Rows that are `strideY` apart have slots side by side, `slots` to each remainder.
 */
export function rowPatches<T>(
  x: usize, count: i32, top: i32, height: i32, slots: i32, left: i32, width: i32, to: usize, stride: usize,
): void {
  const line = bytesOf<T>(width);
  for (let channel = 0; channel < channels; channel++)
    for (let kx = 0; kx < kCols; kx++, to += stride) {
      const start = (left * strideX) + kx * dilationX - padX;
      const a = min(stepsTo0(start, strideX), width);
      const b = max(stepsBelow(cols, start, strideX, width), a);
      for (let r = 0; r < height; r++) {
        let p = x + bytesOf<T>((channel * rows + top + r) * cols + start + a * strideX);
        let q = to + <usize>((r % strideY * slots + r / strideY) * count) * line;
        for (let image = 0; image < count; image++, p += bytesOf<T>(channels * rows * cols), q += line) {
          clear<T>(a, q);
          take<T>(b - a, p, q + bytesOf<T>(a));
          clear<T>(width - b, q + bytesOf<T>(b));
        }
      }
    }
}

// --- whole patches ----------------------------------------------------------------------------------------------------

/** to ← the patch at p, no element of which lies outside and whose rows have no gaps; returns what comes after it. */
// @ts-ignore: decorator
@inline
function wholePatch<T>(p: usize, to: usize): usize {
  const line = bytesOf<T>(kCols);
  for (let channel = 0; channel < channels; channel++, p += bytesOf<T>(rows * cols)) {
    let q = p;
    for (let ky = 0; ky < kRows; ky++, q += bytesOf<T>(dilationY * cols), to += line) {
      // The length of most rows: a loop would take longer than the copies.
      if (kCols == 3) {
        store<T>(to, load<T>(q));
        store<T>(to + sizeof<T>(), load<T>(q + sizeof<T>()));
        store<T>(to + 2 * sizeof<T>(), load<T>(q + 2 * sizeof<T>()));
      } else for (let at: usize = 0; at < line; at += sizeof<T>()) store<T>(to + at, load<T>(q + at));
    }
  }
  return to;
}

/** patches [images, positions, elements] ← those of x; with `back` x += the patches. */
export function wholePatches<T>(x: usize, patches: usize, back: bool): void {
  for (let image = 0; image < images; image++, x += bytesOf<T>(channels * rows * cols))
    for (let i = 0; i < outRows; i++)
      for (let j = 0; j < outCols; j++) {
        const left = j * strideX - padX;
        const from = stepsTo0(left, dilationX);
        const end = stepsBelow(cols, left, dilationX, kCols);
        const step = bytesOf<T>(dilationX);
        const first = i * strideY - padY;
        if (
          !back && dilationX == 1 && from == 0 && end == kCols && first >= 0 && first + (kRows - 1) * dilationY < rows
        ) {
          patches = wholePatch<T>(x + bytesOf<T>(first * cols + left), patches);
          continue;
        }
        for (let channel = 0; channel < channels; channel++) {
          let y = first;
          for (let ky = 0; ky < kRows; ky++, y += dilationY, patches += bytesOf<T>(kCols)) {
            const exists = y >= 0 && y < rows;
            const a = exists ? min(from, kCols) : kCols;
            const b = max(min(end, kCols), a);
            let p = x + bytesOf<T>((channel * rows + y) * cols + left + a * dilationX);
            if (back)
              for (let kx = a; kx < b; kx++, p += step)
                store<T>(p, load<T>(p) + load<T>(patches + bytesOf<T>(kx)));
            else {
              clear<T>(a, patches);
              for (let kx = a; kx < b; kx++, p += step) store<T>(patches + bytesOf<T>(kx), load<T>(p));
              clear<T>(kCols - b, patches + bytesOf<T>(b));
            }
          }
        }
      }
}
