/** @otimes/data/node: data sets in files, for Node. */

import { join } from 'node:path';
import { ShapeError, type Tensor } from '@otimes/core';
import { aDevice, aNumber, aString, checkArgument, checkOptions, oneOf } from '@otimes/core/extend';
import type { Labelled } from './digits.ts';
import { type IdxOptions, parseIdx } from './idx.ts';
import { fromIdx } from './images/files/idx.ts';
import { statOf } from './images/files/layout.ts';

export { type Cifar10FolderOptions, type Cifar100FolderOptions, cifar10, cifar100 } from './images/files/cifar.ts';
export { type DecodeOptions, type PictureDecoder, pictureDecoder } from './images/files/decoder.ts';
export { type ImageFolderOptions, imageFolder, openSource } from './images/files/folder.ts';
export { type IdxPicturesOptions, idxPictures } from './images/files/idx.ts';
export { type TinyImageNetOptions, tinyImageNet } from './images/files/tiny-imagenet.ts';

/** The tensor in an IDX file, plain or gzip'd. Throws a FormatError naming the file if it is neither. */
export function readIdx(path: string, o?: IdxOptions): Tensor {
  checkArgument('readIdx', 'path', path, aString);
  return fromIdx(path, bytes => parseIdx(bytes, o));
}

export type FashionMnistOptions = {
  /** 60,000 images for training or 10,000 for the test; defaults to 'train'. */
  split?: 'train' | 'test';
  /** No more than so many images, the first ones; defaults to all. */
  limit?: number;
  /** Where the tensors are; defaults to 'cpu'. */
  device?: string;
};

/**
 * Fashion-MNIST (Xiao, Rasul & Vollgraf 2017), or any set in the four files of MNIST, from a folder: with or without
 * `.gz`, as Debian's package dataset-fashion-mnist has them in /usr/share/datasets/fashion-mnist.
 */
export function fashionMnist(folder: string, options: FashionMnistOptions = {}): Labelled {
  checkArgument('fashionMnist', 'folder', folder, aString);
  checkOptions('fashionMnist', options, { split: oneOf('train', 'test'), limit: aNumber, device: aDevice });
  const { split = 'train', limit, device = 'cpu' } = options;
  const prefix = split === 'train' ? 'train' : 't10k';
  const o: IdxOptions = { device, ...(limit !== undefined && { limit }) };
  const images = readIdx(located(folder, `${prefix}-images-idx3-ubyte`), { ...o, normalize: true });
  const labels = readIdx(located(folder, `${prefix}-labels-idx1-ubyte`), o);
  const [n, h, w] = images.shape;
  if (images.rank !== 3 || labels.rank !== 1 || labels.shape[0] !== n || h !== 28 || w !== 28)
    throw new ShapeError(
      `fashionMnist: expected images [n,28,28] and labels [n] in ${folder}, ` +
        `got [${images.shape.join(',')}] and [${labels.shape.join(',')}]`,
    );
  return { images, labels };
}

function located(folder: string, name: string): string {
  const path = join(folder, name);
  const found = [path, `${path}.gz`].find(one => statOf('fashionMnist', one) !== null);
  if (found === undefined)
    throw new Error(
      `fashionMnist: found neither ${path} nor ${name}.gz beside it; Debian's package dataset-fashion-mnist ` +
        'has the files, in /usr/share/datasets/fashion-mnist',
    );
  return found;
}
