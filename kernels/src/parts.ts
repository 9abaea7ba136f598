/**
 * Modules of kernels that come with the operations that use them (`Kernels.load`): apart from the first one, whose memory they
 * share and whose products they import, so that a program without these operations has none of them in its bundle.
 */

import { attention as packedAttention } from './generated/attention.gen.ts';
import { images as packedImages } from './generated/images.gen.ts';
import { normalize as packedNormalize } from './generated/normalize.gen.ts';
import { resample as packedResample } from './generated/resample.gen.ts';
import type { AttentionExports, ImagesExports, NormalizeExports, ResampleExports } from './generated/types.gen.ts';
import type { Packed } from './packed.ts';

/** What each module exports. */
export type PartExports = {
  readonly images: ImagesExports;
  readonly normalize: NormalizeExports;
  readonly attention: AttentionExports;
  readonly resample: ResampleExports;
};

export type Part<Name extends keyof PartExports = keyof PartExports> = {
  readonly name: Name;
  readonly packed: Packed;
};

/** Convolution, patches and pooling. */
export const images: Part<'images'> = { name: 'images', packed: packedImages };
/** Layer and batch normalisation. */
export const normalize: Part<'normalize'> = { name: 'normalize', packed: packedNormalize };
/** Attention of several heads. */
export const attention: Part<'attention'> = { name: 'attention', packed: packedAttention };
/** Interpolation along axes. */
export const resample: Part<'resample'> = { name: 'resample', packed: packedResample };
