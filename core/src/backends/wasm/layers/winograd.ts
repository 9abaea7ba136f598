/** Convolutions by Winograd's minimal filtering on the `wasm` backend, and where it is taken. */

import { images } from '@otimes/kernels';
import { directCost, getConvolution } from '../../../convolution.ts';
import type { Operand } from '../../backend.ts';
import { type Context, empty } from '../context.ts';
import { addressOf } from '../region.ts';
import { kernelsOf } from './load.ts';

const kernels = kernelsOf(images, ['winogradForward', 'winogradInputGrad', 'winogradWeightGrad']);

/** [n, c, h, w, o, kh, kw, ho, wo, strides, paddings, dilations, groups] of a convolution. */
export type ConvSizes = readonly [
  ...[n: number, c: number, h: number, w: number, o: number, kh: number, kw: number, ho: number, wo: number],
  ...[sy: number, sx: number, py: number, px: number, dy: number, dx: number, groups: number],
];
/** Which of the three convolutions, as `winogradScratch` counts them. */
const KINDS = { forward: 0, inputGrad: 1, weightGrad: 2 };
export type ConvKind = keyof typeof KINDS;

/** Bytes to work in beyond which rows of tiles, or filters, are so long that they fit no cache. */
const MOST_BYTES = 9 * 2 ** 20;

/** Channels and outputs from which products at the points are long enough. */
const LEAST = 8;

/**
 * Whether Winograd's F(4 × 4, 3 × 3) is estimated to be faster than direct sums. Costs are in multiplications and additions of
 * the register blocks, which have eight columns. For n images, results of ho × wo, T tiles of 4 × 4 in all images together, C
 * channels and O outputs:
 *
 *   direct    9 · n · ⌈ho · wo⌉₈ · (C · O + 4 · (C + O))
 *   Winograd  36 · ((⌈T⌉₈ + 11) · C · O + 15 · T · (C + O))
 *
 * 4 · (C + O) stands for patches that are laid out, ⌈T⌉₈ · C · O for the products at each of 36 points (Lavin & Gray 2016, "Fast
 * algorithms for convolutional neural networks", §4), 11 · C · O for the transform of the filters and 15 · T · (C + O) for those of
 * the tiles. The constants are measured: docs/decisions/kernels.md. With a native BLAS direct sums cost less, see `directCost`.
 */
export function winogradIsFaster(n: number, ho: number, wo: number, channels: number, outputs: number): boolean {
  if (Math.min(channels, outputs) < LEAST) return false;
  const [product, sum] = [channels * outputs, channels + outputs];
  const tiles = n * Math.ceil(ho / 4) * Math.ceil(wo / 4);
  const direct = directCost() * 9 * n * eights(ho * wo) * (product + 4 * sum);
  const winograd = 36 * ((eights(tiles) + 11) * product + 15 * tiles * sum);
  return winograd < direct;
}

const eights = (count: number): number => Math.ceil(count / 8) * 8;

/** The sizes as Winograd's kernels take them; null where they do not do it, or not as fast. */
function sizesOf(kind: ConvKind, [n, c, h, w, o, ...more]: ConvSizes) {
  const [kh, kw, ho, wo, sy, sx, py, px, dy, dx, groups] = more;
  const fits = kh === 3 && kw === 3 && py === px && py <= 2 && [sy, sx, dy, dx, groups].every(x => x === 1);
  if (!fits) return null;
  const [rows, cols] = kind === 'inputGrad' ? [h, w] : [ho, wo];
  return winogradIsFaster(n, rows, cols, c, o) ? ([n, c, h, w, o, py] as const) : null;
}

/**
 * Whether Winograd's kernels did a convolution of a and b to `out`: operands in this memory, row-major, as are those of the
 * direct kernels. Where a result is not finite they did not: NaN and ∞ then stand in whole tiles.
 */
export function winograd(
  c: Context,
  kind: ConvKind,
  convSizes: ConvSizes,
  a: Operand,
  b: Operand,
  bias: Operand | null,
  out: Operand,
): boolean {
  if (out.dtype !== 'float32' || getConvolution() === 'direct') return false;
  const sizes = sizesOf(kind, convSizes);
  if (sizes === null) return false;
  const exports = c.kernels.load(images);
  const bytes = exports.winogradScratch(KINDS[kind], ...sizes);
  if (bytes > MOST_BYTES) return false;
  // Each thread that shares the call has its own.
  const work = empty(c, { dtype: 'float32', shape: [(bytes / 4) * (c.kernels.threads ?? 1)] });
  const own = [addressOf(work), bytes, exports.winogradUnits(KINDS[kind], ...sizes)] as const;
  const [pa, pb, po] = [addressOf(a), addressOf(b), addressOf(out)];
  const run = kernels(c);
  let notFinite: number;
  if (kind === 'forward')
    notFinite = run.winogradForward.float32!(...sizes, pa, pb, bias ? addressOf(bias) : 0, po, ...own);
  else if (kind === 'inputGrad') notFinite = run.winogradInputGrad.float32!(...sizes, pa, pb, po, ...own);
  else notFinite = run.winogradWeightGrad.float32!(...sizes, pa, pb, po, ...own);
  return notFinite === 0;
}
