/** CIFAR, Tiny ImageNet, image folders and IDX as sources: what is in the files comes out, in the order of the formats. */

import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads';
import { gzipSync } from 'node:zlib';
import { type PictureSource, parseCifar10, parseCifar100, picturesInMemory, type SourceRecipe } from '@otimes/data';
import {
  cifar10,
  cifar100,
  fashionMnist,
  idxPictures,
  imageFolder,
  openSource,
  pictureDecoder,
  tinyImageNet,
} from '@otimes/data/node';
import t from 'tap';
import {
  coarseOf,
  jpegEncoder,
  type Labelled,
  labelled,
  png,
  writeSyntheticCifar10,
  writeSyntheticCifar100,
  writeSyntheticImageFolder,
  writeSyntheticMnist,
  writeSyntheticTinyImageNet,
} from './helpers/image-sets.ts';
import { law } from './helpers/law.ts';

const all = (source: PictureSource) => Array.from({ length: source.length }, (_, i) => source.picture(i));

/** Throws unless the source has just these pictures. */
function has(source: PictureSource, { pixels, labels }: Labelled, shape: [number, number, number]): void {
  assert.equal(source.length, labels.length);
  assert.deepEqual([...source.labels], labels);
  for (const [i, picture] of all(source).entries()) {
    assert.deepEqual([picture.channels, picture.height, picture.width], shape);
    assert.deepEqual(Buffer.from(picture.data), Buffer.from(pixels[i]!), `picture ${i}`);
  }
}

/** Throws unless both have the same pictures, labels and classes. */
function same(a: PictureSource, b: PictureSource): void {
  assert.deepEqual([a.length, [...a.labels], a.classes], [b.length, [...b.labels], b.classes]);
  for (let i = 0; i < a.length; i++) assert.deepEqual(a.picture(i), b.picture(i));
}

const first = ({ pixels, labels }: Labelled, n: number) => ({ pixels: pixels.slice(0, n), labels: labels.slice(0, n) });

// --- CIFAR ---

law(t, "CIFAR-10's pictures come from its five files in order, and those of the test from its one", t => {
  const folder = t.testdir();
  const { train, test } = writeSyntheticCifar10(folder, { train: 23, test: 7 });
  has(cifar10(folder), train, [3, 32, 32]);
  has(cifar10(folder, { split: 'test' }), test, [3, 32, 32]);
  for (const limit of [1, 4, 5, 6, 22, 23, 24]) has(cifar10(folder, { limit }), first(train, limit), [3, 32, 32]);
  assert.deepEqual(cifar10(folder).classes.slice(0, 3), ['airplane', 'automobile', 'bird']);
});

law(t, 'a CIFAR set may lie in the folder that its archive unpacks to', t => {
  const folder = t.testdir();
  const { train } = writeSyntheticCifar10(join(folder, 'cifar-10-batches-bin'), { train: 5, test: 1 });
  has(cifar10(folder), train, [3, 32, 32]);
  const hundred = writeSyntheticCifar100(join(folder, 'cifar-100-binary'), { train: 5, test: 3 });
  has(cifar100(folder, { split: 'test' }), hundred.test, [3, 32, 32]);
});

law(t, 'class names are those of the file, and without one the ten and the hundred of the sets', t => {
  const folder = t.testdir();
  writeSyntheticCifar10(folder, { train: 5, test: 1 });
  const standard = cifar10(folder).classes;
  rmSync(join(folder, 'batches.meta.txt'));
  assert.deepEqual(cifar10(folder).classes, standard);
  writeFileSync(join(folder, 'batches.meta.txt'), standard.map(name => `my ${name}\r\n`).join(''));
  assert.deepEqual(
    cifar10(folder).classes,
    standard.map(name => `my ${name}`),
  );
  writeSyntheticCifar100(folder, { train: 1, test: 1 });
  const [fine, coarse] = [cifar100(folder).classes, cifar100(folder, { labels: 'coarse' }).classes];
  assert.deepEqual([fine.length, new Set(fine).size, fine[0], fine[99]], [100, 100, 'apple', 'worm']);
  assert.deepEqual([coarse.length, coarse[0], coarse[19]], [20, 'aquatic_mammals', 'vehicles_2']);
  // Both lists are sorted, as the set's are.
  for (const names of [fine, coarse]) assert.deepEqual([...names].sort(), names);
  writeSyntheticCifar100(folder, { train: 1, test: 1, names: true });
  assert.equal(cifar100(folder).classes[7], 'fine_7');
  assert.equal(cifar100(folder, { labels: 'coarse' }).classes[7], 'coarse_7');
});

law(t, "CIFAR-100's coarse and fine labels are of the same pictures", t => {
  const folder = t.testdir();
  const { train } = writeSyntheticCifar100(folder, { train: 130 });
  has(cifar100(folder), train, [3, 32, 32]);
  has(cifar100(folder, { labels: 'coarse' }), { ...train, labels: train.labels.map(coarseOf) }, [3, 32, 32]);
});

law(t, 'parsing a file is reading it; files one after another have the pictures of one after those of the other', t => {
  const folder = t.testdir();
  const { train } = writeSyntheticCifar10(folder, { train: 10, test: 3 });
  const bytes = (name: string) => new Uint8Array(readFileSync(join(folder, name)));
  const batches = [1, 2, 3, 4, 5].map(i => bytes(`data_batch_${i}.bin`));
  has(parseCifar10(Uint8Array.from(batches.flatMap(batch => [...batch]))), train, [3, 32, 32]);
  same(parseCifar10(bytes('test_batch.bin')), cifar10(folder, { split: 'test' }));
  writeSyntheticCifar100(folder, { train: 4, test: 1 });
  for (const labels of ['fine', 'coarse'] as const)
    same(parseCifar100(bytes('train.bin'), { labels }), cifar100(folder, { labels }));
});

// --- IDX ---

law(t, 'idxPictures has the pixels and labels of fashionMnist, in bytes; plain and gzip files', t => {
  const folder = t.testdir();
  const { train } = writeSyntheticMnist(folder, { train: 12 });
  const paths = ['images-idx3-ubyte', 'labels-idx1-ubyte'].map(name => join(folder, `train-${name}`)) as [
    string,
    string,
  ];
  const source = idxPictures(...paths);
  has(source, train, [1, 28, 28]);
  const { images, labels } = fashionMnist(folder);
  assert.deepEqual([...labels.dataSync()], [...source.labels]);
  assert.deepEqual(
    [...images.dataSync()],
    all(source).flatMap(({ data }) => [...data].map(x => Math.fround(x / 255))),
  );
  assert.deepEqual(source.classes, ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']);
  has(idxPictures(...paths, { limit: 3 }), first(train, 3), [1, 28, 28]);
  assert.equal(idxPictures(...paths, { limit: 1 }).classes.length, 10);
  const zipped = paths.map(path => {
    writeFileSync(`${path}.gz`, gzipSync(readFileSync(path)));
    return `${path}.gz`;
  }) as [string, string];
  same(idxPictures(...zipped), source);
});

// --- Tiny ImageNet ---

law(
  t,
  "Tiny ImageNet's training pictures come class by class in the order of wnids.txt, each class sorted by name",
  async t => {
    const folder = t.testdir();
    const { wnids } = await writeSyntheticTinyImageNet(folder, { classes: 4, train: 3, size: 16 });
    const source = await tinyImageNet(folder);
    assert.notDeepEqual([...wnids].sort(), wnids);
    assert.deepEqual([...source.labels], [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]);
    assert.deepEqual(source.classes, ['class 0, thing 0', 'class 1, thing 1', 'class 2, thing 2', 'class 3, thing 3']);
    const decode = await pictureDecoder();
    for (const [i, picture] of all(source).entries()) {
      const name = `${wnids[Math.floor(i / 3)]}_${i % 3}.JPEG`;
      const path = join(folder, 'train', wnids[Math.floor(i / 3)]!, 'images', name);
      assert.deepEqual(picture, decode(readFileSync(path)));
      assert.deepEqual([picture.channels, picture.height, picture.width], [3, 16, 16]);
    }
  },
);

law(
  t,
  'of the training set a limit takes the first of each class, then the second, so that few have many classes',
  async t => {
    const folder = t.testdir();
    await writeSyntheticTinyImageNet(folder, { classes: 3, train: 2, size: 8 });
    const source = await tinyImageNet(folder);
    for (const limit of [1, 3, 4, 6, 7]) {
      const few = await tinyImageNet(folder, { limit });
      const turn = [0, 2, 4, 1, 3, 5].slice(0, limit);
      assert.deepEqual(
        [...few.labels],
        turn.map(i => source.labels[i]),
      );
      assert.deepEqual(
        all(few),
        turn.map(i => source.picture(i)),
      );
    }
  },
);

law(t, 'pictures for validation come in the order of their annotations; grey ones have three equal planes', async t => {
  const folder = t.testdir();
  const { labels } = await writeSyntheticTinyImageNet(join(folder, 'tiny-imagenet-200'), { test: 12, size: 16 });
  const source = await tinyImageNet(folder, { split: 'val' });
  assert.deepEqual([...source.labels], labels);
  const grey = all(source).map(({ data }) =>
    data.subarray(0, 256).every((v, i) => v === data[256 + i] && v === data[512 + i]),
  );
  assert.deepEqual(
    grey,
    labels.map((_, i) => i % 5 === 4),
  );
  assert.deepEqual([...(await tinyImageNet(folder, { split: 'val', limit: 2 })).labels], labels.slice(0, 2));
});

// --- image folders ---

law(
  t,
  'classes are the sub-folders sorted by name, pictures are sorted within them, and then those of inner folders',
  async t => {
    const folder = t.testdir();
    const one = png(new Uint8Array(1), { channels: 1, size: 1 });
    const files = ['b/2.png', 'b/10.PNG', 'b/1.jpeg', 'b/z/0.png', 'b/a/1.png', 'A/x.JPG', 'a/x.png'];
    const others = ['b/notes.txt', 'b/.hidden.png', '.git/x.png', 'top.png', 'README.md'];
    for (const file of [...files, ...others]) {
      mkdirSync(join(folder, file, '..'), { recursive: true });
      writeFileSync(join(folder, file), one);
    }
    const source = await imageFolder(folder);
    assert.deepEqual(source.classes, ['A', 'a', 'b']);
    assert.deepEqual([...source.labels], [0, 1, 2, 2, 2, 2, 2]);
    const sorted = ['A/x.JPG', 'a/x.png', 'b/1.jpeg', 'b/10.PNG', 'b/2.png', 'b/a/1.png', 'b/z/0.png'];
    assert.ok(source.recipe.kind === 'files');
    assert.deepEqual(
      source.recipe.paths,
      sorted.map(path => join(folder, path)),
    );
    renameSync(join(folder, 'A/x.JPG'), join(folder, 'A/x.png'));
    const few = await imageFolder(folder, { extensions: ['.PNG'] });
    assert.deepEqual([...few.labels], [0, 1, 2, 2, 2, 2]);
  },
);

law(
  t,
  'a folder of JPEGs has the pictures of a folder of PNGs within what JPEG rounds; links are followed',
  async t => {
    const folder = t.testdir();
    await writeSyntheticImageFolder(join(folder, 'jpg'), { size: 16, noise: 0 });
    await writeSyntheticImageFolder(join(folder, 'png'), { size: 16, noise: 0, format: 'png' });
    symlinkSync(join(folder, 'png/owl/owl_0.png'), join(folder, 'png/owl/owl_9.png'));
    symlinkSync(join(folder, 'png/owl'), join(folder, 'png/bird'));
    const [jpegs, pngs] = [await imageFolder(join(folder, 'jpg')), await imageFolder(join(folder, 'png'))];
    assert.deepEqual(pngs.classes, ['bird', 'cat', 'dog', 'owl']);
    assert.deepEqual(
      [...pngs.labels].map(label => pngs.classes[label]!),
      [...Array(5).fill('bird'), ...[...jpegs.labels].map(label => jpegs.classes[label]!), 'owl'],
    );
    for (let i = 0; i < jpegs.length; i++) {
      const [a, b] = [jpegs.picture(i).data, pngs.picture(5 + i).data];
      const difference = a.reduce((sum, value, k) => sum + Math.abs(value - b[k]!), 0) / a.length;
      assert.ok(difference < 12, `picture ${i}: ${difference}`);
    }
    assert.deepEqual(pngs.picture(4), pngs.picture(0));
    const grey = await imageFolder(join(folder, 'png'), { channels: 1 });
    assert.deepEqual([grey.picture(0).channels, grey.picture(0).data.length], [1, 256]);
  },
);

// --- sources ---

law(
  t,
  'the recipe of a source, sent to another thread, makes the same source; pixels in memory are shared',
  async t => {
    const folder = t.testdir();
    writeSyntheticCifar10(join(folder, 'ten'), { train: 6, test: 1 });
    await writeSyntheticImageFolder(join(folder, 'folder'), { size: 8, train: 2 });
    writeSyntheticMnist(join(folder, 'mnist'), { train: 3 });
    const sources = [
      cifar10(join(folder, 'ten')),
      await imageFolder(join(folder, 'folder'), { channels: 1 }),
      idxPictures(join(folder, 'mnist/train-images-idx3-ubyte'), join(folder, 'mnist/train-labels-idx1-ubyte')),
    ];
    for (const source of sources) {
      const { port1, port2 } = new MessageChannel();
      port1.postMessage(source.recipe);
      const recipe = receiveMessageOnPort(port2)!.message as SourceRecipe;
      port1.close();
      same(await openSource(recipe), source);
      if (recipe.kind !== 'bytes' || source.recipe.kind !== 'bytes') continue;
      assert.ok(recipe.pixels.buffer instanceof SharedArrayBuffer);
      source.recipe.pixels[5] = 99;
      assert.equal(recipe.pixels[5], 99);
    }
  },
);

law(t, 'pictures in memory are views of the pixels given; a source prints as one line', () => {
  const pixels = Uint8Array.from({ length: 12 }, (_, i) => i);
  const o = { pixels, channels: 1, height: 2, width: 3, labels: Int32Array.of(1, 0), classes: ['a', 'b'] } as const;
  const source = picturesInMemory(o);
  assert.equal(source.picture(1).data.buffer, pixels.buffer);
  assert.deepEqual([...source.picture(1).data], [6, 7, 8, 9, 10, 11]);
  assert.equal(JSON.stringify({ source }), '{"source":"PictureSource(2 pictures [1,2,3], 2 classes)"}');
  for (const index of [-1, 2, 0.5, Number.NaN])
    assert.throws(() => source.picture(index), {
      name: 'RangeError',
      message: /index .* is out of range for 2 pictures/,
    });
  assert.throws(() => picturesInMemory({ ...o, height: 3 }), {
    name: 'ShapeError',
    message: /\[2,1,3,3\], 18 bytes, got 12/,
  });
  assert.throws(() => picturesInMemory({ ...o, classes: ['a'] }), { name: 'RangeError', message: /label 0 is 1/ });
});

law(t, 'pictures in files are read when they are asked for: what stands in the file then', async t => {
  const folder = t.testdir();
  await writeSyntheticImageFolder(folder, { size: 8, train: 2 });
  const source = await imageFolder(folder);
  const before = source.picture(0);
  copyFileSync(join(folder, 'owl/owl_0.jpg'), join(folder, 'cat/cat_0.jpg'));
  assert.notDeepEqual(source.picture(0), before);
  assert.deepEqual(source.picture(0), source.picture(4));
  const encode = await jpegEncoder();
  writeFileSync(join(folder, 'cat/cat_0.jpg'), encode(new Uint8Array(25), { channels: 1, size: 5 }));
  assert.deepEqual([source.picture(0).channels, source.picture(0).height, source.picture(0).width], [3, 5, 5]);
});

law(t, 'the synthetic classes are learnable: the nearest mean of a class tells at least 9 of 10 new pictures', () => {
  for (const [classes, channels] of [
    [10, 3],
    [10, 1],
  ] as const) {
    const [train, test] = [labelled(60, classes, channels, 16, 0), labelled(60, classes, channels, 16, 1)];
    const means = Array.from({ length: classes }, (_, label) => {
      const own = train.pixels.filter((_, i) => train.labels[i] === label);
      return own[0]!.map((_, k) => own.reduce((sum, one) => sum + one[k]!, 0) / own.length);
    });
    const distance = (a: Uint8Array, b: Uint8Array) => a.reduce((sum, value, k) => sum + (value - b[k]!) ** 2, 0);
    const right = test.pixels.filter((one, i) => {
      const distances = means.map(mean => distance(one, mean));
      return distances.indexOf(Math.min(...distances)) === test.labels[i];
    });
    assert.ok(right.length >= 54, `${right.length} of 60 with ${channels} channels`);
  }
});
