/** The coordinates of the parameters as a basis, for optimizers that decompose nothing. */

import { ones } from '@otimes/core';
import { type Decomposition, type FixedBasis, Kfe } from '../basis.ts';

/** The identity on both sides of a block, with eigenvalues of 1. */
export const coordinates: FixedBasis = ([dOut, dIn], { dtype, device }) => {
  const side = (n: number): Decomposition => {
    const s = ones([n], { dtype, device });
    return { U: null, s, n: s };
  };
  return new Kfe(side(dIn), side(dOut));
};
