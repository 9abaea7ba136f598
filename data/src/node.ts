/** Data sets in files, for Node. */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { FormatError, ShapeError, type Tensor } from '@otimes/core';
import { aDevice, aNumber, aString, checkArgument, checkOptions, oneOf } from '@otimes/core/extend';
import type { Labelled } from './digits.ts';
import { type IdxOptions, parseIdx } from './idx.ts';

/** The tensor in an IDX file, plain or gzip'd. Throws a FormatError naming the file if it is neither. */
export function readIdx(path: string, o?: IdxOptions): Tensor {
  checkArgument('readIdx', 'path', path, aString);
  const bytes = readFileSync(path);
  try {
    return parseIdx(bytes[0] === 0x1f && bytes[1] === 0x8b ? unzipped(bytes) : bytes, o);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new FormatError(`${path}: ${error.message}`, { cause: error });
  }
}

function unzipped(bytes: Uint8Array): Uint8Array {
  try {
    return gunzipSync(bytes, { maxOutputLength: 2 ** 30 });
  } catch (cause) {
    throw new FormatError(`not a whole gzip file: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
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
  const found = [path, `${path}.gz`].find(existsSync);
  if (found === undefined)
    throw new Error(
      `fashionMnist: found neither ${path} nor ${name}.gz beside it; Debian's package dataset-fashion-mnist ` +
        'has the files, in /usr/share/datasets/fashion-mnist',
    );
  return found;
}
