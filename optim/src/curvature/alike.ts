/**
 * Whether processes that train one model were made alike. None sees the options of another, so each tells a number for each of
 * them, a hash of its value; the first that differs is named.
 */

import { column, type Table } from './exchange.ts';
import type { LayerCurvature } from './layer.ts';

/** What must be the same in all: names, in one order for one class of optimizer, and values of plain data. */
export type Facts = readonly (readonly [what: string, value: unknown])[];

/** How many numbers are told of them. The last one is of all that have none of their own. */
export const ALIKE = 24;

/** `ALIKE` numbers. The first of the facts should tell which others there are. */
export function alikeOf(facts: Facts): readonly number[] {
  const own = facts.slice(0, ALIKE - 1).map(hashOf);
  return [...own, ...new Array<number>(ALIKE - 1 - own.length).fill(0), hashOf(facts.slice(ALIKE - 1))];
}

/**
 * Throws, in all processes alike, where a fact differs.
 *
 * @param name who was made, for the message
 * @param first the column with which `alikeOf` begins
 */
export function checkAlike(name: string, facts: Facts, table: Table, first: number): void {
  for (let i = 0; i < ALIKE; i++) {
    const values = column(table, first + i);
    const other = values.findIndex(value => value !== values[0]);
    if (other < 0) continue;
    const what = facts[i]?.[0] ?? facts[0]![0];
    throw new Error(
      `${name}: processes must be alike, and ${what} of process ${other} is another than that of process 0: make model and optimizer ` +
        'with the same options in all',
    );
  }
}

/** Of layers, as their blocks and options made them. */
export const factsOf = (layers: readonly LayerCurvature[]): Facts => [
  ['the list of blocks, with their sizes,', layers.map(({ block, sizes }) => [block.path, block.collector, sizes])],
  ['maxFactorDim', layers.map(({ sideA, sideG }) => [sideA.isIdentity, sideG.isIdentity])],
  ['structure', layers.map(({ sideA, sideG }) => [sideA, sideG].map(({ structure, orders }) => [structure, orders]))],
  ['sharing', layers.map(({ sharing }) => sharing)],
];

/** FNV-1a, 32 bits (Fowler, Noll & Vo), of the UTF-16 units of its JSON. */
function hashOf(value: unknown): number {
  let hash = 0x811c9dc5;
  const text = JSON.stringify(value, (_, v) => (typeof v === 'number' ? String(v) : v)) ?? '';
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}
