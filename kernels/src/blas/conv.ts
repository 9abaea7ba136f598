/**
 * Convolutions by native products: each group of each image is W [outputs, elements] times its patches [elements,
 * positions], which are laid out in scratch, as many rows of the output at a time as it holds.
 */

import type { Float } from '../elements.ts';
import type { Exports, ImagesExports } from '../generated/types.gen.ts';

type Conv = {
  readonly forward: ImagesExports['convForward_f32'];
  readonly inputGrad: ImagesExports['convInputGrad_f32'];
  readonly weightGrad: ImagesExports['convWeightGrad_f32'];
};

/** Multiplications in one image and group from which a convolution goes to the library. Measured: 1.1 to 3 times as fast. */
const FROM = 32_768;
/** Outputs from which it is worth to copy patches pixel by pixel. The kernels' gradients copy them as well. */
const OUTPUTS = 32;

export function convolutionsWith(product: Exports['sgemm'], below: Exports & ImagesExports, type: Float): Conv {
  const bytes = type === 'f32' ? 4 : 8;
  const [copy, add, fill] = [below[`copy_${type}_${type}`], below[`addScaled_${type}`], below[`fill_${type}`]];
  /** Elements that a convolution's scratch has beyond that of the products that it calls, but for one that is zero. */
  const spare = Math.floor((below.convScratch() - below.gemmScratch()) / bytes) - 1;

  /** What the three have in common for the geometry of a call; null where a product is too small or a row too long. */
  // biome-ignore format: the order of the arguments is easier to see in rows
  const plan = (
    n: number, c: number, h: number, w: number, o: number, kh: number, kw: number, ho: number, wo: number,
    sy: number, sx: number, py: number, px: number, dy: number, dx: number, groups: number, scratch: number,
  ) => {
    const [share, m, positions] = [c / groups, o / groups, ho * wo];
    const elements = share * kh * kw;
    const own = kh === 1 && kw === 1 && sy === 1 && sx === 1 && py === 0 && px === 0;
    const most = own ? ho : Math.min(ho, Math.floor(spare / (elements * wo)));
    if (!(m * elements * positions >= FROM) || most < 1) return null;
    // Parts of equal height, or the last would be a product of a few columns.
    const height = Math.ceil(ho / Math.ceil(ho / most));
    const tile = scratch + below.gemmScratch();
    const zero = tile + spare * bytes;
    const aligned = w === wo && sx === 1 && sy === 1;

    /** tile [elements, columns] ← the patches of the rows i0 … i1 of the output, or the planes += tile. */
    const patches = (planes: number, i0: number, i1: number, back: boolean) => {
      const columns = (i1 - i0) * wo;
      let to = tile;
      for (let channel = 0; channel < share; channel++)
        for (let ky = 0; ky < kh; ky++) {
          const top = ky * dy - py;
          const first = Math.max(i0, Math.ceil(-top / sy));
          const rows = Math.min(i1, Math.floor((h - 1 - top) / sy) + 1) - first;
          for (let kx = 0; kx < kw; kx++, to += columns * bytes) {
            const left = kx * dx - px;
            const j = Math.max(0, Math.ceil(-left / sx));
            const cols = Math.min(wo, Math.floor((w - 1 - left) / sx) + 1) - j;
            if (rows <= 0 || cols <= 0) continue;
            const pixels = planes + ((channel * h + first * sy + top) * w + j * sx + left) * bytes;
            const entries = to + ((first - i0) * wo + j) * bytes;
            if (back) add(rows, cols, pixels, sy * w, sx, entries, wo, 1, 1, 1);
            else if (aligned) {
              // One stretch of memory, in which what lies between the rows is zeroed after: three times as fast.
              copy(1, (rows - 1) * w + cols, pixels, 0, 1, entries, 0, 1);
              if (cols < w) copy(rows - 1, w - cols, zero, 0, 0, entries + cols * bytes, wo, 1);
            } else copy(rows, cols, pixels, sy * w, sx, entries, wo, 1);
          }
        }
    };

    /** Calls for each image, group and tile: its planes, its weights, its results, and of these how many columns. */
    const each = (
      x: number, weights: number, y: number, take: boolean,
      visit: (b: number, planes: number, weights: number, y: number, columns: number, first: boolean) => void,
    ) => {
      const padded = py > 0 || px > 0;
      if (take && aligned) fill(1, 0, zero);
      // The zeros around the planes lie at the same entries for all images, if one tile is all.
      if (take && padded && height === ho) fill(elements * positions, 0, tile);
      for (let image = 0; image < n; image++)
        for (let group = 0; group < groups; group++) {
          const planes = x + (image * c + group * share) * h * w * bytes;
          const filters = weights + group * m * elements * bytes;
          const results = y + (image * o + group * m) * positions * bytes;
          for (let i = 0; i < ho; i += height) {
            const end = Math.min(ho, i + height);
            const columns = (end - i) * wo;
            const at = own ? planes + i * wo * bytes : tile;
            if (take && !own) {
              if (padded && height < ho) fill(elements * columns, 0, tile);
              patches(planes, i, end, false);
            }
            visit(at, planes, filters, results + i * wo * bytes, columns, image === 0 && i === 0);
            if (!take && !own) patches(planes, i, end, true);
          }
        }
    };
    return { m, elements, positions, own, aligned, each };
  };

  return {
    forward(...call) {
      const [n, c, h, w, o, kh, kw, ho, wo, sy, sx, py, px, dy, dx, groups, x, weights, out, scratch] = call;
      const p = plan(n, c, h, w, o, kh, kw, ho, wo, sy, sx, py, px, dy, dx, groups, scratch);
      if (p === null || !(p.own || p.aligned || p.m >= OUTPUTS)) return below[`convForward_${type}`](...call);
      const { m, elements, positions, own } = p;
      p.each(x, weights, out, true, (b, _, filters, y, columns) => {
        const bRow = own ? positions : columns;
        product(m, columns, elements, filters, elements, 1, b, bRow, 1, y, positions, 0, 0, 0, 1, 0, 0, 0, scratch);
      });
    },

    inputGrad(...call) {
      const [n, c, h, w, o, kh, kw, ho, wo, sy, sx, py, px, dy, dx, groups, gy, weights, out, scratch] = call;
      const p = plan(n, c, h, w, o, kh, kw, ho, wo, sy, sx, py, px, dy, dx, groups, scratch);
      if (p === null) return below[`convInputGrad_${type}`](...call);
      const { m, elements, positions, own } = p;
      if (!own) fill(n * c * h * w, 0, out);
      p.each(out, weights, gy, false, (b, _, filters, y, columns) => {
        const bRow = own ? positions : columns;
        product(elements, columns, m, filters, 1, elements, y, positions, 1, b, bRow, 0, 0, 0, 1, 0, 0, 0, scratch);
      });
    },

    weightGrad(...call) {
      const [n, c, h, w, o, kh, kw, ho, wo, sy, sx, py, px, dy, dx, groups, x, gy, out, scratch] = call;
      const p = n === 0 ? null : plan(n, c, h, w, o, kh, kw, ho, wo, sy, sx, py, px, dy, dx, groups, scratch);
      if (p === null) return below[`convWeightGrad_${type}`](...call);
      const { m, elements, positions, own } = p;
      p.each(x, out, gy, true, (b, _, filters, y, columns, first) => {
        const bCol = own ? positions : columns;
        const plus = first ? 0 : 1;
        product(m, elements, columns, y, positions, 1, b, 1, bCol, filters, elements, 0, plus, 0, 1, 0, 0, 0, scratch);
      });
    },
  };
}
