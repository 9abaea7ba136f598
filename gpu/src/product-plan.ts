/** Which tile a product takes, and into how many parts its terms are split: by a model of the time that each would take. */

import { bytesOf, type Tile } from './product-tile.ts';

export type Sizes = {
  /** Rows, columns and terms of a product, and how many there are. */
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly batch: number;
  /** Only tiles with a row of tiles ≤ their column are computed. */
  readonly symmetric?: boolean;
};

/** What was measured of a tile: billions of products and sums a second of one multiprocessor that is full of it, and by how much one alone there is slower. */
export type Measured = { readonly tile: Tile; readonly rate: number; readonly alone: number };

/**
 * NOTE: rates are those of `npm run bench bench/gpu/products.ts` on one card; what counts is their ratio. `UNITS` are
 * multiprocessors, which WebGPU does not tell: on a smaller GPU the choice is a tile too small, which costs little.
 */
export const TILES: readonly Measured[] = [
  { tile: { m: 128, n: 128, k: 16, x: 16, y: 16, buffers: 2, unroll: 4 }, rate: 100, alone: 1.6 },
  { tile: { m: 64, n: 64, k: 16, x: 8, y: 8, buffers: 1, unroll: 4 }, rate: 80, alone: 4 },
  { tile: { m: 32, n: 32, k: 32, x: 8, y: 8, buffers: 1, unroll: 4 }, rate: 45, alone: 5 },
  { tile: { m: 16, n: 64, k: 16, x: 16, y: 4, buffers: 1, unroll: 4 }, rate: 35, alone: 5 },
  { tile: { m: 64, n: 16, k: 16, x: 4, y: 16, buffers: 1, unroll: 4 }, rate: 35, alone: 5 },
];
const UNITS = 132;
/** Seconds of a dispatch, and of a byte that goes to memory and comes back. */
const LAUNCH = 4e-6;
const BYTE = 1e-12;
/** Most parts that the terms are split into, and fewest terms of a part. */
const MOST_SPLITS = 64;
const LEAST_TERMS = 64;

export type Plan = {
  readonly tile: Tile;
  readonly splits: number;
  /** Terms of a part, a multiple of the tile's step. */
  readonly span: number;
};

/** Tiles of a product. */
export function tilesOf({ m, n }: Tile, sizes: Sizes): { rows: number; columns: number; count: number } {
  const [rows, columns] = [Math.ceil(sizes.m / m), Math.ceil(sizes.n / n)];
  return { rows, columns, count: sizes.symmetric ? (rows * (rows + 1)) / 2 : rows * columns };
}

function seconds({ tile, rate, alone }: Measured, sizes: Sizes, splits: number, span: number): number {
  const { count } = tilesOf(tile, sizes);
  const share = (count * sizes.batch * splits) / UNITS;
  const work = (tile.m * tile.n * (span + tile.k)) / (rate * 1e9);
  const sums = splits === 1 ? 0 : LAUNCH + BYTE * 8 * splits * sizes.batch * sizes.m * sizes.n;
  return work * Math.max(share > alone ? share : Math.min(alone, Math.ceil(share) * alone), 1) + sums;
}

const spanOf = (tile: Tile, k: number, splits: number) => tile.k * Math.max(1, Math.ceil(k / (tile.k * splits)));

/** @param room bytes of workgroup memory that the GPU has */
export function planOf(sizes: Sizes, room: number, tiles: readonly Measured[] = TILES): Plan {
  let best: Plan | null = null;
  let least = Infinity;
  for (const measured of tiles) {
    const { tile } = measured;
    if (bytesOf(tile) > room || (sizes.symmetric && tile.m !== tile.n)) continue;
    for (let splits = 1; splits <= MOST_SPLITS; splits *= 2) {
      if (splits > 1 && sizes.k < splits * LEAST_TERMS) break;
      const span = spanOf(tile, sizes.k, splits);
      const time = seconds(measured, sizes, splits, span);
      if (time >= least) continue;
      [best, least] = [planWith(tile, sizes.k, splits), time];
    }
  }
  if (best === null) throw new Error(`gpu: expected room for a tile in workgroup memory, got ${room} bytes`);
  return best;
}

/** With parts none of which is empty. */
export function planWith(tile: Tile, k: number, splits: number): Plan {
  const span = spanOf(tile, k, splits);
  return { tile, span, splits: Math.max(1, Math.ceil(k / span)) };
}
