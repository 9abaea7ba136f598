/** Labelled images in memory as a task: averaged if they are to be small, standardised, split, and given to a network. */

import { type Generator, type Tensor, tensor } from '@otimes/core';
import { averagePool2, type Labelled, normalize } from '@otimes/data';
import type { Module } from '@otimes/nn';
import type { JsonRecord, OpenOptions, OpenTask, Task } from '../experiment.ts';
import { ACCURACY, classification, type Split, type Splits } from './classification.ts';
import { NETWORK_DEFAULTS, NETWORK_KINDS, type NetworkOptions, network } from './networks.ts';
import { aCount, optionsFor } from './options.ts';
import { stratified } from './split.ts';

export type ImageOptions = NetworkOptions & {
  /** Height and width: those of the files, or half, or a quarter: means of 2×2 or 4×4 pixels. */
  size: number;
  /** Samples of each split. */
  train: number;
  validation: number;
  test: number;
  batchSize: number;
};

export const IMAGE_KINDS = {
  ...NETWORK_KINDS,
  size: aCount,
  train: aCount,
  validation: aCount,
  test: aCount,
  batchSize: aCount,
};

/** Images [n, h, w] or [n, channels, h, w] of all three splits, as they are in the files. */
export type Raw = { readonly train: Labelled; readonly validation: Labelled; readonly test: Labelled };

export type ImageSet = {
  readonly name: string;
  readonly about: string;
  /** What the folder must be; null for none. */
  readonly data: string | null;
  readonly classes: number;
  readonly defaults: Omit<ImageOptions, keyof NetworkOptions>;
  load(folder: string | null, o: ImageOptions): Raw | Promise<Raw>;
};

/** The task of an image set. */
export function imageTask(set: ImageSet): Task {
  const { name, about, data, classes } = set;
  return {
    ...{ name, about, data, metric: ACCURACY },
    async open({ data: folder, device, options }: OpenOptions): Promise<OpenTask> {
      const o = imageOptions(set, options);
      const splits = standardized(name, await set.load(folder, o), o.size);
      const channels = splits.train.inputs.shape[1]!;
      const model = (rng: Generator): Module => network(o, { channels, size: o.size, classes }, rng);
      return classification({ task: name, splits, device, batchSize: o.batchSize, model });
    },
  };
}

export const imageOptions = (
  { name, defaults }: Pick<ImageSet, 'name' | 'defaults'>,
  given: JsonRecord,
): ImageOptions => optionsFor<ImageOptions>(name, given, { ...NETWORK_DEFAULTS, ...defaults }, IMAGE_KINDS);

/** [n, channels, size, size] each, with mean 0 and standard deviation 1 over each channel of the training set. */
export function standardized(task: string, raw: Raw, size: number): Splits {
  const smaller = ({ images, labels }: Labelled): Split => ({ inputs: averaged(task, images, size), labels });
  const [train, validation, test] = [smaller(raw.train), smaller(raw.validation), smaller(raw.test)];
  const mean = train.inputs.mean([0, 2, 3], { keepdim: true });
  const std = train.inputs.var([0, 2, 3], { keepdim: true }).sqrt();
  const scaled = ({ inputs, labels }: Split): Split => ({ inputs: normalize(inputs, mean, std).contiguous(), labels });
  return { train: scaled(train), validation: scaled(validation), test: scaled(test) };
}

/** [n, h, w] or [n, c, h, w] → [n, c, size, size] */
export function averaged(task: string, images: Tensor, size: number): Tensor {
  let x = images.rank === 3 ? images.unsqueeze(1) : images;
  const full = x.shape[3]!;
  if (![full, full / 2, full / 4].includes(size))
    throw new RangeError(`task '${task}': expected a size of ${full}, ${full / 2} or ${full / 4} pixels, got ${size}`);
  while (x.shape[3]! > size) x = averagePool2(x);
  return x.contiguous();
}

/** The images at some indices. */
export function chosen({ images, labels }: Labelled, indices: Int32Array): Labelled {
  const index = tensor(indices);
  return { images: images.indexSelect(0, index), labels: labels.indexSelect(0, index) };
}

/** Validation and training set out of the same images: the first does not change with the length of the second. */
export function heldOut(task: string, all: Labelled, { train, validation }: ImageOptions): Omit<Raw, 'test'> {
  const [second, first] = stratified(
    `task '${task}': training files`,
    all.labels.dataSync(),
    { validation, train },
    SPLIT_SEED,
  );
  return { train: chosen(all, first!), validation: chosen(all, second!) };
}

/** Of splits, whatever the run's seed is: all seeds have the same images. */
export const SPLIT_SEED = 14;
