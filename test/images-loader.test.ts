/** The loader of pictures: the same bits however they are read, each picture once an epoch, seeds, and resuming. */

import assert from 'node:assert/strict';
import { defaultGenerator, Generator, manualSeed, type StateDict, type Tensor } from '@otimes/core';
import {
  type ImageBatch,
  ImageLoader,
  type ImageLoaderOptions,
  type PictureSource,
  transforms as T,
  transformImages,
} from '@otimes/data';
import fc from 'fast-check';
import t from 'tap';
import { host as browser } from '../data/src/images/workers/browser.ts';
import { range, sorted } from './helpers/data.ts';
import { law } from './helpers/law.ts';
import { augment, bits, epochLater, epochNow, loaderOf, pictures as source } from './helpers/pictures.ts';

const labelsOf = (batches: Iterable<ImageBatch>): number[][] =>
  Array.from(batches, ([, labels]) => Array.from(labels.dataSync()));

law(t, 'the same bits with no, one and two threads, by for…of and for await, with any prefetch', async () => {
  const plain = loaderOf();
  const epochs = [epochNow(plain), await epochLater(plain), epochNow(plain)];
  assert.equal(new Set(epochs.flat()).size, 24);
  for (const o of [
    { workers: 1, prefetch: 0 },
    { workers: 2, prefetch: 5 },
  ]) {
    const loader = loaderOf(o);
    assert.deepEqual([epochNow(loader), await epochLater(loader), epochNow(loader)], epochs, JSON.stringify(o));
    loader.close();
  }
});

law(
  t,
  'a batch has the float32 images [B, C, H, W] and int32 labels [B] of its pictures, each picture once an epoch',
  () => {
    // Labels that say which picture it is.
    const numbered: PictureSource = {
      ...source,
      length: 37,
      labels: Int32Array.from(range(37)),
      picture: i => source.picture(i),
    };
    const options = fc.record({
      batchSize: fc.integer({ min: 1, max: 40 }),
      shuffle: fc.boolean(),
      dropLast: fc.boolean(),
    });
    fc.assert(
      fc.property(options, fc.option(fc.subarray(range(37), { minLength: 1 })), (o, indices) => {
        const loader = new ImageLoader(numbered, { ...o, ...(indices !== null && { indices }), rng: new Generator(1) });
        const all = indices ?? range(37);
        const batches = [...loader];
        assert.equal(batches.length, loader.length);
        assert.equal(loader.length, (o.dropLast ? Math.floor : Math.ceil)(all.length / o.batchSize));
        const seen = labelsOf(batches).flat();
        if (!o.dropLast) assert.deepEqual(sorted(seen), sorted(all));
        if (!o.shuffle) assert.deepEqual(seen, all.slice(0, seen.length));
        assert.equal(new Set(seen).size, seen.length);
        for (const [images, labels] of batches) {
          assert.deepEqual([images.dtype, labels.dtype], ['float32', 'int32']);
          const same = transformImages(
            Array.from(labels.dataSync(), i => source.picture(i)),
            [],
          );
          assert.deepEqual([images.shape, images.toArray()], [same.shape, same.toArray()]);
        }
      }),
      { seed: 1, numRuns: 30 },
    );
  },
);

law(
  t,
  'a run that goes on from the state after any batch sees what the first one saw, with other threads too',
  async () => {
    for (const [workers, then, stop] of [
      [0, 2, 3],
      [1, 0, 8],
      [0, 0, 0],
    ] as const) {
      const first = loaderOf({ workers });
      epochNow(first);
      let state: StateDict = first.stateDict();
      const rest: string[] = [];
      let count = 0;
      for await (const batch of first) {
        count++;
        if (count <= stop) state = first.stateDict();
        else rest.push(bits(batch));
      }
      const second = loaderOf({ workers: then, rng: new Generator(99) });
      second.loadStateDict(state);
      assert.deepEqual(epochNow(second), rest);
      assert.deepEqual(epochNow(second), epochNow(first), 'the epoch after');
      first.close();
      second.close();
    }
  },
);

law(t, 'what becomes of a picture depends on seed, epoch and picture, not on batches, order or other pictures', () => {
  const one = (o: Partial<ImageLoaderOptions>) => {
    const loader = loaderOf(o);
    const epoch = () =>
      new Map(
        [...loader].flatMap(([x, y]) => Array.from(y.dataSync(), (label, i) => [label, String(x.slice(i).toArray())])),
      );
    return [epoch(), epoch()] as const;
  };
  const epochs = one({ indices: range(10), batchSize: 3 });
  const [first, second] = epochs;
  assert.equal(first.size, 10);
  for (const label of range(10)) assert.notEqual(first.get(label), second.get(label), 'epochs differ');
  for (const o of [
    { batchSize: 10 },
    { shuffle: false },
    { indices: [7, 2, 5] },
    { batchSize: 2, dropLast: true, indices: range(9) },
  ]) {
    const others = one({ indices: range(10), ...o });
    for (const e of [0, 1] as const)
      for (const [label, picture] of others[e])
        assert.equal(picture, epochs[e].get(label), `${JSON.stringify(o)} ${label}`);
  }
});

law(t, 'transforms do not change the order, and where nothing is random nothing is drawn', () => {
  assert.deepEqual(labelsOf(loaderOf()), labelsOf(loaderOf({ transforms: [] })));
  manualSeed(3);
  const before = defaultGenerator().getState();
  const plain = new ImageLoader(source, { batchSize: 5, transforms: [T.centerCrop(4)] });
  assert.deepEqual(epochNow(plain), epochNow(plain));
  assert.deepEqual(defaultGenerator().getState(), before);
  assert.deepEqual(Object.keys(plain.stateDict()).sort(), ['batchSize', 'position', 'samples']);
  const seeded = () => {
    manualSeed(3);
    return epochNow(new ImageLoader(source, { batchSize: 5, transforms: augment }));
  };
  assert.deepEqual(seeded(), seeded());
});

law(t, 'batches arrive on the device that is asked for', () => {
  const [[images, labels]] = [...loaderOf({ device: 'reference' })] as [[Tensor, Tensor]];
  assert.deepEqual([images.device, labels.device], ['reference', 'reference']);
  assert.deepEqual(epochNow(loaderOf({ device: 'reference' })), epochNow(loaderOf()));
});

law(t, 'a loader refuses options that make no batches, and threads where there can be none', t => {
  const refused = (o: object, message: RegExp, from = source) =>
    t.throws(() => loaderOf(o, from), { message }, String(message));
  for (const batchSize of [0, 1.5, NaN]) refused({ batchSize }, /ImageLoader: expected a batchSize of 1 or more/);
  for (const workers of [-1, 0.5]) refused({ workers }, /ImageLoader: expected workers to be an integer ≥ 0/);
  refused({ prefetch: -1 }, /expected prefetch to be an integer ≥ 0/);
  refused({ indices: [0, 37] }, /index 37 is out of range for 37 pictures/);
  refused({ indices: [] }, /there are no pictures/);
  refused({ device: 'nowhere' }, /nowhere/);
  const { recipe: _, ...rest } = { ...source, length: 3, labels: new Int32Array(3), picture: () => source.picture(0) };
  const none = rest as unknown as PictureSource;
  refused({ workers: 1 }, /workers: 1 cannot be, the source has no recipe; workers: 0 works/, none);
  assert.equal([...loaderOf({}, none)].length, 1);
  assert.match(browser.why()!, /no threads for it here/);
  assert.throws(() => browser.open(source, [], 1), /ImageLoader: there are no threads/);
  const state = loaderOf().stateDict();
  t.throws(() => loaderOf({ batchSize: 4 }).loadStateDict(state), { message: /batchSize 5, this has 4/ });
  t.equal(String(loaderOf()), 'ImageLoader(37 pictures, batchSize 5, shuffle true, workers 0: 8 batches)');
});
