/** Transforms and pictures that are none, or cannot be together: what errors say. */

import assert from 'node:assert/strict';
import { Generator } from '@otimes/core';
import {
  channelStatistics,
  ImageLoader,
  imageTransforms,
  type Picture,
  type PictureSource,
  transforms as T,
  transformImages,
} from '@otimes/data';
import t from 'tap';
import type { ImageTransform } from '../data/src/images/transform.ts';
import { law } from './helpers/law.ts';
import { randomPicture, randomSource } from './helpers/pictures.ts';

const apply = (picture: Picture, ...list: ImageTransform[]) =>
  transformImages([picture], list, { rng: new Generator(1) });

law(t, 'what is no transform, and what cannot be done with a picture, is refused in words', t => {
  const flip = T.randomHorizontalFlip();
  const refused = (list: unknown[], message: RegExp) =>
    t.throws(() => imageTransforms(list as ImageTransform[]), { message }, String(message));
  refused(
    [flip, { type: 'rotate' }],
    /^imageTransforms: expected transform 1 to be .*randomCrop.*, got the type 'rotate'/,
  );
  // biome-ignore lint/suspicious/noSparseArray: a hole is what this is about
  refused([, flip], /expected transform 0 to be .* got undefined/);
  refused(['randomCrop'], /expected transform 0 to be .* got 'randomCrop'/);
  refused([T.randomHorizontalFlip], /got a function/);
  refused(
    [{ type: 'randomHorizontalFlip' }],
    /^imageTransforms: randomHorizontalFlip: expected p to be a number 0 … 1, got undefined/,
  );
  refused([{ ...flip, q: 1 }], /there is no option 'q'/);
  refused([T.normalize(0, 1), flip], /expected normalize to be the last transform, it is 0 of 2/);
  t.throws(() => T.normalize(0, 0), { message: /normalize: expected std to be a finite number above 0/ });
  t.throws(() => T.normalize([0, 0], [1, 1, 1]), { message: /as many means as stds/ });
  t.throws(() => T.randomCrop(0), { message: /randomCrop: expected size to be .*\[height, width\], got 0/ });
  t.throws(() => T.randomCrop(4, { padding: -1 }), { message: /expected padding to be/ });
  for (const fill of [256, 12.5, [1, 2, 0.5], Array(3)])
    t.throws(() => T.randomCrop(4, { fill }), { message: /expected fill to be an integer 0 … 255, or one a channel/ });
  t.throws(() => T.randomCrop(Array(2) as never), { message: /expected size to be/ });
  t.throws(() => T.normalize(Array(3), 1), { message: /expected mean to be a finite number, or one a channel/ });
  t.throws(() => T.resize(4, { interpolation: 'nearest', antialias: true }), {
    message: /'nearest' takes single pixels/,
  });
  t.throws(() => T.randomResizedCrop(4, { scale: [0.5, 0.1] }), { message: /low ≤ high/ });
  const picture = randomPicture([3, 4, 5], new Generator(1));
  t.throws(() => apply(picture, T.randomCrop(7, { padding: 1 })), {
    name: 'ShapeError',
    message: 'randomCrop: expected at least [7,7] with the padding, got [6,7] of picture 0',
  });
  t.throws(() => apply(picture, T.randomCrop(4, { padding: 1, fill: [1, 2] })), {
    message: /fill for 3 channels, got 2/,
  });
  t.throws(() => apply(picture, T.normalize([0, 0], 1)), {
    message: /pictures of 2 channels for as many numbers, got 3/,
  });
  t.throws(() => transformImages([picture, randomPicture([3, 4, 6], new Generator(1))], []), {
    name: 'ShapeError',
    message: /transformImages: .*\[3,4,5\] of picture 0 and \[3,4,6\] of picture 1/,
  });
  t.throws(() => transformImages(picture as never, []), { message: /write \[picture\]/ });
  for (const type of ['resize', 'centerCrop'] as const)
    t.throws(() => apply(picture, T[type]([9000, 9000])), {
      name: 'ShapeError',
      message: `${type}: expected at most 2²⁶ pixels, got [9000,9000] of picture 0`,
    });
  t.throws(() => apply(picture, T.resize(100000)), {
    message: /at most 2²⁶ pixels, got \[100000,125000\] of picture 0/,
  });
});

law(t, 'what a source of the program gives for a picture is one: 1 or 3 channels, and as many bytes', () => {
  const good = randomPicture([3, 4, 5], new Generator(1));
  const wrong: [unknown, RegExp][] = [
    [{ ...good, data: good.data.subarray(1) }, /got 59 bytes for channels, height, width \[3,4,5\]$/],
    [
      { data: new Uint8Array(8), channels: 2, height: 2, width: 2 },
      /got 8 bytes for channels, height, width \[2,2,2\]$/,
    ],
    [{ data: new Uint8Array(16), channels: 4, height: 2, width: 2 }, /\[4,2,2\]$/],
    [{ ...good, data: new Float32Array(60) }, /got \{ data, channels, height, width \}$/],
    [{ ...good, width: '5' }, /got 60 bytes/],
    [Promise.resolve(good), /got a promise$/],
    [undefined, /got undefined$/],
  ];
  const expected =
    /: expected picture 1 to be \{ data, channels, height, width \} with 1 or 3 channels and a Uint8Array/;
  for (const [given, message] of wrong) {
    const source = { recipe: randomSource(2).recipe, length: 2, labels: new Int32Array(2), classes: ['a'] };
    const from = { ...source, picture: (i: number) => (i === 0 ? good : given) as Picture };
    const ways = [
      () => transformImages([good, given as Picture], [T.grayscale()]),
      () => channelStatistics(from),
      () => [...new ImageLoader(from, { batchSize: 2, transforms: [T.grayscale()] })],
    ];
    for (const way of ways) {
      assert.throws(way, { name: 'TypeError', message });
      assert.throws(way, { message: expected });
    }
  }
  const labels = new Int32Array(1);
  const short = { length: 2, labels, classes: ['a'], picture: () => good } as unknown as PictureSource;
  assert.throws(() => new ImageLoader(short, { batchSize: 2 }), {
    message: /a source of pictures, with length, as many labels/,
  });
});
