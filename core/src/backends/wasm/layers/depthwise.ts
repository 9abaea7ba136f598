/** Convolutions in which each channel has kernels of its own, on the `wasm` backend. */

import { images } from '@otimes/kernels';
import { bytesPerElement } from '../../../dtype.ts';
import type { Operand } from '../../backend.ts';
import { type Context, empty } from '../context.ts';
import { addressOf } from '../region.ts';
import { kernelsOf } from './load.ts';
import type { ConvSizes } from './winograd.ts';

const kernels = kernelsOf(images, ['depthwise']);

/** Kernels of a channel beyond which its products have rows enough. */
const MOST = 8;

/**
 * Whether the kernels of single planes did a convolution of a and b to `out`: operands in this memory, row-major, as are those of
 * the kernels of products, to which each channel would be a product of `each` rows. `kind` as for them: 0 forward, 1 by x, 2 by weights.
 */
export function depthwise(
  c: Context,
  kind: 0 | 1 | 2,
  [n, channels, h, w, o, ...rest]: ConvSizes,
  a: Operand,
  b: Operand,
  bias: Operand | null,
  out: Operand,
): boolean {
  const [each, { dtype }] = [o / channels, out];
  const [kh, kw, ho, wo, sy, sx, py, px, dy, dx, groups] = rest;
  if (groups !== channels || channels < 2 || each > MOST) return false;
  const sizes = [n, channels, h, w, each, kh, kw, ho, wo, sy, sx, py, px, dy, dx] as const;
  const bytes = c.kernels.load(images).depthwiseScratch(kind, bytesPerElement(dtype), ...sizes);
  // Each thread that shares the call has its own.
  const work = empty(c, { dtype: 'int32', shape: [(bytes / 4) * (c.kernels.threads ?? 1)] });
  const [pa, pb, pc, po, pw] = [a, b, bias, out, work].map(x => (x ? addressOf(x) : 0)) as Five;
  kernels(c).depthwise[dtype]!(kind, ...sizes, pa, pb, pc, po, pw, bytes);
  return true;
}

type Five = [number, number, number, number, number];
