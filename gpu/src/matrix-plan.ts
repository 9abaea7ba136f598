/** Which tile of matrix units a product takes. */

import type { Operand } from '@otimes/core';
import { CHUNK, type MatrixLie, matrixBytes } from './matrix-tile.ts';
import type { MatrixUnit } from './matrix-unit.ts';
import { type Measured, type Plan, planOf, type Sizes } from './product-plan.ts';

const measured = (
  [m, n, k, x, y]: readonly [number, number, number, number, number],
  alone: number,
  each: number,
): Measured => ({ tile: { m, n, k, x, y, slices: 1, buffers: 1, unroll: 4 }, alone, each });

/** As those of `product-plan.ts`, of the same card; x and y are subgroups. The last has not been measured. */
export const TILES: readonly Measured[] = [
  measured([128, 128, 32, 2, 2], 1.3, 0.78),
  measured([64, 64, 64, 2, 2], 1, 0.45),
  measured([64, 64, 32, 2, 2], 0.8, 0.26),
  measured([32, 32, 32, 2, 1], 0.7, 0.15),
];

/** Null where no tile fits. */
export function matrixPlan(
  unit: MatrixUnit,
  room: number,
  sizes: Sizes,
  lies: readonly (MatrixLie | null)[],
): Plan | null {
  const tiles = TILES.filter(({ tile }) => {
    const { m, n, k, x, y } = tile;
    const fits = (m / y) % unit.m === 0 && (n / x) % unit.n === 0 && k % unit.k === 0;
    return fits && matrixBytes(tile, unit, lies) <= room;
  });
  return tiles.length === 0 || sizes.symmetric ? null : planOf(sizes, Infinity, tiles);
}

/**
 * How the sides lie, if they do so in eights. Where the rows of both lie behind each other, A counts as if it did not: with small matrices
 * that are read down their columns on the left and along their rows on the right, sums of 4096 products were off by 3e-3 with NVIDIA's driver
 * 580, and by 1e-4 in every other combination. Why is not known.
 */
export function matrixLies(a: MatrixLie | null, b: MatrixLie | null): readonly [MatrixLie | null, MatrixLie | null] {
  return a === 'rows' && b === 'rows' ? [null, b] : [a, b];
}

/** How a side lies, if it does so in eights; `row` and `term` are its steps. */
export function matrixLie(
  x: Operand,
  [row, term]: readonly [number, number],
  rows: number,
  terms: number,
): MatrixLie | null {
  const others = (step: number) => [x.offset, ...x.strides.slice(0, -2), step].every(s => s % CHUNK === 0);
  if (term === 1 && terms % CHUNK === 0 && others(row)) return 'terms';
  return row === 1 && rows % CHUNK === 0 && others(term) ? 'rows' : null;
}
