/** CIFAR and IDX files that are missing, damaged or of another version: what errors say, and that nothing is half read. */

import assert from 'node:assert/strict';
import { appendFileSync, mkdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseCifar10, parseCifar100 } from '@otimes/data';
import { cifar10, cifar100, idxPictures, openSource } from '@otimes/data/node';
import t from 'tap';
import { damaged, dangling, edit, emptied, line, loop, rewrite } from './helpers/damaged-sets.ts';
import { writeSyntheticCifar10, writeSyntheticCifar100, writeSyntheticMnist } from './helpers/image-sets.ts';
import { law } from './helpers/law.ts';

// --- CIFAR ---

damaged(t, 'CIFAR-10', folder => writeSyntheticCifar10(folder, { train: 10, test: 3 }), cifar10, [
  [
    'a batch missing',
    f => rmSync(`${f}/data_batch_3.bin`),
    /^cifar10: there is no data_batch_3\.bin in ~\. Expected\n {2}~\n/,
  ],
  ['a batch that is a folder', f => emptied(`${f}/data_batch_3.bin`), /data_batch_3\.bin is no file/],
  [
    'a batch that cannot be read',
    f => loop(`${f}/data_batch_2.bin`),
    /^cifar10: ~\/data_batch_2\.bin cannot be read: ELOOP/,
  ],
  [
    'a batch that is a link to nothing',
    f => dangling(`${f}/data_batch_3.bin`),
    /^cifar10: ~\/data_batch_3\.bin is a link to nothing$/,
  ],
  [
    'class names behind a link to nothing',
    f => dangling(`${f}/batches.meta.txt`),
    /^cifar10: ~\/batches\.meta\.txt is a link to nothing$/,
  ],
  [
    "the archive's folder behind a link to nothing",
    f => dangling(`${f}/cifar-10-batches-bin`),
    /^cifar10: ~\/cifar-10-batches-bin is a link to nothing$/,
  ],
  [
    'an empty batch',
    f => truncateSync(`${f}/data_batch_1.bin`, 0),
    /^cifar10: ~\/data_batch_1\.bin is empty, expected records of 3073 bytes/,
  ],
  [
    'a record cut off',
    f => truncateSync(`${f}/data_batch_5.bin`, 6000),
    /data_batch_5\.bin to be records of 3073 bytes, got 6000 bytes, which is 1 records and 2927 bytes more: it is truncated/,
  ],
  [
    'a byte too many',
    f => appendFileSync(`${f}/data_batch_5.bin`, 'x'),
    /got 6147 bytes, which is 2 records and 1 bytes more/,
  ],
  [
    'a label out of range',
    f => edit(`${f}/data_batch_4.bin`, 3073, 10),
    /^cifar10: ~\/data_batch_4\.bin: record 1 has the label 10 at byte 3073, expected 0 … 9$/,
  ],
  [
    'the Python version',
    f => ['data_batch_1', 'data_batch_2'].map(name => renameSync(`${f}/${name}.bin`, `${f}/${name}`)),
    /there is no data_batch_1\.bin in ~; data_batch_1 belongs to the Python version \(pickle\) of the set, and the binary version is needed\. Expected/,
  ],
  [
    "the Python version's folder",
    f => [emptied(f), mkdirSync(`${f}/cifar-10-batches-py`)],
    /cifar-10-batches-py belongs to the Python version/,
  ],
  [
    'the Matlab version',
    f => renameSync(`${f}/data_batch_1.bin`, `${f}/data_batch_1.mat`),
    /data_batch_1\.mat belongs to the Matlab version/,
  ],
  [
    'the archive beside nothing',
    f => [rmSync(`${f}/data_batch_1.bin`), writeFileSync(`${f}/cifar-10-binary.tar.gz`, '')],
    /unpack the archive there: tar -xzf cifar-10-binary\.tar\.gz\. Expected/,
  ],
  [
    'nine class names',
    f => rewrite(`${f}/batches.meta.txt`, text => text.replace('airplane\n', '')),
    /~\/batches\.meta\.txt to have 10 class names, a line each, got 9/,
  ],
  [
    'an empty class name',
    f => rewrite(`${f}/batches.meta.txt`, line(2, ' ')),
    /batches\.meta\.txt: line 2 has no class name/,
  ],
  [
    'a class name twice',
    f => rewrite(`${f}/batches.meta.txt`, line(3, 'airplane')),
    /batches\.meta\.txt: lines 1 and 3 are both airplane/,
  ],
]);

law(t, 'a folder that is not there: how it should look, what is found, and where the archive lies', t => {
  const folder = t.testdir();
  assert.throws(() => cifar10(join(folder, 'none')), {
    message: `cifar10: there is no data_batch_1.bin in ${folder}/none. Expected
  ${folder}/none
    data_batch_1.bin … data_batch_5.bin  training, 10,000 records of 3,073 bytes each
    test_batch.bin                       test, 10,000 records of 3,073 bytes each
    batches.meta.txt                     the class names; may be missing
Found no such folder.
Nothing is downloaded: the CIFAR page of Alex Krizhevsky, University of Toronto, has the archive cifar-10-binary.tar.gz, \
https://www.cs.toronto.edu/~kriz/cifar.html.`,
  });
  assert.throws(() => cifar100(folder), {
    message: /Found an empty folder\.\nNothing .* cifar-100-binary\.tar\.gz, https/,
  });
  for (let i = 0; i < 10; i++) writeFileSync(join(folder, `x${i}`), '');
  assert.throws(() => cifar100(folder), { message: /Found there: x0, x1, x2, x3, x4, x5, x6, x7 and 2 more\.\n/ });
  assert.throws(() => cifar100(join(folder, 'x0')), { message: /Found a file there \(0 bytes\)\.\n/ });
});

damaged(t, 'CIFAR-100', folder => writeSyntheticCifar100(folder, { train: 5, test: 3, names: true }), cifar100, [
  [
    'no training file',
    f => rmSync(`${f}/train.bin`),
    /^cifar100: there is no train\.bin in ~\. Expected\n {2}~\n {4}train\.bin/,
  ],
  [
    'a coarse label out of range',
    f => edit(`${f}/train.bin`, 2 * 3074, 20),
    /train\.bin: record 2 has the coarse label 20 at byte 6148, expected 0 … 19/,
  ],
  [
    'a fine label out of range',
    f => edit(`${f}/train.bin`, 3074 + 1, 100),
    /train\.bin: record 1 has the fine label 100 at byte 3075, expected 0 … 99/,
  ],
  [
    "CIFAR-10's records",
    f => writeFileSync(`${f}/train.bin`, new Uint8Array(3073 * 2)),
    /records of 3074 bytes, got 6146 bytes/,
  ],
  [
    'the Python version',
    f => [renameSync(`${f}/train.bin`, `${f}/train`), rmSync(`${f}/test.bin`)],
    /train belongs to the Python version/,
  ],
  [
    'names of 99 classes',
    f => rewrite(`${f}/fine_label_names.txt`, text => text.replace('fine_3\n', '')),
    /fine_label_names\.txt to have 100 class names, a line each, got 99/,
  ],
]);

law(t, 'a damaged file of a split that is not asked for, or behind the limit, is not looked at', t => {
  const folder = t.testdir();
  const { test } = writeSyntheticCifar10(folder, { train: 10, test: 3 });
  rmSync(join(folder, 'data_batch_1.bin'));
  assert.deepEqual([...cifar10(folder, { split: 'test' }).labels], test.labels);
  writeSyntheticCifar10(folder, { train: 10, test: 3 });
  edit(join(folder, 'data_batch_2.bin'), 3073, 200);
  assert.equal(cifar10(folder, { limit: 3 }).length, 3);
  assert.throws(() => cifar10(folder, { limit: 4 }), { message: /record 1 has the label 200 at byte 3073/ });
});

law(t, 'parsing tells the file that it is given, the record and the byte', () => {
  const bytes = new Uint8Array(3 * 3073);
  bytes[2 * 3073] = 255;
  assert.throws(() => parseCifar10(bytes, { file: 'b.bin' }), {
    name: 'FormatError',
    message: 'parseCifar10: b.bin: record 2 has the label 255 at byte 6146, expected 0 … 9',
  });
  assert.throws(() => parseCifar10(bytes.subarray(1)), {
    name: 'FormatError',
    message: /^parseCifar10: expected the file to be/,
  });
  assert.throws(() => parseCifar100(new Uint8Array(0)), { name: 'FormatError', message: /the file is empty/ });
  assert.throws(() => parseCifar10(bytes, { classes: ['a'] }), {
    name: 'RangeError',
    message: /names of 10 classes, got 1/,
  });
  assert.throws(() => parseCifar100(bytes, { labels: 'both' as 'fine' }), {
    name: 'RangeError',
    message: /'fine' or 'coarse'/,
  });
});

// --- IDX and recipes ---

const images = 'train-images-idx3-ubyte';
const labels = 'train-labels-idx1-ubyte';
damaged(
  t,
  'IDX',
  f => writeSyntheticMnist(f, { train: 4 }),
  f => idxPictures(join(f, images), join(f, labels)),
  [
    ['images missing', f => rmSync(join(f, images)), /^idxPictures: ~\/train-images-idx3-ubyte cannot be read: ENOENT/],
    [
      'images truncated',
      f => truncateSync(join(f, images), 3000),
      /^~\/train-images-idx3-ubyte: parseIdx: uint8\[4,28,28\] takes 3136 bytes, the file has 2984: it is truncated/,
    ],
    [
      'labels in the place of images',
      f => writeFileSync(join(f, images), readFileSync(join(f, labels))),
      /~\/train-images-idx3-ubyte: idxPictures: expected uint8\[n,h,w\] or \[n,c,h,w\] with c 1 or 3, got uint8\[4\]/,
    ],
    [
      'labels of another set',
      f => writeFileSync(join(f, labels), readFileSync(join(f, 't10k-labels-idx1-ubyte'))),
      /~\/train-labels-idx1-ubyte: idxPictures: expected the labels of 4 pictures, integers \[4\], got uint8\[20\]/,
    ],
  ],
);

law(t, 'a label without a class, and a recipe of other numbers of files and labels, are refused', async t => {
  const folder = t.testdir();
  writeSyntheticMnist(folder, { train: 4 });
  assert.throws(() => idxPictures(join(folder, images), join(folder, labels), { classes: ['a', 'b'] }), {
    name: 'FormatError',
    message: /train-labels-idx1-ubyte: label \d is [2-9], expected 0 … 1/,
  });
  const recipe = { kind: 'files', paths: ['/x.jpg'], labels: new Int32Array(2), classes: ['a'] } as const;
  await assert.rejects(openSource(recipe), { name: 'RangeError', message: /a label for each file, got 2 for 1/ });
  await assert.rejects(openSource({ ...recipe, labels: Int32Array.of(1) }), {
    name: 'RangeError',
    message: /label 0 is 1/,
  });
});
