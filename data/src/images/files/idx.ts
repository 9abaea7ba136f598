/** IDX files, plain or gzip'd, and those of pictures and their labels as a source: MNIST and sets like it. */

import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { FormatError } from '@otimes/core';
import { aCount, aString, checkArgument, checkOptions } from '@otimes/core/extend';
import { idxHeader, parseIdx } from '../../idx.ts';
import { type PictureSource, picturesInMemory, sharedBytes, someNames } from '../source.ts';
import { bytesOf } from './layout.ts';

export type IdxPicturesOptions = {
  /** No more than so many pictures, the first ones; defaults to all. */
  limit?: number;
  /** Class names, by label; defaults to '0', '1' … up to the largest label in the file. */
  classes?: readonly string[];
};

/**
 * The pictures of an IDX file of bytes [n, h, w], or [n, c, h, w] with c 1 or 3, and their labels, a file of n integers; both plain or
 * gzip'd. For MNIST, Fashion-MNIST and the like: train-images-idx3-ubyte.gz and train-labels-idx1-ubyte.gz.
 *
 * @throws FormatError naming the file that is broken or of other shapes, and a label without a class
 */
export function idxPictures(imagesPath: string, labelsPath: string, o: IdxPicturesOptions = {}): PictureSource {
  checkArgument('idxPictures', 'imagesPath', imagesPath, aString);
  checkArgument('idxPictures', 'labelsPath', labelsPath, aString);
  checkOptions('idxPictures', o, { limit: aCount, classes: someNames });
  const { limit = Infinity } = o;
  const pictures = inFile(imagesPath, bytes => {
    const { type, shape, start } = idxHeader(bytes);
    const [n = 0, ...rest] = shape;
    const [c, h, w] = rest.length === 2 ? [1, ...rest] : rest;
    if (type !== 'uint8' || rest.length < 2 || rest.length > 3 || (c !== 1 && c !== 3) || !n || !h || !w)
      throw new FormatError(`idxPictures: expected uint8[n,h,w] or [n,c,h,w] with c 1 or 3, got ${type}[${shape}]`);
    const count = Math.min(n, limit);
    const pixels = sharedBytes(count * c * h * w);
    pixels.set(bytes.subarray(start, start + pixels.length));
    return { n, pixels, channels: c as 1 | 3, height: h, width: w };
  });
  const { n, ...sizes } = pictures;
  const labels = inFile(labelsPath, bytes => {
    const { type, shape } = idxHeader(bytes);
    if (shape.length !== 1 || shape[0] !== n || type.startsWith('float'))
      throw new FormatError(
        `idxPictures: expected the labels of ${n} pictures, integers [${n}], got ${type}[${shape}]`,
      );
    return parseIdx(bytes).dataSync() as Int32Array;
  });
  const most = o.classes === undefined ? 2 ** 16 : o.classes.length;
  const wrong = labels.findIndex(label => label < 0 || label >= most);
  if (wrong >= 0)
    throw new FormatError(`idxPictures: ${labelsPath}: label ${wrong} is ${labels[wrong]}, expected 0 … ${most - 1}`);
  const largest = labels.reduce((most, label) => Math.max(most, label), 0);
  const classes = o.classes ?? Array.from({ length: largest + 1 }, (_, label) => String(label));
  return picturesInMemory({ ...sizes, labels: labels.slice(0, limit), classes });
}

const inFile = <T>(path: string, read: (bytes: Uint8Array) => T): T =>
  fromIdx(path, read, bytesOf('idxPictures', path));

/** What `read` makes of the bytes of an IDX file, unzipped if need be; a FormatError of it names the file. */
export function fromIdx<T>(path: string, read: (bytes: Uint8Array) => T, bytes = readFileSync(path) as Uint8Array): T {
  try {
    return read(bytes[0] === 0x1f && bytes[1] === 0x8b ? unzipped(bytes) : bytes);
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
