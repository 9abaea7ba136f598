/** The loader of pictures: the same bits however they are read, resuming, errors where they are due, and threads that end. */

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { MessagePort, Worker } from 'node:worker_threads';
import { defaultGenerator, Generator, manualSeed, type StateDict, type Tensor } from '@otimes/core';
import {
  type ImageBatch,
  ImageLoader,
  type ImageLoaderOptions,
  type PictureSource,
  transforms as T,
  transformImages,
} from '@otimes/data';
import { openSource } from '@otimes/data/node';
import { type BuildOptions, build } from 'esbuild';
import fc from 'fast-check';
import { encode } from 'fast-png';
import t from 'tap';
import { host as browser } from '../data/src/images/workers/browser.ts';
import { range, sorted } from './helpers/data.ts';
import { law } from './helpers/law.ts';
import { root, run } from './helpers/packages.ts';
import { randomSource } from './helpers/pictures.ts';

const augment = [T.randomCrop(8, { padding: 2 }), T.randomHorizontalFlip(), T.normalize([0.5, 0.4, 0.3], 0.25)];
const source = randomSource(37);
const loaderOf = (o: Partial<ImageLoaderOptions> = {}, from: PictureSource = source) =>
  new ImageLoader(from, { batchSize: 5, shuffle: true, rng: new Generator(7), transforms: augment, ...o });

/** A batch as text. */
const bits = ([images, labels]: ImageBatch): string =>
  `${images.shape} ${Buffer.from(new Uint8Array(Float32Array.from(images.dataSync()).buffer)).toString('base64')} ${labels.dataSync()}`;
const epochNow = (loader: ImageLoader): string[] => Array.from(loader, bits);
async function epochLater(loader: ImageLoader): Promise<string[]> {
  const batches: string[] = [];
  for await (const batch of loader) batches.push(bits(batch));
  return batches;
}
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

law(t, 'what becomes of a picture depends on seed, epoch and picture, not on batch size or order', () => {
  const one = (o: Partial<ImageLoaderOptions>) => {
    const loader = loaderOf(o);
    const epoch = () =>
      new Map(
        [...loader].flatMap(([x, y]) => Array.from(y.dataSync(), (label, i) => [label, String(x.slice(i).toArray())])),
      );
    return [epoch(), epoch()] as const;
  };
  const distinct = { indices: range(10) };
  const [first, second] = one({ ...distinct, batchSize: 3 });
  assert.equal(first.size, 10);
  for (const label of range(10)) assert.notEqual(first.get(label), second.get(label), 'epochs differ');
  const [other] = one({ ...distinct, batchSize: 10 });
  assert.deepEqual(other, first);
  // Without shuffle no order is drawn; the key of the first epoch is the same.
  assert.deepEqual(new Map([...one({ ...distinct, shuffle: false })[0]].sort()), new Map([...first].sort()));
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

/** Files of PNG, of these sizes; `broken` ends in the middle. */
async function files(t: { testdir(): string }, sizes: readonly (readonly [number, number])[], broken = -1) {
  const folder = t.testdir();
  const paths = sizes.map(([height, width], i) => {
    const path = join(folder, `${i}.png`);
    const file = encode({ width, height, channels: 1, depth: 8, data: new Uint8Array(width * height).fill(i) });
    writeFileSync(path, i === broken ? file.subarray(0, file.length - 20) : file);
    return path;
  });
  const labels = Int32Array.from(sizes, () => 0);
  return openSource({ kind: 'files', paths, labels, classes: ['only'], channels: 1 });
}

law(
  t,
  'an error in the third batch surfaces at the third batch, names the file, and leaves the loader fit to go on',
  async t => {
    const from = await files(t, Array<[number, number]>(8).fill([4, 4]), 5);
    for (const workers of [0, 1]) {
      const loader = new ImageLoader(from, { batchSize: 2, workers, prefetch: 3 });
      const unhandled: unknown[] = [];
      const listen = (error: unknown) => void unhandled.push(error);
      process.on('unhandledRejection', listen);
      for (const later of [false, true]) {
        let seen = 0;
        const all = async () => {
          if (later) for await (const _ of loader) seen++;
          else for (const _ of loader) seen++;
        };
        await assert.rejects(all, { name: 'FormatError', message: /\/5\.png: not a whole PNG/ });
        assert.equal(seen, 2);
        seen = 0;
        for await (const _ of loader) if (++seen === 2) break;
      }
      process.off('unhandledRejection', listen);
      assert.deepEqual(unhandled, []);
      loader.close();
    }
  },
);

law(
  t,
  'pictures of different sizes in a batch are an error that names two; of one size each batch may have its own',
  async t => {
    const from = await files(t, [
      [4, 4],
      [4, 4],
      [6, 5],
      [6, 5],
      [4, 4],
      [4, 5],
    ]);
    for (const workers of [0, 1]) {
      const loader = new ImageLoader(from, { batchSize: 2, workers });
      const shapes: (readonly number[])[] = [];
      assert.throws(
        () => {
          for (const [images] of loader) shapes.push(images.shape);
        },
        {
          name: 'ShapeError',
          message: /^ImageLoader: .*\[1,4,4\] of .*4\.png and \[1,4,5\] of .*5\.png; transforms\.resize/,
        },
      );
      assert.deepEqual(shapes, [
        [2, 1, 4, 4],
        [2, 1, 6, 5],
      ]);
      const sized = new ImageLoader(from, { batchSize: 6, transforms: [T.resize([3, 3])] });
      assert.deepEqual(
        [...sized].map(([images]) => images.shape),
        [[6, 1, 3, 3]],
      );
      loader.close();
    }
  },
);

/** The workers that are started while `during` runs. */
async function workersOf(during: () => unknown): Promise<Worker[]> {
  const { unref } = Worker.prototype;
  const workers = new Set<Worker>();
  Worker.prototype.unref = function (this: Worker) {
    workers.add(this);
    return unref.call(this);
  };
  try {
    await during();
  } finally {
    Worker.prototype.unref = unref;
  }
  return [...workers];
}

law(t, 'a thread that dies while it reads is an error that names the picture', async () => {
  // Batches that take a while: the thread is at one of those ahead when the first has come.
  const o = { batchSize: 10, workers: 1, prefetch: 5, transforms: [T.resize([600, 600])] };
  const loader = new ImageLoader(randomSource(60, [1, 8, 8]), o);
  const batches = loader[Symbol.asyncIterator]();
  const [worker] = await workersOf(() => batches.next());
  void worker!.terminate();
  const rest = async () => {
    for await (const _ of batches);
  };
  await assert.rejects(rest, {
    message:
      /^ImageLoader: a worker thread stopped \(exit code 1\) while it read picture \d+; workers: 0 reads in this/,
  });
  loader.close();
});

law(t, 'a thread that dies with nothing to do is an error of the batch that would be next for it', async () => {
  const loader = loaderOf({ workers: 1, prefetch: 0 });
  const batches = loader[Symbol.asyncIterator]();
  const [worker] = await workersOf(() => batches.next());
  await worker!.terminate();
  await new Promise(resolve => setTimeout(resolve, 5));
  await assert.rejects(batches.next(), {
    message: /^ImageLoader: a worker thread stopped \(exit code 1\); workers: 0/,
  });
  assert.equal(epochNow(loader).length, loader.length);
  loader.close();
});

law(
  t,
  'a thread that dies is an error of its batch, by for await and by for…of; the next loop has a new thread',
  async () => {
    const loader = loaderOf({ workers: 1, prefetch: 2 });
    const batches = loader[Symbol.asyncIterator]();
    const [worker] = await workersOf(() => batches.next());
    void worker!.terminate();
    const rest = async () => {
      for await (const _ of batches);
    };
    await assert.rejects(rest, {
      message: /^ImageLoader: a worker thread stopped \(exit code 1\).*; workers: 0 reads in this thread$/,
    });

    const again = loader[Symbol.iterator]();
    again.next();
    const { postMessage } = MessagePort.prototype;
    MessagePort.prototype.postMessage = function (this: MessagePort) {
      // Nothing that a thread understands.
      postMessage.call(this, null);
    };
    const after = () => {
      for (const _ of again);
    };
    try {
      assert.throws(after, { message: /^ImageLoader: a worker thread stopped/ });
    } finally {
      MessagePort.prototype.postMessage = postMessage;
    }
    assert.equal(epochNow(loader).length, loader.length);
    loader.close();
  },
);

law(t, 'two loops over one loader with threads do not disturb each other', async () => {
  const loader = loaderOf({ workers: 1 });
  const plain = loaderOf();
  const expected = [epochNow(plain), epochNow(plain)];
  const loops = [loader[Symbol.iterator](), loader[Symbol.asyncIterator]()] as const;
  const seen: string[][] = [[], []];
  for (let i = 0; i < loader.length; i++) {
    seen[0]!.push(bits(loops[0].next().value));
    seen[1]!.push(bits((await loops[1].next()).value));
  }
  assert.deepEqual(seen, expected);
  loader.close();
});

law(t, 'a closed loader reads no more, and says so where a loop goes on', async () => {
  for (const workers of [0, 1]) {
    const loader = loaderOf({ workers });
    const batches = loader[Symbol.asyncIterator]();
    await batches.next();
    const waiting = workers === 0 ? null : loader[Symbol.asyncIterator]().next();
    loader.close();
    loader.close();
    const closed = { message: 'ImageLoader: the loader is closed' };
    if (waiting !== null) await assert.rejects(waiting, closed);
    await assert.rejects(batches.next(), closed);
    assert.throws(() => [...loader], closed);
  }
});

law(t, 'threads of a loader that is garbage end', async () => {
  setFlagsFromString('--expose-gc');
  const gc: () => void = runInNewContext('gc');
  const [worker] = await workersOf(async () => {
    for await (const _ of loaderOf({ workers: 1 })) break;
  });
  const ended = new Promise(resolve => worker!.once('exit', resolve));
  const timer = setInterval(gc, 20);
  await ended;
  clearInterval(timer);
});

const PROGRAM = (body: string) => `
import { ImageLoader, picturesInMemory } from '@otimes/data';
const pixels = new Uint8Array(new SharedArrayBuffer(64 * 48));
const source = picturesInMemory({ pixels, channels: 3, height: 4, width: 4, labels: new Int32Array(64), classes: ['a'] });
const loader = new ImageLoader(source, { batchSize: 4, workers: 1 });
${body}
console.log('end');
`;

law(t, 'a program ends though it left loops early, waits for none, and closed nothing', async () => {
  const program = PROGRAM(`
for (const _ of loader) break;
for await (const _ of loader) break;
const open = loader[Symbol.asyncIterator]();
await open.next();
`);
  const sources = ['--conditions=@otimes/source', '--import', 'tsx', '--input-type=module', '-e', program];
  assert.equal(await run(process.execPath, sources, root), 'end');
});

law(t, 'in a bundle, which leaves out the file of the threads, a loader with threads says so', async t => {
  const outfile = join(t.testdir(), 'bundle.mjs');
  const contents = PROGRAM('');
  const stdin = { contents, resolveDir: join(root, 'test') };
  const o = { bundle: true, platform: 'node', format: 'esm', conditions: ['@otimes/source'] } satisfies BuildOptions;
  await build({ stdin, outfile, logLevel: 'silent', ...o });
  await assert.rejects(run(process.execPath, [outfile], root), {
    message: /workers: 1 cannot be, the file of its threads is not at .*; workers: 0 works/,
  });
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
