/**
 * Sets of pictures in files as tasks. Without augmentation their pixels are kept in memory, averaged if they are to be small; with it, each
 * epoch crops and flips them anew, in worker threads where there are some.
 */

import { Generator, type Tensor, tensor } from '@otimes/core';
import { ImageLoader, type ImageTransform, type PictureSource, transformImages, transforms } from '@otimes/data';
import { crossEntropy } from '@otimes/nn';
import type { Evaluation, OpenOptions, OpenTask, Task } from '../experiment.ts';
import { ACCURACY, classification } from './classification.ts';
import { evaluatedBatches } from './evaluate.ts';
import { IMAGE_KINDS, type ImageOptions, SPLIT_SEED, standardized } from './images.ts';
import { NETWORK_DEFAULTS, type NetworkOptions, network } from './networks.ts';
import { aBoolean, aWhole, optionsFor } from './options.ts';
import { stratified } from './split.ts';

export type PictureOptions = ImageOptions & {
  /** Whether training pictures are cropped at random, with `padding` around them, and flipped; `size` is then what they are resized to. */
  augment: boolean;
  /** Pixels on every side. */
  padding: number;
};

export type PictureSet = {
  readonly name: string;
  readonly about: string;
  readonly data: string;
  readonly classes: number;
  /** Height and width in the files. */
  readonly pixels: number;
  /** Mean and standard deviation of the channels of the training pictures, 0 … 1, by which augmented ones are normalised. */
  readonly mean: readonly [number, number, number];
  readonly std: readonly [number, number, number];
  readonly defaults: Omit<PictureOptions, keyof NetworkOptions>;
  load(folder: string): Promise<{ train: PictureSource; test: PictureSource }>;
};

const KINDS = { ...IMAGE_KINDS, augment: aBoolean, padding: aWhole };

/** The source and which of its pictures. */
type Part = { readonly source: PictureSource; readonly indices: Int32Array };
type Parts = { readonly train: Part; readonly validation: Part; readonly test: Part };

export function pictureTask(set: PictureSet): Task {
  const { name, about, data } = set;
  return {
    ...{ name, about, data, metric: ACCURACY },
    async open(given: OpenOptions): Promise<OpenTask> {
      const o = optionsFor<PictureOptions>(name, given.options, { ...NETWORK_DEFAULTS, ...set.defaults }, KINDS);
      if (given.data === null) throw new Error(`task '${name}': needs its data: --data FOLDER with ${data}`);
      const { train, test } = await set.load(given.data);
      if (train.classes.length !== set.classes)
        throw new RangeError(
          `task '${name}': expected ${set.classes} classes in ${given.data}, got ${train.classes.length}`,
        );
      // By number a class is the same one in both, or all test labels are wrong.
      const apart = (a: PictureSource, b: PictureSource) => a.classes.filter((one, i) => b.classes[i] !== one);
      const [ofTrain, ofTest] = [apart(train, test), apart(test, train)];
      if (ofTrain.length + ofTest.length > 0)
        throw new RangeError(
          `task '${name}': expected the same classes to train and to test with in ${given.data}, got ${ofTrain.join(', ') || 'none'} in the place of ${ofTest.join(', ') || 'none'}`,
        );
      const what = `task '${name}'`;
      const [held, used] = stratified(
        `${what}: training files`,
        train.labels,
        { validation: o.validation, train: o.train },
        SPLIT_SEED,
      );
      const [tested] = stratified(`${what}: test files`, test.labels, { test: o.test }, SPLIT_SEED);
      const parts: Parts = {
        train: { source: train, indices: used! },
        validation: { source: train, indices: held! },
        test: { source: test, indices: tested! },
      };
      return o.augment ? augmented(set, o, parts, given) : inMemory(set, o, parts, given);
    },
  };
}

function inMemory(set: PictureSet, o: PictureOptions, parts: Parts, { device }: OpenOptions): OpenTask {
  const read = ({ source, indices }: Part) => ({
    images: transformImages(
      Array.from(indices, i => source.picture(i)),
      [],
    ),
    labels: tensor(indices.map(i => source.labels[i]!)),
  });
  const raw = { train: read(parts.train), validation: read(parts.validation), test: read(parts.test) };
  const splits = standardized(set.name, raw, o.size);
  const shape = { channels: 3, size: o.size, classes: set.classes };
  const model = (rng: Generator) => network(o, shape, rng);
  return classification({ task: set.name, splits, device, batchSize: o.batchSize, model });
}

type Batch = [Tensor, Tensor];

/** Crops are of `pixels` and evaluations of whole pictures: those of another size would be cut in training alone. A picture of each class is looked at. */
function checkSizes(task: string, source: PictureSource, indices: Int32Array, pixels: number): void {
  const seen = new Set<number>();
  for (const i of indices) {
    const label = source.labels[i]!;
    if (seen.has(label)) continue;
    seen.add(label);
    const { height, width } = source.picture(i);
    if (height !== pixels || width !== pixels)
      throw new RangeError(
        `task '${task}': expected pictures of ${pixels}×${pixels} pixels to augment, got one of ${height}×${width}`,
      );
  }
}

function augmented(
  set: PictureSet,
  o: PictureOptions,
  parts: Parts,
  { device, workers }: OpenOptions,
): OpenTask<Batch> {
  const { name, pixels, classes } = set;
  const { batchSize, size } = o;
  if (batchSize > o.train)
    throw new RangeError(`task '${name}': expected a batchSize of at most ${o.train} samples, got ${batchSize}`);
  for (const { source, indices } of [parts.train, parts.validation, parts.test])
    checkSizes(name, source, indices, pixels);
  const { randomCrop, randomHorizontalFlip, resize, normalize } = transforms;
  const last: ImageTransform[] = [...(size === pixels ? [] : [resize(size)]), normalize(set.mean, set.std)];
  const first: ImageTransform[] = [randomCrop(pixels, { padding: o.padding }), randomHorizontalFlip()];
  const common = { batchSize, workers, device };
  const loaders = new Set<ImageLoader>();
  const opened = (loader: ImageLoader) => {
    loaders.add(loader);
    return loader;
  };
  const measured = ({ source, indices }: Part) =>
    opened(new ImageLoader(source, { ...common, indices, transforms: last }));
  const splits = { validation: measured(parts.validation), test: measured(parts.test) };
  return {
    samples: { train: o.train, validation: o.validation, test: o.test },
    model: seed => network(o, { channels: 3, size, classes }, new Generator(seed)).to(device),
    batches(seed) {
      const { source, indices } = parts.train;
      const rng = new Generator(1000 + seed);
      const order = { shuffle: true, dropLast: true, rng };
      const loader = opened(new ImageLoader(source, { ...common, ...order, indices, transforms: [...first, ...last] }));
      return {
        stepsPerEpoch: loader.length,
        epoch: () => loader,
        stateDict: () => loader.stateDict(),
        loadStateDict: state => loader.loadStateDict(state),
        close: () => loader.close(),
      };
    },
    loss: (model, [images, labels]) => crossEntropy(model.call(images), labels),
    evaluate(model, split): Promise<Evaluation> {
      return evaluatedBatches(model, splits[split], ([images, labels]: Batch) => {
        const logits: Tensor = model.call(images);
        return {
          loss: crossEntropy(logits, labels, { reduction: 'sum' }),
          metric: logits.argmax(1).eq(labels).astype('float32').sum(),
          count: labels.shape[0]!,
        };
      });
    },
    close() {
      for (const loader of loaders) loader.close();
    },
  };
}
