/** CIFAR-10 and CIFAR-100 (Krizhevsky 2009), and Tiny ImageNet, from their folders. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import {
  imageFolder,
  cifar10 as readCifar10,
  cifar100 as readCifar100,
  tinyImageNet as readTiny,
} from '@otimes/data/node';
import { pictureTask } from './pictures.ts';

/** The binary version, or JPEG and PNG files in a folder for each class. */
export const cifar10 = pictureTask({
  name: 'cifar10',
  about: 'CIFAR-10: 32×32 colour images of 10 classes; a network; cross-entropy.',
  data:
    'data_batch_1.bin … data_batch_5.bin and test_batch.bin of the binary version of CIFAR-10, or folders train and test with a folder of ' +
    'JPEG or PNG files for each class',
  classes: 10,
  pixels: 32,
  mean: [0.4914, 0.4822, 0.4465],
  std: [0.247, 0.2435, 0.2616],
  defaults: { size: 32, train: 45_000, validation: 5000, test: 10_000, batchSize: 128, augment: false, padding: 4 },
  async load(folder) {
    if (existsSync(join(folder, 'train')) && existsSync(join(folder, 'test')))
      return { train: await imageFolder(join(folder, 'train')), test: await imageFolder(join(folder, 'test')) };
    return { train: readCifar10(folder, { split: 'train' }), test: readCifar10(folder, { split: 'test' }) };
  },
});

export const cifar100 = pictureTask({
  name: 'cifar100',
  about: 'CIFAR-100: 32×32 colour images of 100 classes; a network; cross-entropy.',
  data: 'train.bin and test.bin of the binary version of CIFAR-100',
  classes: 100,
  pixels: 32,
  mean: [0.5071, 0.4865, 0.4409],
  std: [0.2673, 0.2564, 0.2762],
  defaults: { size: 32, train: 45_000, validation: 5000, test: 10_000, batchSize: 128, augment: false, padding: 4 },
  load: async folder => ({
    train: readCifar100(folder, { split: 'train' }),
    test: readCifar100(folder, { split: 'test' }),
  }),
});

/** The images that its authors label as for validation are the test split here, since those of their test have no labels. */
export const tinyImageNet = pictureTask({
  name: 'tiny-imagenet',
  about: 'Tiny ImageNet: 64×64 colour images of 200 classes; a network; cross-entropy.',
  data: 'wnids.txt, words.txt, train and val of tiny-imagenet-200',
  classes: 200,
  pixels: 64,
  mean: [0.4802, 0.4481, 0.3975],
  std: [0.277, 0.2691, 0.2821],
  defaults: { size: 64, train: 95_000, validation: 5000, test: 10_000, batchSize: 128, augment: false, padding: 8 },
  load: async folder => ({
    train: await readTiny(folder, { split: 'train' }),
    test: await readTiny(folder, { split: 'val' }),
  }),
});
