/** Which tile of matrix units a product takes. */

import type { Operand } from '@otimes/core';
import { CHUNK, type MatrixLie, matrixBytes } from './matrix-tile.ts';
import type { MatrixUnit } from './matrix-unit.ts';
import { type Measured, type Plan, planOf, type Sizes } from './product-plan.ts';

/** As those of `product-plan.ts`; x and y are subgroups. */
const TILES: readonly Measured[] = [
  { tile: { m: 128, n: 128, k: 32, x: 4, y: 2, slices: 1, buffers: 1, unroll: 4 }, alone: 1.5, each: 0.78 },
  { tile: { m: 64, n: 64, k: 32, x: 2, y: 2, slices: 1, buffers: 1, unroll: 4 }, alone: 1, each: 0.28 },
  { tile: { m: 32, n: 32, k: 32, x: 2, y: 1, slices: 1, buffers: 1, unroll: 4 }, alone: 1, each: 0.15 },
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
