/** Learned positions of a grid of patches for another grid, as timm resamples them. */

import { concat, describe, einsum, type Pair, pairOf, ShapeError, type Tensor, tensor } from '@otimes/core';
import { aTensor, checkArgument, checkOptions, type Kind, oneOf } from '@otimes/core/extend';

export type ResizePositionsOptions = {
  /** Rows and columns of patches that the positions are of; default: a square. */
  oldSize?: number | Pair;
  /** Tokens before the patches, which stay as they are; default 1, the class token. */
  prefixTokens?: number;
  /** Default 'bicubic', Keys' with a = −1/2. */
  mode?: 'bicubic' | 'bilinear';
};

const aSize: Kind = {
  expected: 'a number or [rows, columns]',
  is: v => typeof v === 'number' || Array.isArray(v),
};
const aNumberOfTokens: Kind = {
  expected: 'an integer ≥ 0',
  is: v => Number.isInteger(v) && Number(v) >= 0,
  error: RangeError,
};

const FILTERS = {
  bilinear: { support: 1, weight: (x: number) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    support: 2,
    weight(x: number): number {
      const [d, a] = [Math.abs(x), -0.5];
      if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
      return d < 2 ? (((d - 5) * d + 8) * d - 4) * a : 0;
    },
  },
};

/** The weights [to, from] by which each of `to` places reads `from` places; where there are fewer, each reads more of them. */
function weightsOf(from: number, to: number, mode: 'bicubic' | 'bilinear'): number[][] {
  const { support, weight } = FILTERS[mode];
  const scale = from / to;
  const wide = Math.max(1, scale);
  return Array.from({ length: to }, (_, i) => {
    const centre = scale * (i + 0.5);
    const first = Math.max(0, Math.floor(centre - support * wide + 0.5));
    const end = Math.min(from, Math.floor(centre + support * wide + 0.5));
    const row = Array.from({ length: from }, (_, j) => (j < first || j >= end ? 0 : weight((j - centre + 0.5) / wide)));
    const sum = row.reduce((a, b) => a + b, 0);
    return row.map(w => w / sum);
  });
}

/**
 * Positions [1, prefixTokens + rows · columns, dim] of a grid of patches, row-major, for a grid of `newSize`: those of a `vit` for images
 * of another size. As timm's `resample_abs_pos_embed`, which is PyTorch's `interpolate(…, { antialias: true })` of the grid.
 *
 * ```ts
 * // fragment
 * const state = fromTimm(load('vit_small_patch16_224.safetensors'));
 * state.position = resizePositions(state.position, 384 / 16);
 * ```
 *
 * @param newSize rows and columns of patches, a number or [rows, columns]
 * @throws ShapeError where the positions are not those of such a grid
 */
export function resizePositions(position: Tensor, newSize: number | Pair, o: ResizePositionsOptions = {}): Tensor {
  const op = 'resizePositions';
  checkArgument(op, 'position', position, aTensor);
  checkArgument(op, 'newSize', newSize, aSize);
  checkOptions(op, o, { oldSize: aSize, prefixTokens: aNumberOfTokens, mode: oneOf('bicubic', 'bilinear') });
  const { prefixTokens = 1, mode = 'bicubic' } = o;
  const [rows, columns] = pairOf(op, 'newSize', newSize, 1);
  const [one, tokens = 0, dim = 0] = position.shape;
  const side = Math.sqrt(tokens - prefixTokens);
  const [oldRows, oldColumns] = o.oldSize === undefined ? [side, side] : pairOf(op, 'oldSize', o.oldSize, 1);
  if (position.rank !== 3 || one !== 1 || prefixTokens + oldRows * oldColumns !== tokens || !Number.isInteger(oldRows))
    throw new ShapeError(
      `${op}: expected positions [1, ${prefixTokens} + ${o.oldSize === undefined ? 'a square' : `${oldRows} · ${oldColumns}`}, dim], got ` +
        describe(position),
    );
  const matrix = (from: number, to: number) =>
    tensor(weightsOf(from, to, mode).flat(), { shape: [to, from], dtype: position.dtype, device: position.device });
  const grid = position.narrow(1, prefixTokens, tokens - prefixTokens).reshape([oldRows, oldColumns, dim]);
  const tall = einsum('ir,rcd->icd', matrix(oldRows, rows), grid);
  const resized = einsum('jc,icd->ijd', matrix(oldColumns, columns), tall).reshape([1, rows * columns, dim]);
  return prefixTokens === 0 ? resized : concat([position.narrow(1, 0, prefixTokens), resized], 1);
}
