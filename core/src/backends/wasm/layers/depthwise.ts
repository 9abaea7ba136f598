/** Convolutions in which each channel has kernels of its own, on the `wasm` backend. */

import { depthwise as module } from '@otimes/kernels';
import { bytesPerElement } from '../../../dtype.ts';
import type { Operand } from '../../backend.ts';
import { type Context, empty } from '../context.ts';
import { addressOf } from '../region.ts';
import { kernelsOf } from './load.ts';
import type { ConvKind, ConvSizes } from './winograd.ts';

const kernels = kernelsOf(module, ['depthwiseForward', 'depthwiseInputGrad', 'depthwiseWeightGrad']);

/** Kernels of a channel beyond which its products have rows enough. */
const MOST = 8;

/**
 * Whether the kernels of single planes did a convolution of a and b to `out`: operands in this memory, row-major, as are those of
 * the kernels of products, to which each channel would be a product of `each` rows.
 */
export function depthwise(
  c: Context,
  kind: ConvKind,
  [n, channels, h, w, o, kh, kw, ho, wo, sy, sx, py, px, dy, dx, groups]: ConvSizes,
  a: Operand,
  b: Operand,
  bias: Operand | null,
  out: Operand,
): boolean {
  const [each, type] = [o / channels, out.dtype as 'float32' | 'float64'];
  if (groups !== channels || channels < 2 || each > MOST) return false;
  const sizes = [n, channels, h, w, each, kh, kw, ho, wo, sy, sx, py, px, dy, dx] as const;
  const at = kind === 'forward' ? 0 : kind === 'inputGrad' ? 1 : 2;
  const bytes = c.kernels.load(module).depthwiseScratch(at, bytesPerElement(type), ...sizes);
  // Each thread that shares the call has its own.
  const work = empty(c, { dtype: 'int32', shape: [(bytes / 4) * (c.kernels.threads ?? 1)] });
  const [pa, pb, po, own] = [addressOf(a), addressOf(b), addressOf(out), [addressOf(work), bytes] as const];
  const run = kernels(c);
  if (kind === 'forward') run.depthwiseForward[type]!(...sizes, pa, pb, bias ? addressOf(bias) : 0, po, ...own);
  else (kind === 'inputGrad' ? run.depthwiseInputGrad : run.depthwiseWeightGrad)[type]!(...sizes, pa, pb, po, ...own);
  return true;
}
