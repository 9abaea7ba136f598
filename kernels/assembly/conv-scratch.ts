// The scratch of a convolution: that of its products, a table of elements, and a tile of patches.
import { LANES_BYTES, tableBytes } from './conv-patches';
import { gemmScratch, KC } from './gemm';

/** Bytes of a tile of patches. */
export const TILE: i32 = 524288;

/** Bytes of scratch that a convolution needs; the products use the first `gemmScratch()`. */
export function convScratch(): i32 {
  return gemmScratch() + <i32>(tableBytes(KC) + LANES_BYTES) + TILE;
}
