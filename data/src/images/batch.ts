/** Pictures that are at hand as one batch, and what is known of the pixels of a set. */

import { defaultGenerator, FormatError, type Generator, type Tensor, zeros } from '@otimes/core';
import { aDevice, aFunction, checkArgument, checkOptions, type Kind } from '@otimes/core/extend';
import { aGenerator } from '../epochs.ts';
import { type Allocate, ImagePlan, isRandom, nameOf } from './plan.ts';
import { checkPicture, isPicture, type Picture, type PictureSource } from './source.ts';
import { type ImageTransform, imageTransforms } from './transform.ts';

/** Something with pictures. */
export const aSource: Kind = {
  expected: 'a source of pictures, with length, as many labels (an Int32Array), classes and picture(index)',
  is: v =>
    typeof v === 'object' &&
    v !== null &&
    'length' in v &&
    'labels' in v &&
    v.labels instanceof Int32Array &&
    v.labels.length === v.length &&
    'picture' in v &&
    typeof v.picture === 'function',
};

const somePictures: Kind = {
  expected: 'an array of one or more pictures',
  is: v => Array.isArray(v) && v.length > 0,
  hint: v => (isPicture(v) ? 'write [picture]' : ''),
};
const BATCH = { rng: aGenerator, device: aDevice };

/** The memory of a new tensor of zeros [B, C, H, W], as plans want it, and in the end the tensor. */
export function batchMemory(): { allocate: Allocate; tensor: () => Tensor } {
  let made: Tensor | null = null;
  return {
    allocate(shape) {
      made = zeros(shape);
      // Nothing else is allocated until the batch is full.
      return made.storage.array as Float32Array;
    },
    tensor: () => made!,
  };
}

/**
 * Pictures as a batch float32 [B, C, H, W] of 0 … 1, or of what `normalize` makes of that. Transformed pictures must have one size.
 *
 * @param o `rng`, for transforms that draw; defaults to the generator that `manualSeed` seeds. `device` defaults to 'cpu'.
 */
export function transformImages(
  pictures: readonly Picture[],
  transforms: readonly ImageTransform[],
  o: { rng?: Generator; device?: string } = {},
): Tensor {
  checkArgument('transformImages', 'pictures', pictures, somePictures);
  for (let i = 0; i < pictures.length; i++) checkPicture('transformImages', pictures[i], () => `picture ${i}`);
  const list = imageTransforms(transforms);
  checkOptions('transformImages', o, BATCH);
  const { rng = defaultGenerator(), device = 'cpu' } = o;
  const memory = batchMemory();
  const indices = Int32Array.from(pictures, (_, i) => i);
  const key = isRandom(list) ? ([rng.bits(), rng.bits()] as const) : ([0, 0] as const);
  const source = { picture: (i: number) => pictures[i]! };
  new ImagePlan(list).fill('transformImages', source, indices, key, memory.allocate);
  return memory.tensor().to(device);
}

/** Mean and standard deviation of each channel, of values 0 … 1. */
export type ChannelStatistics = { mean: number[]; std: number[] };

/**
 * Mean and standard deviation (of n, not n − 1) of each channel over all pixels of a source, in 0 … 1: what `transforms.normalize` takes.
 * Reads every picture once; sums are exact.
 *
 * @param o `progress` is told after each picture how many of how many are done
 * @throws FormatError for a source in which the numbers of channels differ
 */
export function channelStatistics(
  source: PictureSource,
  o: { progress?: (done: number, all: number) => void } = {},
): ChannelStatistics {
  checkArgument('channelStatistics', 'source', source, aSource);
  checkOptions('channelStatistics', o, { progress: aFunction });
  /** How often each byte comes. */
  const counts: Float64Array[] = [];
  for (let i = 0; i < source.length; i++) {
    const picture = source.picture(i);
    checkPicture('channelStatistics', picture, () => nameOf(source, i));
    const { data, channels, height, width } = picture;
    if (i === 0) for (let c = 0; c < channels; c++) counts.push(new Float64Array(256));
    if (channels !== counts.length)
      throw new FormatError(`channelStatistics: picture 0 has ${counts.length} channels, picture ${i} has ${channels}`);
    counts.forEach((count, c) => {
      for (let p = c * height * width; p < (c + 1) * height * width; p++) count[data[p]!]!++;
    });
    o.progress?.(i + 1, source.length);
  }
  if (counts.length === 0) throw new RangeError('channelStatistics: the source has no pictures');
  const moments = counts.map(count => {
    let [n, sum, squares] = [0, 0, 0];
    count.forEach((times, byte) => {
      n += times;
      sum += times * byte;
      squares += times * byte * byte;
    });
    const mean = sum / n;
    return { mean: mean / 255, std: Math.sqrt(Math.max(squares / n - mean * mean, 0)) / 255 };
  });
  return { mean: moments.map(({ mean }) => mean), std: moments.map(({ std }) => std) };
}
