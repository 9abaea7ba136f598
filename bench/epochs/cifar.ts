/** CIFAR-10 (Krizhevsky 2009) in the binary version of its authors, averaged to 16×16. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Tensor, tensor } from '@otimes/core';
import { averagePool2, type Labelled } from '@otimes/data';

/** A label, and 32×32 pixels of red, of green and of blue. */
const [PIXELS, RECORD] = [3 * 32 * 32, 1 + 3 * 32 * 32];

/** The first so many images [n, 3, 16, 16] of files one after the other, in [0, 1]. */
function read(folder: string, files: readonly string[], limit: number): Labelled {
  const [pixels, labels] = [new Float32Array(limit * PIXELS), new Int32Array(limit)];
  let n = 0;
  for (const file of files) {
    const data = readFileSync(join(folder, file));
    if (data.length === 0 || data.length % RECORD !== 0)
      throw new Error(`cifar: expected ${file} to have records of ${RECORD} bytes, got ${data.length} bytes`);
    for (let at = 0; at < data.length && n < limit; at += RECORD, n++) {
      labels[n] = data[at]!;
      for (let i = 0; i < PIXELS; i++) pixels[n * PIXELS + i] = data[at + 1 + i]! / 255;
    }
  }
  if (n < limit) throw new Error(`cifar: expected ${limit} images in ${files.join(', ')}, got ${n}`);
  const images: Tensor = averagePool2(tensor(pixels, { shape: [n, 3, 32, 32] })).contiguous();
  return { images, labels: tensor(labels) };
}

/** @param folder with data_batch_1.bin … data_batch_5.bin and test_batch.bin */
export function cifar10(folder: string, train: number, test: number): { train: Labelled; test: Labelled } {
  const batches = [1, 2, 3, 4, 5].map(i => `data_batch_${i}.bin`);
  return {
    train: read(folder, batches.slice(0, Math.ceil(train / 10_000)), train),
    test: read(folder, ['test_batch.bin'], test),
  };
}
