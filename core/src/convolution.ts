/** By which method the device 'cpu' convolves. */

import { checkArgument, type Kind } from './check.ts';

/** 'auto': Winograd's filtering where it is faster; 'direct': sums of products in order, always. */
export type Convolution = 'auto' | 'direct';

const aConvolution: Kind = { expected: "'auto' or 'direct'", is: v => v === 'auto' || v === 'direct' };

let chosen: Convolution = 'auto';

/**
 * Chooses by which method the device 'cpu' convolves from now on, in the whole process. 'auto', the default, takes Winograd's
 * F(4 × 4, 3 × 3) (Lavin & Gray 2016) where it is faster: for float32 and kernels 3 × 3 of stride 1, dilation 1 and one group
 * with the same padding of at most 2 on both axes, forward and for both gradients. It multiplies a quarter as often, and its
 * rounding errors are two to six times those of the direct sums: relative to the largest values of a tile of 6 × 6 pixels,
 * not of a window of 3 × 3. 'direct' is for who wants the last bits of the direct sums. Either gives the same bits each time,
 * on every number of threads, and NaN and ±∞ in the same places.
 *
 * @throws TypeError for anything else
 */
export function setConvolution(method: Convolution): void {
  checkArgument('setConvolution', 'method', method, aConvolution);
  chosen = method;
}

/** The method in force, see `setConvolution`. */
export const getConvolution = (): Convolution => chosen;

let cost = 1;

/** What direct convolutions cost, in what those of the kernels do. */
export const directCost = (): number => cost;
/** For who replaces them by faster ones. */
export function setDirectCost(value: number): void {
  cost = value;
}
