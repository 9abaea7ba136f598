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
      checkClasses(name, given.data, train, test);
      if (o.augment) for (const source of [train, test]) checkPixels(set, given.data, source);
      const what = `task '${name}'`;
      const [held, used] = stratified(what, train.labels, SPLIT_SEED, {
        of: `training pictures in ${given.data}`,
        parts: { validation: o.validation, train: o.train },
      });
      const [tested] = stratified(what, test.labels, SPLIT_SEED, {
        of: `test pictures in ${given.data}`,
        parts: { test: o.test },
      });
      const parts: Parts = {
        train: { source: train, indices: used! },
        validation: { source: train, indices: held! },
        test: { source: test, indices: tested! },
      };
      return o.augment ? augmented(set, o, parts, given) : inMemory(set, o, parts, given);
    },
  };
}

/** Throws unless a label means the same in both. */
function checkClasses(name: string, folder: string, train: PictureSource, test: PictureSource): void {
  const only = (a: PictureSource, b: PictureSource) => a.classes.filter(one => !b.classes.includes(one));
  const [inTrain, inTest] = [only(train, test), only(test, train)];
  if (train.classes.join('\n') === test.classes.join('\n')) return;
  throw new RangeError(
    `task '${name}': expected the same classes in both splits of ${folder}, got in the training split alone ` +
      `${inTrain.join(', ') || 'none'}, in the test split alone ${inTest.join(', ') || 'none'}`,
  );
}

/** Throws unless the first picture of each class has the size of the set, from which crops are taken. */
function checkPixels({ name, pixels }: PictureSet, folder: string, source: PictureSource): void {
  for (const [label, of] of source.classes.entries()) {
    const first = source.labels.indexOf(label);
    if (first < 0) continue;
    const { height, width } = source.picture(first);
    if (height !== pixels || width !== pixels)
      throw new RangeError(
        `task '${name}': expected pictures of ${pixels}×${pixels} where augment is true, got one of ${height}×${width} ` +
          `of the class '${of}' in ${folder}`,
      );
  }
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
