// How the convolutions of winograd.ts are cut into blocks of rows of tiles, where these lie in the memory to work in, and where
// tiles lie in images.
import { MR } from './generated/blocks';
import { zero } from './vector';
import { M, OWN_BYTES, POINTS, T } from './winograd-tiles';

/** Channels whose filters are transformed at a time. */
export const FILTERS: i32 = 64;
/** Bytes of filters' points that stay in the second-level cache. */
const MATRICES: i32 = 400000;
/** Bytes of the points of a block of tiles, where it meets all filters and where it meets them part by part. */
const BLOCK: i32 = 2097152;
const LARGE_BLOCK: i32 = 8388608;
/** Bytes between matrices, whose starts would else fall on the same lines of the first-level cache. */
const GAP: usize = 64;
/** Columns of a register block. */
export const NR: i32 = 8;

// The convolution that runs: x [count, channels, height, width], out [count, outputs, outHeight, outWidth], and its tiles.
export let count: i32 = 0;
export let channels: i32 = 0;
export let height: i32 = 0;
export let width: i32 = 0;
export let outputs: i32 = 0;
export let outHeight: i32 = 0;
export let outWidth: i32 = 0;
export let pad: i32 = 0;
export let tileRows: i32 = 0;
export let tileCols: i32 = 0;
// How it is cut: whether outputs come in parts, how many each has, and rows of tiles of a block.
export let byOutputs: bool = false;
export let most: i32 = 0;
export let rows: i32 = 0;

// Where things lie in the memory to work in: points of filters (or of their gradients), tiles, and results (or their gradients),
// with the bytes between two points of each; strips of images; where tiles begin in them, and go; memory for transforms.
export let U: usize = 0;
export let V: usize = 0;
export let W: usize = 0;
export let us: usize = 0;
export let vs: usize = 0;
export let ws: usize = 0;
export let strips: usize = 0;
export let offsets: usize = 0;
export let targets: usize = 0;
export let own: usize = 0;
/** Of the gradient by the weights: points of some channels of a block, the bytes of a channel's, and between two points. */
export let points: usize = 0;
export let row: usize = 0;
export let ps: usize = 0;

export function sizes(n: i32, c: i32, h: i32, w: i32, o: i32, ho: i32, wo: i32, p: i32): void {
  count = n;
  channels = c;
  height = h;
  width = w;
  outputs = o;
  outHeight = ho;
  outWidth = wo;
  pad = p;
  tileRows = (ho + M - 1) / M;
  tileCols = (wo + M - 1) / M;
}

/**
 * Chooses the blocks. Tiles come block by block and meet all outputs. Where the filters' points are large, and the tiles' small
 * or the filters' larger than blocks should be, blocks are large and meet the outputs part by part, whose filters then stay in
 * the second-level cache. `more`: channels that a block has points of beside its own.
 */
function cut(more: i32): void {
  const each = POINTS * 4;
  const tiles = <i64>count * tileRows * tileCols;
  const matrices = <i64>each * channels * outputs;
  byOutputs = matrices > 2 * BLOCK || (matrices > MATRICES && each * channels * tiles <= LARGE_BLOCK);
  most = byOutputs ? min(outputs, max(1, MATRICES / (each * channels * MR)) * MR) : outputs;
  const bytes = <i64>each * (channels + most + more) * tileCols;
  rows = max(1, min(count * tileRows, <i32>((byOutputs ? LARGE_BLOCK : BLOCK) / max(1, bytes))));
}

/** Where things lie from `work` on, for results and the gradient by images; returns where they end. */
export function layout(work: usize): usize {
  cut(0);
  const panels = (rows * tileCols + NR - 1) / NR;
  us = (<usize>(channels * most) << 2) + GAP;
  vs = <usize>(panels * channels) * 32 + GAP;
  ws = <usize>(panels * most) * 32 + GAP;
  U = work;
  V = U + us * POINTS;
  W = V + vs * POINTS;
  strips = W + ws * POINTS;
  offsets = strips + stripBytes();
  targets = offsets + <usize>panels * 32;
  own = (targets + <usize>panels * 64 + 63) & ~63;
  return own + OWN_BYTES + <usize>POINTS * FILTERS * 4 * MR;
}

/** The same for the gradient by the weights. */
export function gradLayout(work: usize): usize {
  cut(NR);
  const tiles = (rows * tileCols + 3) & ~3;
  // An odd number of cache lines.
  row = (<usize>tiles * 4 + 63 & ~127) + 64;
  const across = (channels + NR - 1) / NR;
  us = <usize>(across * most) * 32 + GAP;
  vs = <usize>(across * tiles) * 32 + GAP;
  ws = (<usize>(most * tiles) << 2) + GAP;
  ps = row * NR + GAP;
  U = work;
  V = U + us * POINTS;
  W = V + vs * POINTS;
  points = W + ws * POINTS;
  strips = points + ps * POINTS;
  offsets = strips + stripBytes();
  targets = offsets + (<usize>tiles << 2);
  own = (targets + (<usize>tiles << 2) + 63) & ~63;
  return own + OWN_BYTES;
}

// --- strips: six rows of a channel for each row of tiles, or four, with zeros around ------------------------------------------

// @ts-ignore: decorator
@inline
export function stripRow(): usize {
  return <usize>(((tileCols * M + 2) * 4 + 15) & ~15) + 16;
}

/** Bytes of the strips of a block, and of one more of zeros. */
function stripBytes(): usize {
  return <usize>((rows + 1) * T) * stripRow();
}

/** A row of a plane of `w` columns to a strip's, zeros before, behind, and all over where it does not exist. */
function fillRow(exists: bool, from: usize, w: i32, left: i32, to: usize, bytes: usize): void {
  const end = to + bytes;
  if (!exists) {
    for (; to < end; to += 16) v128.store(to, zero<f32>());
    return;
  }
  v128.store(to, zero<f32>());
  to += <usize>left << 2;
  if (w >= 4) {
    const last = (<usize>w << 2) - 16;
    for (let at: usize = 0; at < last; at += 16) v128.store(to + at, v128.load(from + at));
    v128.store(to + last, v128.load(from + last));
  } else for (let i = 0; i < w; i++) store<f32>(to + (<usize>i << 2), load<f32>(from + (<usize>i << 2)));
  to += <usize>w << 2;
  for (; to + 16 <= end; to += 16) v128.store(to, zero<f32>());
  for (; to < end; to += 4) store<f32>(to, 0);
}

/** Strips of `lines` rows for the rows of tiles first … end − 1 of one channel of images [count, depth, h, w]. */
export function fillStrips(x: usize, depth: i32, channel: i32, h: i32, w: i32, left: i32, lines: i32, first: i32, end: i32): void {
  const bytes = stripRow();
  let to = strips;
  for (let r = first; r < end; r++) {
    const image = r / tileRows;
    const top = (r - image * tileRows) * M - left;
    const plane = x + (<usize>(image * depth + channel) * <usize>(h * w) << 2);
    for (let i = 0; i < lines; i++, to += bytes) {
      const y = top + i;
      fillRow(y >= 0 && y < h, plane + (<usize>(y * w) << 2), w, left, to, bytes);
    }
  }
}

/**
 * to ← where the tiles of `block` rows begin in strips of `lines` rows; those that only fill up `tiles` are the zeros behind
 * the strips, which are written too.
 */
export function fillOffsets(block: i32, lines: i32, tiles: i32, to: usize): void {
  const bytes = <i32>stripRow();
  const end = block * lines * bytes;
  memory.fill(strips + end, 0, T * bytes);
  let at = 0;
  for (let r = 0; r < block; r++)
    for (let j = 0; j < tileCols; j++, at++) store<i32>(to + (<usize>at << 2), r * lines * bytes + j * M * 4);
  for (; at < tiles; at++) store<i32>(to + (<usize>at << 2), end);
}

/** The strip of one of the four tiles of a vector. */
// @ts-ignore: decorator
@inline
export function strip(at: usize, lane: usize): usize {
  return strips + <usize>load<i32>(at + (lane << 2));
}

/** Where tiles go: bytes from the plane of the first image's output, then the rows and columns that exist. */
export function fillTargets(first: i32, end: i32, tiles: i32): void {
  let at = targets;
  for (let r = first; r < end; r++) {
    const image = r / tileRows;
    const y = (r - image * tileRows) * M;
    for (let j = 0; j < tileCols; j++, at += 8) {
      const x = j * M;
      store<i32>(at, ((image * outputs * outHeight + y) * outWidth + x) * 4);
      store<i16>(at, <i16>min(M, outHeight - y), 4);
      store<i16>(at, <i16>min(M, outWidth - x), 6);
    }
  }
  for (const stop = targets + <usize>tiles * 8; at < stop; at += 8) store<i64>(at, 0);
}
