/** The matrices of an optimizer: a weight each, and what is remembered of it. */

import { type Tensor, unscoped, zeros } from '@otimes/core';
import { borrowGrad, versionOf } from '@otimes/core/extend';
import type { Parameter } from '@otimes/nn';
import type { WeightMatrix } from '../curvature/matrix.ts';
import type { MatrixStep } from './direction.ts';
import type { SlotShapes } from './options.ts';

export type Matrix = {
  readonly block: WeightMatrix;
  readonly lrRatio: number;
  readonly names: readonly string[];
  readonly slots: readonly Tensor[];
  /** Steps made so far. */
  steps: number;
};

/** With slots of zeros. */
export function matrixOf(block: WeightMatrix, lrRatio: number, shapesOf: SlotShapes): Matrix {
  const { dtype, device } = block.weight;
  const shapes = shapesOf(block.dOut, block.dIn);
  const slots = shapes.map(([, shape]) => unscoped(() => zeros(shape, { dtype, device })));
  return { block, lrRatio, names: shapes.map(([slot]) => slot), slots, steps: 0 };
}

/** A matrix with its gradient [rows, columns]. */
export type Active = { readonly matrix: Matrix; readonly g: Tensor };

export const stepOf = ({ block, names, steps }: Matrix): MatrixStep => ({
  ...{ path: block.path, rows: block.dOut, columns: block.dIn, steps, slotNames: names },
});

/** A gradient, and how often it was written to. */
export type Held = readonly [gradient: Tensor | null, version: number];

export function gradientOf(p: Parameter): Held {
  const gradient = borrowGrad(p);
  return [gradient, gradient === null ? 0 : versionOf(gradient)];
}

/**
 * What a program's own `propose` returns for a matrix. Where it throws, or has written to the gradient or to slots, which is an error,
 * these are put back.
 */
export function guarded<T>(name: string, { matrix, g }: Active, propose: () => T): T {
  const { block, names, slots } = matrix;
  const lent = [{ what: 'g', x: g }, ...slots.map((x, i) => ({ what: `slot '${names[i]}'`, x }))];
  const before = lent.map(({ what, x }) => ({ what, x, version: versionOf(x), copy: x.clone() }));
  const restored = () => {
    const written = before.filter(({ x, version }) => versionOf(x) !== version);
    for (const { x, copy } of written) x.copy_(copy);
    return written.map(({ what }) => what);
  };
  try {
    const found = propose();
    const written = restored();
    if (written.length === 0) return found;
    throw new Error(
      `${name}: expected direction() of '${block.path}' to write to neither g nor slots, and it wrote to ` +
        `${written.join(', ')}: return what takes the place of the slots; no parameter was changed`,
    );
  } catch (error) {
    restored();
    throw error;
  }
}
