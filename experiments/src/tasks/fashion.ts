/** Fashion-MNIST (Xiao, Rasul & Vollgraf 2017), or another set in the four files of MNIST. */

import { fashionMnist } from '@otimes/data/node';
import { heldOut, imageTask } from './images.ts';

/** Where Debian's package dataset-fashion-mnist has the files. */
const DEBIAN = '/usr/share/datasets/fashion-mnist';

export const fashion = imageTask({
  name: 'fashion',
  about: 'Fashion-MNIST, averaged to 14×14; a small network; cross-entropy.',
  data: `the four files of Fashion-MNIST, with or without .gz; by default ${DEBIAN}, of Debian's package dataset-fashion-mnist`,
  classes: 10,
  defaults: { size: 14, train: 6000, validation: 2000, test: 10_000, batchSize: 128 },
  load(folder, o) {
    const from = folder ?? DEBIAN;
    // As many as are needed, from the start of the file, whose order is random.
    const all = fashionMnist(from, { split: 'train', limit: o.train + o.validation });
    return { ...heldOut('fashion', all, o), test: fashionMnist(from, { split: 'test', limit: o.test }) };
  },
});
