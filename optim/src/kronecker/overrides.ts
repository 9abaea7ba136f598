/** Options of single blocks, by their paths. */

import { isAtOrBelow } from '../curvature/claims.ts';

/** By the path of a block or of a module above it; the longest path that fits counts. Undefined is none. */
export type Overrides<O> = Readonly<Record<string, O | undefined>>;

/** The options for a path: those of the longest path at or above it. */
export function optionsAt<O>(overrides: Overrides<O>, path: string): Partial<O> {
  let best = '';
  let found: Partial<O> = {};
  for (const [key, own] of Object.entries(overrides)) {
    if (own === undefined || !isAtOrBelow(path, key) || key.length < best.length) continue;
    best = key;
    found = own;
  }
  return found;
}

/** Throws for a path with no block at or below it. */
export function checkPaths(name: string, overrides: object, blocks: readonly { readonly path: string }[]): void {
  for (const key of Object.keys(overrides))
    if (!blocks.some(({ path }) => isAtOrBelow(path, key)))
      throw new Error(
        `${name}: overrides: there is no block at or below '${key}', only ${blocks.map(({ path }) => `'${path}'`).join(', ')}`,
      );
}

/** A block's learning rate, undefined for none of its own, over the optimizer's. */
export function lrRatioOf(name: string, own: number | undefined, lr: number): number {
  if (own !== undefined && own !== 0 && lr === 0)
    throw new RangeError(`${name}: a block cannot have lr ${own} beside an optimizer's lr of 0`);
  return own === undefined || lr === 0 ? 1 : own / lr;
}
