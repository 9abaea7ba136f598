// Convolutions 3 × 3 of stride 1 of float32 by Winograd's minimal filtering F(4 × 4, 3 × 3), see winograd-tiles.ts: at each of
// 36 points the numbers of tiles and filters are matrices, and a convolution is one product of them a point, a quarter of the
// multiplications of a direct one. The gradient by the weights is the transposed transform, a sum over tiles.
// Contiguous operands. The memory to work in is that of a block of tiles and does not grow with their number.
import { part } from './gemm';
import { MR, panel } from './generated/blocks';
import { panelOf } from './pack';
import { splatAt, zero } from './vector';
import {
  byOutputs, channels, count, fillOffsets, fillStrips, fillTargets, FILTERS, gradLayout, height, layout, most, NR, offsets,
  outHeight, outputs, outWidth, own, pad, points, ps, row, rows, sizes, strip, stripRow, targets, tileCols, tileRows, U, us,
  V, vs, W, width, ws,
} from './winograd-blocks';
import {
  allFinite, dataTiles, filterGradTiles, filterTiles, gather, gradTiles, M, OWN_BYTES, POINTS, resultTiles, T,
} from './winograd-tiles';

/** Most channels, or tiles, of a sum before it is added to the others: short sums have smaller errors, at no cost. */
const KC: i32 = 64;
const TILES: i32 = 64;

// --- tiles -----------------------------------------------------------------------------------------------------------------

/** V ← the points of the rows of tiles r … end − 1: for each a matrix [channels, tiles], cut by `kPart`, as panels. */
function dataPoints(x: usize, r: i32, end: i32, kPart: i32, panels: i32): void {
  const blocks = ((end - r) * tileCols + NR - 1) / NR;
  for (let pc = 0; pc < channels; pc += kPart) {
    const kc = min(kPart, channels - pc);
    for (let c = 0; c < kc; c++) {
      fillStrips(x, channels, pc + c, height, width, pad, T, r, end);
      let to = V + <usize>(pc * panels + c) * 32;
      for (let q = 0; q < blocks * 2; q++) {
        const at = offsets + <usize>q * 16;
        const half = to + <usize>(q & 1) * 16;
        dataTiles(strip(at, 0), strip(at, 1), strip(at, 2), strip(at, 3), stripRow(), own, half, vs);
        if (q & 1) to += <usize>kc * 32;
      }
    }
  }
}

// @ts-ignore: decorator
@inline
function putRow(v: v128, target: usize, i: i32, out: usize): void {
  if (i >= <i32>load<i16>(target, 4)) return;
  const cols = <i32>load<i16>(target, 6);
  const to = out + <usize>load<i32>(target) + (<usize>(i * outWidth) << 2);
  if (cols == 4) return v128.store(to, v);
  store<f32>(to, f32x4.extract_lane(v, 0));
  if (cols > 1) store<f32>(to, f32x4.extract_lane(v, 1), 4);
  if (cols > 2) store<f32>(to, f32x4.extract_lane(v, 2), 8);
}

/** Four tiles of `own`, plus a bias, to the output's plane; returns what they add up to. */
function putTiles(bias: v128, target: usize, out: usize): v128 {
  let all = zero<f32>();
  for (let i = 0; i < M; i++) {
    const at = own + <usize>i * 64;
    const a = f32x4.add(v128.load(at), bias);
    const b = f32x4.add(v128.load(at, 16), bias);
    const c = f32x4.add(v128.load(at, 32), bias);
    const d = f32x4.add(v128.load(at, 48), bias);
    all = f32x4.add(all, f32x4.add(f32x4.add(a, b), f32x4.add(c, d)));
    const ab = v128.shuffle<f32>(a, b, 0, 4, 1, 5);
    const cd = v128.shuffle<f32>(c, d, 0, 4, 1, 5);
    const AB = v128.shuffle<f32>(a, b, 2, 6, 3, 7);
    const CD = v128.shuffle<f32>(c, d, 2, 6, 3, 7);
    putRow(v128.shuffle<f64>(ab, cd, 0, 2), target, i, out);
    putRow(v128.shuffle<f64>(ab, cd, 1, 3), target + 8, i, out);
    putRow(v128.shuffle<f64>(AB, CD, 0, 2), target + 16, i, out);
    putRow(v128.shuffle<f64>(AB, CD, 1, 3), target + 24, i, out);
  }
  return all;
}

/**
 * U ← the points of `lot` filters, each a matrix [lot, channels] as panels of MR rows, cut along channels by `kPart`. Filters
 * lie `outer` bytes apart from row to row and `inner` along the channels; `flip` turns them by 180°.
 */
function filters(w: usize, lot: i32, outer: usize, inner: usize, flip: bool, kPart: i32): void {
  const first: usize = flip ? 32 : 0;
  const step: usize = flip ? <usize>-4 : 4;
  const line = <usize>FILTERS * 4;
  const plane = line * MR;
  const to = own + OWN_BYTES;
  for (let ir = 0; ir < lot; ir += MR) {
    const mr = min(MR, lot - ir);
    for (let pc = 0; pc < channels; pc += kPart) {
      const kc = min(kPart, channels - pc);
      for (let k = 0; k < kc; k += FILTERS) {
        const ks = min(FILTERS, kc - k);
        for (let i = 0; i < mr; i++)
          for (let c = 0; c < ks; c += 4) {
            const p = w + <usize>(ir + i) * outer + <usize>(pc + k + c) * inner + first;
            filterTiles(p, inner, min(4, ks - c), step, own, to + <usize>i * line + (<usize>c << 2), plane);
          }
        const at = U + (<usize>(pc * lot + ir * kc + k * mr) << 2);
        for (let q = 0; q < POINTS; q++) panelOf<f32>(mr, mr, ks, to + <usize>q * plane, line, 4, at + <usize>q * us);
      }
    }
  }
}

/**
 * out ← the sum over channels; of the outputs, where these come in parts, or else of the rows of tiles only from … till − 1. Tells
 * whether a result is not finite.
 */
function convolve(
  x: usize, w: usize, outer: usize, inner: usize, flip: bool, bias: usize, out: usize, from: i32, till: i32,
): bool {
  const kPart = part(channels, KC, 4);
  const panels = (rows * tileCols + NR - 1) / NR;
  const lines = byOutputs ? count * tileRows : till;
  const end = byOutputs ? till : outputs;
  let sum = zero<f32>();
  for (let r = byOutputs ? 0 : from; r < lines; r += rows) {
    const stop = min(r + rows, lines);
    const blocks = ((stop - r) * tileCols + NR - 1) / NR;
    fillOffsets(stop - r, T, blocks * NR, offsets);
    fillTargets(r, stop, blocks * NR);
    dataPoints(x, r, stop, kPart, panels);
    for (let first = byOutputs ? from : 0; first < end; first += most) {
      const lot = min(most, end - first);
      if (byOutputs || r == from) filters(w + <usize>first * outer, lot, outer, inner, flip, kPart);
      for (let p = 0; p < POINTS; p++)
        for (let pc = 0; pc < channels; pc += kPart) {
          const kc = min(kPart, channels - pc);
          const a = U + <usize>p * us + (<usize>(pc * lot) << 2);
          let b = V + <usize>p * vs + <usize>(pc * panels) * 32;
          for (let q = 0; q < blocks; q++, b += <usize>kc * 32) {
            let c = W + <usize>p * ws + <usize>(q * lot) * 32;
            for (let ir = 0; ir < lot; ir += MR, c += MR * 32)
              panel<f32>(min(MR, lot - ir), kc, a + (<usize>(ir * kc) << 2), b, 32, c, 32, pc > 0 ? c : 0, 32);
          }
        }
      for (let o = 0; o < lot; o++) {
        const plane = out + (<usize>((first + o) * outHeight * outWidth) << 2);
        const b = bias ? splatAt<f32>(bias + (<usize>(first + o) << 2)) : zero<f32>();
        for (let q = 0; q < blocks * 2; q++) {
          resultTiles(W + <usize>((q >> 1) * lot + o) * 32 + <usize>(q & 1) * 16, ws, own);
          sum = f32x4.add(sum, putTiles(b, targets + <usize>q * 32, plane));
        }
      }
    }
  }
  return !allFinite(sum);
}

// --- the gradient by the weights -----------------------------------------------------------------------------------------------

/** The points of a channel of the images, or of the result's gradient, of the rows of tiles r … end − 1: a row of vectors each. */
function dataRow(x: usize, channel: i32, r: i32, end: i32, to: usize): void {
  fillStrips(x, channels, channel, height, width, pad, T, r, end);
  let at = offsets;
  for (let q = ((end - r) * tileCols + 3) / 4; q > 0; q--, at += 16, to += 16)
    dataTiles(strip(at, 0), strip(at, 1), strip(at, 2), strip(at, 3), stripRow(), own, to, ps);
}

function gradRow(gy: usize, output: i32, r: i32, end: i32, to: usize): void {
  fillStrips(gy, outputs, output, outHeight, outWidth, 0, M, r, end);
  let at = targets;
  for (let q = ((end - r) * tileCols + 3) / 4; q > 0; q--, at += 16, to += 16)
    gradTiles(strip(at, 0), strip(at, 1), strip(at, 2), strip(at, 3), stripRow(), own, to, ps);
}

/**
 * out [outputs, channels, 3, 3] ← or, with `more`, += what U has of `lot` outputs from `first` on and the channels from … to − 1;
 * returns what the results add up to.
 */
function putFilterGrads(first: i32, lot: i32, from: i32, to: i32, more: bool, out: usize): v128 {
  let sum = zero<f32>();
  for (let o = 0; o < lot; o++)
    for (let c = from; c < to; c += 4) {
      filterGradTiles(U + <usize>((c - from >> 3) * lot + o) * 32 + <usize>(c - from & 4) * 4, us, own);
      const n = min(4, to - c);
      let at = out + <usize>((first + o) * channels + c) * 36;
      for (let k: usize = 0; k < 9; k++, at += 4) {
        let v = v128.load(own + k * 16);
        if (more) v = f32x4.add(v, gather(at, 36, n));
        sum = f32x4.add(sum, v);
        v128.store32_lane(at, v, 0);
        if (n > 1) v128.store32_lane(at, v, 1, 36);
        if (n > 2) v128.store32_lane(at, v, 2, 72);
        if (n > 3) v128.store32_lane(at, v, 3, 108);
      }
    }
  return sum;
}

/** As `convolve`, of the channels from … to − 1; the tiles are the long side of the products here. */
function weightGrad(x: usize, gy: usize, out: usize, from: i32, to: i32): bool {
  const lines = count * tileRows;
  const across = (to - from + NR - 1) / NR;
  let sum = zero<f32>();
  for (let r = 0; r < lines; r += rows) {
    const stop = min(r + rows, lines);
    const k = ((stop - r) * tileCols + 3) & ~3;
    fillOffsets(stop - r, T, k, offsets);
    for (let c = from; c < to; c += NR) {
      const n = min(NR, to - c);
      for (let i = 0; i < n; i++) dataRow(x, c + i, r, stop, points + <usize>i * row);
      for (let p = 0; p < POINTS; p++)
        panelOf<f32>(n, NR, k, points + <usize>p * ps, row, 4, V + <usize>p * vs + <usize>(c - from >> 3) * (<usize>k * 32));
    }
    for (let first = 0; first < outputs; first += most) {
      const lot = min(most, outputs - first);
      fillOffsets(stop - r, M, k, targets);
      for (let o = 0; o < lot; o += MR) {
        const n = min(MR, lot - o);
        for (let i = 0; i < n; i++) gradRow(gy, first + o + i, r, stop, points + <usize>i * row);
        for (let p = 0; p < POINTS; p++)
          panelOf<f32>(n, n, k, points + <usize>p * ps, row, 4, W + <usize>p * ws + (<usize>(o * k) << 2));
      }
      for (let p = 0; p < POINTS; p++)
        for (let j = 0; j < across; j++) {
          const b = V + <usize>p * vs + <usize>j * (<usize>k * 32);
          let c = U + <usize>p * us + <usize>(j * lot) * 32;
          for (let o = 0; o < lot; o += MR, c += MR * 32) {
            const n = min(MR, lot - o);
            for (let pc = 0; pc < k; pc += TILES) {
              const a = W + <usize>p * ws + (<usize>(o * k + pc * n) << 2);
              const more = pc > 0 || (r > 0 && !byOutputs) ? c : 0;
              panel<f32>(n, min(TILES, k - pc), a, b + <usize>pc * 32, 32, c, 32, more, 32);
            }
          }
        }
      if (byOutputs || stop == lines)
        sum = f32x4.add(sum, putFilterGrads(first, lot, from, to, byOutputs && r > 0, out));
    }
  }
  return !allFinite(sum);
}

// --- exports ---------------------------------------------------------------------------------------------------------------------

/** Sets the sizes and blocks of a convolution: 0 forward, 1 the gradient by images, 2 by the weights. Returns its bytes. */
function plan(kind: i32, n: i32, c: i32, h: i32, w: i32, o: i32, p: i32, work: usize): usize {
  const ho = h + 2 * p - 2;
  const wo = w + 2 * p - 2;
  if (kind == 1) sizes(n, o, ho, wo, c, h, w, 2 - p);
  else sizes(n, c, h, w, o, ho, wo, p);
  return (kind == 2 ? gradLayout(work) : layout(work)) - work;
}

export function winogradScratch(kind: i32, n: i32, c: i32, h: i32, w: i32, o: i32, p: i32): i32 {
  // Whole cache lines, and one more where `work` does not begin with one.
  return <i32>((plan(kind, n, c, h, w, o, p, 0) + 127) & ~63);
}

export function winogradUnits(kind: i32, n: i32, c: i32, h: i32, w: i32, o: i32, p: i32): i32 {
  plan(kind, n, c, h, w, o, p, 0);
  if (kind == 2) return channels;
  return byOutputs ? outputs : count * tileRows;
}

export function winogradForward_f32(
  n: i32, c: i32, h: i32, w: i32, o: i32, p: i32, x: usize, weight: usize, bias: usize, out: usize,
  work: usize, bytes: i32, units: i32, from: i32, to: i32,
): bool {
  plan(0, n, c, h, w, o, p, work);
  return convolve(x, weight, <usize>c * 36, 36, false, bias, out, from, to > 0 ? to : units);
}

export function winogradInputGrad_f32(
  n: i32, c: i32, h: i32, w: i32, o: i32, p: i32, gy: usize, weight: usize, out: usize,
  work: usize, bytes: i32, units: i32, from: i32, to: i32,
): bool {
  plan(1, n, c, h, w, o, p, work);
  return convolve(gy, weight, 36, <usize>c * 36, true, 0, out, from, to > 0 ? to : units);
}

export function winogradWeightGrad_f32(
  n: i32, c: i32, h: i32, w: i32, o: i32, p: i32, x: usize, gy: usize, out: usize,
  work: usize, bytes: i32, units: i32, from: i32, to: i32,
): bool {
  plan(2, n, c, h, w, o, p, work);
  return weightGrad(x, gy, out, from, to > 0 ? to : units);
}
