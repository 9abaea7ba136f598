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
  /** The terms are not split. */
  readonly whole?: boolean;
  /** Terms are places of images, where each element is looked up. */
  readonly places?: boolean;
};

/**
 * What was measured of a tile, in microseconds: a step where its workgroup has a multiprocessor for itself and waits for memory,
 * and what each other one there adds.
 */
export type Measured = { readonly tile: Tile; readonly alone: number; readonly each: number };

const measured = (
  shape: readonly [number, number, number, number, number, number],
  buffers: 1 | 2,
  alone: number,
  each: number,
): Measured => {
  const [m, n, k, x, y, slices] = shape;
  return { tile: { m, n, k, x, y, slices, buffers, unroll: 4 }, alone, each };
};

/**
 * NOTE: of an NVIDIA H200 by `npm run bench bench/gpu/products.ts`; what counts is how they compare. `UNITS` are its multiprocessors,
 * which WebGPU does not tell: on a smaller GPU the choice is a tile too small, which costs little.
 */
export const TILES: readonly Measured[] = [
  measured([32, 32, 32, 8, 8, 1], 2, 1.1, 0.5),
  measured([32, 32, 32, 8, 8, 4], 2, 0.68, 0.4),
  measured([16, 32, 64, 8, 4, 8], 1, 0.95, 0.49),
  measured([64, 64, 16, 8, 8, 1], 1, 1.27, 0.5),
  measured([64, 64, 16, 16, 16, 1], 2, 0.8, 0.58),
  measured([128, 64, 16, 8, 16, 1], 1, 1.3, 0.97),
  measured([128, 128, 16, 16, 16, 1], 1, 2, 1.7),
];
const UNITS = 132;
/** Microseconds below which all are as good, and the first of the table is taken. */
const LEAST = 4;
/** Microseconds of a dispatch more, host and GPU, and of a byte that goes to memory and comes back. */
const LAUNCH = 30;
const BYTE = 5e-7;
/** Microseconds of a multiprocessor for an element that is looked up. */
const LOOK = 1.2e-4;
/** Most parts that the terms are split into, and fewest terms of a part. */
const MOST_SPLITS = 256;
const LEAST_TERMS = 128;

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

/** Microseconds of a product in parts of `span` terms. */
function timeOf({ tile, alone, each }: Measured, sizes: Sizes, splits: number, span: number): number {
  const { count } = tilesOf(tile, sizes);
  const others = Math.ceil((count * sizes.batch * splits) / UNITS) - 1;
  const looks = sizes.places ? LOOK * tile.n * tile.k : 0;
  // Beginning and end of a tile take about as long as a step.
  const work = Math.max(LEAST, (span / tile.k + 1) * (alone + looks + others * (each + looks)));
  return splits === 1 ? work : work + LAUNCH + BYTE * 4 * splits * sizes.batch * sizes.m * sizes.n;
}

const spanOf = (tile: Tile, k: number, splits: number) => tile.k * Math.max(1, Math.ceil(k / (tile.k * splits)));

/** One part, and as many as fill all multiprocessors once, twice and so on. */
function splitsOf(count: number): number[] {
  const full = [1, 2, 3, 4, 6, 8, 12, 16].map(times => Math.floor((times * UNITS) / count));
  return [1, ...full.filter((splits, i) => splits > 1 && splits !== full[i - 1])];
}

/** @param room bytes of workgroup memory that the GPU has */
export function planOf(sizes: Sizes, room: number, tiles: readonly Measured[] = TILES): Plan {
  let best: Plan | null = null;
  let least = Infinity;
  for (const one of tiles) {
    const { tile } = one;
    if (bytesOf(tile) > room || (sizes.symmetric && tile.m !== tile.n)) continue;
    for (const splits of sizes.whole ? [1] : splitsOf(tilesOf(tile, sizes).count * sizes.batch)) {
      if (splits > MOST_SPLITS || (splits > 1 && sizes.k < splits * LEAST_TERMS)) break;
      const span = spanOf(tile, sizes.k, splits);
      const time = timeOf(one, sizes, splits, span);
      if (time >= least) continue;
      [best, least] = [planWith(tile, sizes.k, splits), time];
    }
  }
  if (best === null) throw new Error(`gpu: expected room for a tile in workgroup memory, got ${room} bytes`);
  return best;
}

/**
 * The plan on that GPU. One that is the CPU in truth runs the threads of a workgroup in turn, so the fewest are best. Browsers of
 * yesterday do not say which it is.
 */
export function planOn({ limits, adapterInfo }: Pick<GPUDevice, 'limits' | 'adapterInfo'>, sizes: Sizes): Plan {
  const tiles = adapterInfo?.isFallbackAdapter
    ? TILES.filter(({ tile: { x, y, slices = 1 } }) => x * y * slices === 64)
    : TILES;
  return planOf(sizes, limits.maxComputeWorkgroupStorageSize, tiles);
}

/** With parts none of which is empty. */
export function planWith(tile: Tile, k: number, splits: number): Plan {
  const span = spanOf(tile, k, splits);
  return { tile, span, splits: Math.max(1, Math.ceil(k / span)) };
}
