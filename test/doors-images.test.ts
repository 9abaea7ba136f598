// Every public function of @otimes/data/node, called with wrong arguments: it works, or an error of the library says what is wrong.

import * as node from '@otimes/data/node';
import t from 'tap';
import { checkDoors } from './helpers/doors.ts';
import {
  png,
  writeSyntheticCifar10,
  writeSyntheticCifar100,
  writeSyntheticImageFolder,
  writeSyntheticMnist,
  writeSyntheticTinyImageNet,
} from './helpers/image-sets.ts';

const folder = t.testdir();
writeSyntheticCifar10(`${folder}/ten`, { train: 5, test: 1 });
writeSyntheticCifar100(`${folder}/hundred`, { train: 2, test: 1 });
writeSyntheticMnist(`${folder}/mnist`, { train: 2, test: 1 });
await writeSyntheticTinyImageNet(`${folder}/tiny`, { train: 1, test: 1, classes: 2, size: 8 });
await writeSyntheticImageFolder(`${folder}/folder`, { train: 1, size: 8, format: 'png' });
const picture = png(new Uint8Array(64), { channels: 1, size: 8 });

checkDoors(
  t,
  'data/node',
  Object.keys(node),
  {
    cifar10: { call: node.cifar10, args: () => [`${folder}/ten`, { split: 'test', limit: 1 }] },
    cifar100: { call: node.cifar100, args: () => [`${folder}/hundred`, { split: 'test', labels: 'coarse', limit: 1 }] },
    tinyImageNet: { call: node.tinyImageNet, args: () => [`${folder}/tiny`, { split: 'val', limit: 1 }] },
    imageFolder: { call: node.imageFolder, args: () => [`${folder}/folder`, { channels: 1, extensions: ['.png'] }] },
    idxPictures: {
      call: node.idxPictures,
      args: () => [
        `${folder}/mnist/t10k-images-idx3-ubyte`,
        `${folder}/mnist/t10k-labels-idx1-ubyte`,
        { limit: 1, classes: ['a', 'b'] },
      ],
    },
    openSource: {
      call: node.openSource,
      args: () => [{ kind: 'files', paths: ['a.jpg'], labels: new Int32Array(1), classes: ['a'], channels: 3 }],
    },
    pictureDecoder: {
      call: async (...args: Parameters<node.PictureDecoder>) => (await node.pictureDecoder())(...args),
      args: () => [picture, { channels: 1, file: 'a.png' }],
    },
  },
  {
    readIdx: 'a missing file is told in the words of the file system',
    fashionMnist: 'calls readIdx',
  },
);
