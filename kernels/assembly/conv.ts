// Convolutions of f32 and f64 as matrix products, each group of each image by itself: W [outputs, elements] times the
// patches [elements, positions]. Forward packs patches straight into panels of the product (an "implicit" one, so the
// panel is still in the first-level cache when it is used); the gradients go through a tile of patches in scratch.
// Contiguous operands; scratch does not grow with them.
import {
  channels, cols, columns, fillTable, geometry, groups, images, kCols, kRows, outCols, outputs, outRows,
  lookAround, patchRows, pointwise, rows, tableBytes, wholePatches,
} from './conv-patches';
import { bytesOf } from './elementwise-lanes';
import { convScratch, TILE } from './conv-scratch';
import { BLOCK_BYTES, edge, gemmScratch, KC, MC, part } from './gemm';
import { MR, panel } from './generated/blocks';
import { panelOf } from './pack';
import { product } from './products';
import { lanes } from './vector';

/** Panels of positions that share a packed block of weights. */
const PANELS: i32 = 64;
/** Positions of a tile of patches. */
const POSITIONS: i32 = 512;

/** out ← W patches. Every image is a whole number of panels of positions, the last of them filled up with zeros. */
function forward<T>(x: usize, w: usize, out: usize, scratch: usize): void {
  const NR = 2 * lanes<T>();
  const share = channels / groups;
  const m = outputs / groups;
  const elements = share * kRows * kCols;
  const positions = outRows * outCols;
  const perImage = (positions + NR - 1) / NR;
  const panels = images * perImage;
  const cr = bytesOf<T>(positions);
  const ar = bytesOf<T>(elements);
  const packedA = scratch + 256;
  const packedB = packedA + MC * KC * 8;
  const table = scratch + gemmScratch();
  const own = table + tableBytes(KC);
  const kPart = part(elements, KC, 4);
  const mPart = part(m, MC, MR);
  // One block of weights is packed once for all panels.
  const resident = kPart >= elements && mPart >= m;
  lookAround<T>(x);
  for (let group = 0; group < groups; group++) {
    const planes = x + bytesOf<T>(group * share * rows * cols);
    const weights = w + <usize>(group * m) * ar;
    for (let tile = 0; tile < panels; tile += PANELS) {
      const count = min(PANELS, panels - tile);
      for (let pc = 0; pc == 0 || pc < elements; pc += kPart) {
        const kc = min(kPart, elements - pc);
        if (!resident || tile == 0) fillTable<T>(pc, kc, table);
        for (let ic = 0; ic < m; ic += mPart) {
          const mc = min(mPart, m - ic);
          if (!resident || tile == 0)
            for (let ir = 0; ir < mc; ir += MR) {
              const lines = min(MR, mc - ir);
              const from = weights + <usize>(ic + ir) * ar + bytesOf<T>(pc);
              panelOf<T>(lines, lines, kc, from, ar, sizeof<T>(), packedA + bytesOf<T>(ir * kc));
            }
          for (let q = 0; q < count; q++) {
            const image = (tile + q) / perImage;
            const at = (tile + q - image * perImage) * NR;
            const nr = min(NR, positions - at);
            const b = packedB + <usize>(q * kc) * BLOCK_BYTES;
            if (ic == 0) columns<T>(at, kc, planes + bytesOf<T>(image * channels * rows * cols), table, b, own);
            let c = out + <usize>(image * outputs + group * m + ic) * cr + bytesOf<T>(at);
            for (let ir = 0; ir < mc; ir += MR, c += <usize>MR * cr) {
              const mr = min(MR, mc - ir);
              const a = packedA + bytesOf<T>(ir * kc);
              const from = pc > 0 ? c : 0;
              if (nr == NR) panel<T>(mr, kc, a, b, BLOCK_BYTES, c, cr, from, cr);
              else {
                panel<T>(mr, kc, a, b, BLOCK_BYTES, scratch, BLOCK_BYTES, 0, 0);
                edge<T>(mr, nr, scratch, c, cr, from, cr, false);
              }
            }
          }
        }
      }
    }
  }
}

/** out (like x) ← Wᵀ gy, added up where patches overlap. */
function inputGrad<T>(gy: usize, w: usize, out: usize, scratch: usize): void {
  const share = channels / groups;
  const m = outputs / groups;
  const elements = share * kRows * kCols;
  const positions = outRows * outCols;
  const row = bytesOf<T>(elements);
  const gyRow = bytesOf<T>(positions);
  const plane = bytesOf<T>(rows * cols);
  const own = pointwise();
  if (!own) memory.fill(out, 0, <usize>(images * channels) * plane);
  const tile = scratch + convScratch() - TILE;
  const most = own ? positions : part(positions, POSITIONS, 8);
  const kPart = own ? elements : part(elements, TILE / <i32>bytesOf<T>(most), 8);
  for (let image = 0; image < images; image++)
    for (let group = 0; group < groups; group++) {
      const planes = out + <usize>(image * channels + group * share) * plane;
      const weights = w + <usize>(group * m) * row;
      const grads = gy + <usize>(image * outputs + group * m) * gyRow;
      for (let at = 0; at < positions; at += most)
        for (let k = 0; k < elements; k += kPart) {
          const count = min(most, positions - at);
          const ks = min(kPart, elements - k);
          const to = own ? planes : tile;
          product<T>(
            ks, count, m,
            weights + bytesOf<T>(k), sizeof<T>(), row,
            grads + bytesOf<T>(at), gyRow, sizeof<T>(),
            to, bytesOf<T>(count),
            0, 0, scratch,
          );
          if (!own) patchRows<T>(k, ks, at, count, planes, tile, true);
        }
    }
}

/**
 * out (like w) ← gy patchesᵀ, summed over the images: of the elements of each patch those in from … to − 1, or all where `to`
 * is 0. The others are left alone, so that threads can share the work.
 */
function weightGrad<T>(x: usize, gy: usize, out: usize, scratch: usize, from: i32, to: i32): void {
  const share = channels / groups;
  const m = outputs / groups;
  const elements = share * kRows * kCols;
  const positions = outRows * outCols;
  const row = bytesOf<T>(elements);
  const gyRow = bytesOf<T>(positions);
  const own = pointwise();
  const end = to > 0 ? to : elements;
  if (images == 0) memory.fill(out, 0, <usize>outputs * row);
  const tile = scratch + convScratch() - TILE;
  const most = own ? positions : part(positions, POSITIONS, 8);
  const kPart = own ? elements : part(elements, TILE / <i32>bytesOf<T>(most), 8);
  for (let group = 0; group < groups; group++)
    for (let k = from; k < end; k += kPart)
      for (let image = 0; image < images; image++)
        for (let at = 0; at < positions; at += most) {
          const count = min(most, positions - at);
          const ks = min(kPart, end - k);
          const planes = x + bytesOf<T>((image * channels + group * share) * rows * cols);
          if (!own) patchRows<T>(k, ks, at, count, planes, tile, false);
          const c = out + <usize>(group * m) * row + bytesOf<T>(k);
          product<T>(
            m, ks, count,
            gy + <usize>(image * outputs + group * m) * gyRow + bytesOf<T>(at), gyRow, sizeof<T>(),
            own ? planes + bytesOf<T>(k * count) : tile, sizeof<T>(), bytesOf<T>(count),
            c, row,
            image + at > 0 ? c : 0, row, scratch,
          );
        }
}

export function convForward_f32(
  n: i32, c: i32, h: i32, w: i32, o: i32, kh: i32, kw: i32, ho: i32, wo: i32, sy: i32, sx: i32,
  py: i32, px: i32, dy: i32, dx: i32, g: i32, x: usize, weight: usize, out: usize, scratch: usize,
): void {
  geometry(n, c, h, w, o, kh, kw, ho, wo, sy, sx, py, px, dy, dx, g);
  forward<f32>(x, weight, out, scratch);
}

export function convForward_f64(
  n: i32, c: i32, h: i32, w: i32, o: i32, kh: i32, kw: i32, ho: i32, wo: i32, sy: i32, sx: i32,
  py: i32, px: i32, dy: i32, dx: i32, g: i32, x: usize, weight: usize, out: usize, scratch: usize,
): void {
  geometry(n, c, h, w, o, kh, kw, ho, wo, sy, sx, py, px, dy, dx, g);
  forward<f64>(x, weight, out, scratch);
}

export function convInputGrad_f32(
  n: i32, c: i32, h: i32, w: i32, o: i32, kh: i32, kw: i32, ho: i32, wo: i32, sy: i32, sx: i32,
  py: i32, px: i32, dy: i32, dx: i32, g: i32, gy: usize, weight: usize, out: usize, scratch: usize,
): void {
  geometry(n, c, h, w, o, kh, kw, ho, wo, sy, sx, py, px, dy, dx, g);
  inputGrad<f32>(gy, weight, out, scratch);
}

export function convInputGrad_f64(
  n: i32, c: i32, h: i32, w: i32, o: i32, kh: i32, kw: i32, ho: i32, wo: i32, sy: i32, sx: i32,
  py: i32, px: i32, dy: i32, dx: i32, g: i32, gy: usize, weight: usize, out: usize, scratch: usize,
): void {
  geometry(n, c, h, w, o, kh, kw, ho, wo, sy, sx, py, px, dy, dx, g);
  inputGrad<f64>(gy, weight, out, scratch);
}

export function convWeightGrad_f32(
  n: i32, c: i32, h: i32, w: i32, o: i32, kh: i32, kw: i32, ho: i32, wo: i32, sy: i32, sx: i32,
  py: i32, px: i32, dy: i32, dx: i32, g: i32, x: usize, gy: usize, out: usize, scratch: usize,
  from: i32, to: i32,
): void {
  geometry(n, c, h, w, o, kh, kw, ho, wo, sy, sx, py, px, dy, dx, g);
  weightGrad<f32>(x, gy, out, scratch, from, to);
}

export function convWeightGrad_f64(
  n: i32, c: i32, h: i32, w: i32, o: i32, kh: i32, kw: i32, ho: i32, wo: i32, sy: i32, sx: i32,
  py: i32, px: i32, dy: i32, dx: i32, g: i32, x: usize, gy: usize, out: usize, scratch: usize,
  from: i32, to: i32,
): void {
  geometry(n, c, h, w, o, kh, kw, ho, wo, sy, sx, py, px, dy, dx, g);
  weightGrad<f64>(x, gy, out, scratch, from, to);
}

export function unfold_f32(
  n: i32, c: i32, h: i32, w: i32, o: i32, kh: i32, kw: i32, ho: i32, wo: i32, sy: i32, sx: i32,
  py: i32, px: i32, dy: i32, dx: i32, g: i32, x: usize, out: usize,
): void {
  geometry(n, c, h, w, o, kh, kw, ho, wo, sy, sx, py, px, dy, dx, g);
  wholePatches<f32>(x, out, false);
}

export function unfold_f64(
  n: i32, c: i32, h: i32, w: i32, o: i32, kh: i32, kw: i32, ho: i32, wo: i32, sy: i32, sx: i32,
  py: i32, px: i32, dy: i32, dx: i32, g: i32, x: usize, out: usize,
): void {
  geometry(n, c, h, w, o, kh, kw, ho, wo, sy, sx, py, px, dy, dx, g);
  wholePatches<f64>(x, out, false);
}

export function fold_f32(
  n: i32, c: i32, h: i32, w: i32, o: i32, kh: i32, kw: i32, ho: i32, wo: i32, sy: i32, sx: i32,
  py: i32, px: i32, dy: i32, dx: i32, g: i32, patches: usize, out: usize,
): void {
  geometry(n, c, h, w, o, kh, kw, ho, wo, sy, sx, py, px, dy, dx, g);
  memory.fill(out, 0, bytesOf<f32>(n * c * h * w));
  wholePatches<f32>(out, patches, true);
}

export function fold_f64(
  n: i32, c: i32, h: i32, w: i32, o: i32, kh: i32, kw: i32, ho: i32, wo: i32, sy: i32, sx: i32,
  py: i32, px: i32, dy: i32, dx: i32, g: i32, patches: usize, out: usize,
): void {
  geometry(n, c, h, w, o, kh, kw, ho, wo, sy, sx, py, px, dy, dx, g);
  memory.fill(out, 0, bytesOf<f64>(n * c * h * w));
  wholePatches<f64>(out, patches, true);
}
