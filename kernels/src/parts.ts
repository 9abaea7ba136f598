/**
 * Modules of kernels that come with the operations that use them (`Kernels.load`): apart from the first one, whose memory they
 * share and whose products they import, so that a program without these operations has none of them in its bundle. Their plans for threads come with them.
 */

import { attention as packedAttention } from './generated/attention.gen.ts';
import { images as packedImages } from './generated/images.gen.ts';
import { math as packedMath } from './generated/math.gen.ts';
import { normalize as packedNormalize } from './generated/normalize.gen.ts';
import { order as packedOrder } from './generated/order.gen.ts';
import {
  attentionPlans,
  imagesPlans,
  mathPlans,
  normalizePlans,
  orderPlans,
  recurrentPlans,
  resamplePlans,
} from './generated/plans.gen.ts';
import { recurrent as packedRecurrent } from './generated/recurrent.gen.ts';
import { resample as packedResample } from './generated/resample.gen.ts';
import type {
  AttentionExports,
  ImagesExports,
  MathExports,
  NormalizeExports,
  OrderExports,
  RecurrentExports,
  ResampleExports,
} from './generated/types.gen.ts';
import type { Packed } from './packed.ts';
import type { Plans } from './threads/plan.ts';

/** What each module exports. */
export type PartExports = {
  readonly images: ImagesExports;
  readonly normalize: NormalizeExports;
  readonly attention: AttentionExports;
  readonly resample: ResampleExports;
  readonly math: MathExports;
  readonly order: OrderExports;
  readonly recurrent: RecurrentExports;
};

export type Part<Name extends keyof PartExports = keyof PartExports> = {
  readonly name: Name;
  readonly packed: Packed;
  /** How threads share calls of its kernels. */
  readonly plans: Plans;
};

/** Convolution, patches and pooling. */
export const images: Part<'images'> = { name: 'images', packed: packedImages, plans: imagesPlans };
/** Layer and batch normalisation. */
export const normalize: Part<'normalize'> = { name: 'normalize', packed: packedNormalize, plans: normalizePlans };
/** Attention of several heads. */
export const attention: Part<'attention'> = { name: 'attention', packed: packedAttention, plans: attentionPlans };
/** Interpolation along axes. */
export const resample: Part<'resample'> = { name: 'resample', packed: packedResample, plans: resamplePlans };
/** Functions of one element beyond those of the first module, and activations. */
export const math: Part<'math'> = { name: 'math', packed: packedMath, plans: mathPlans };
/** Orders of elements. */
export const order: Part<'order'> = { name: 'order', packed: packedOrder, plans: orderPlans };
/** Recurrent layers over whole sequences. */
export const recurrent: Part<'recurrent'> = { name: 'recurrent', packed: packedRecurrent, plans: recurrentPlans };
