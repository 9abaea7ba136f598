/** Transforms of pictures and the loader of batches of them, with wrong arguments of every kind. */

import { Generator } from '@otimes/core';
import * as data from '@otimes/data';
import t from 'tap';
import { checkDoors, type Door } from './helpers/doors.ts';
import { randomSource } from './helpers/pictures.ts';

const { transforms: T } = data;
const source = () => randomSource(6, [3, 4, 4]);
const list = () => [T.randomHorizontalFlip()];
const loader = (o: object = {}) => new data.ImageLoader(source(), { batchSize: 2, ...o });

checkDoors(
  t,
  'images',
  ['ImageLoader', 'ImageLoader.loadStateDict', 'channelStatistics', 'imageTransforms', 'transformImages'],
  {
    ImageLoader: {
      call: (...args: ConstructorParameters<typeof data.ImageLoader>) => new data.ImageLoader(...args),
      args: () => [
        source(),
        {
          ...{ batchSize: 2, shuffle: true, dropLast: true, rng: new Generator(0), transforms: list() },
          ...{ indices: [0, 2], workers: 0, prefetch: 1, device: 'cpu' },
        },
      ],
      says: ['ImageLoader', 'imageTransforms', 'device'],
    },
    'ImageLoader.loadStateDict': {
      call: state => loader().loadStateDict(state),
      args: () => [loader().stateDict()],
      says: ['ImageLoader', 'ImageLoader.loadStateDict'],
    },
    channelStatistics: { call: data.channelStatistics, args: () => [source(), { progress: () => {} }] },
    imageTransforms: { call: data.imageTransforms, args: () => [list()] },
    transformImages: {
      call: data.transformImages,
      args: () => [[source().picture(0)], list(), { rng: new Generator(0), device: 'cpu' }],
      says: ['transformImages', 'imageTransforms', 'device'],
    },
  },
);

const door = (call: Door['call'], ...args: unknown[]): Door => ({ call, args: () => args, says: call.name });
checkDoors(t, 'transforms', Object.keys(T), {
  randomCrop: door(T.randomCrop, [2, 3], { padding: [1, 1], fill: 3, paddingMode: 'edge' }),
  centerCrop: door(T.centerCrop, 3),
  randomHorizontalFlip: door(T.randomHorizontalFlip, 0.5),
  resize: door(T.resize, 3, { interpolation: 'bilinear', antialias: false }),
  randomResizedCrop: door(T.randomResizedCrop, 3, {
    ...{ scale: [0.5, 1], ratio: [1, 1], interpolation: 'bilinear', antialias: true },
  }),
  grayscale: door(T.grayscale, 3),
  normalize: door(T.normalize, [0.5, 0.5], [1, 1]),
});
