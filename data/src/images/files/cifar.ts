/** CIFAR-10 and CIFAR-100 from the folders of their binary versions. */

import { closeSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { FormatError } from '@otimes/core';
import { aCount, aString, checkArgument, checkOptions, type OptionKinds, oneOf } from '@otimes/core/extend';
import { CIFAR10, CIFAR100, type CifarFormat, PIXELS, recordBytes, recordsIn, unpack } from '../cifar.ts';
import { type PictureSource, picturesInMemory, sharedBytes } from '../source.ts';
import { entriesOf, isFolder, type Layout, layoutError, linesOf, messageOf, statOf } from './layout.ts';

export type Cifar10FolderOptions = {
  /** 50,000 pictures for training or 10,000 for the test; defaults to 'train'. */
  split?: 'train' | 'test';
  /** No more than so many pictures, the first ones; defaults to all. */
  limit?: number;
};

export type Cifar100FolderOptions = Cifar10FolderOptions & {
  /** The 100 classes or the 20 superclasses; defaults to 'fine'. */
  labels?: 'fine' | 'coarse';
};

/** What a set has in its folder. */
type CifarSet = {
  readonly layout: Layout;
  /** The folder that the official archive unpacks to. */
  readonly unpacked: string;
  readonly files: Readonly<Record<'train' | 'test', readonly string[]>>;
  /** Names of files and folders → the version of the set that they belong to, which is not the binary one. */
  readonly others: Readonly<Record<string, string>>;
  readonly archive: string;
};

const PAGE = 'the CIFAR page of Alex Krizhevsky, University of Toronto, has the archive';
const URL = 'https://www.cs.toronto.edu/~kriz/cifar.html';
const PYTHON = 'the Python version (pickle)';
const MATLAB = 'the Matlab version';
const meaning = '10,000 records of 3,073 bytes each';

const SET10: CifarSet = {
  layout: {
    what: 'cifar10',
    tree: [
      ['data_batch_1.bin … data_batch_5.bin', `training, ${meaning}`],
      ['test_batch.bin', `test, ${meaning}`],
      ['batches.meta.txt', 'the class names; may be missing'],
    ],
    archive: `${PAGE} cifar-10-binary.tar.gz, ${URL}`,
  },
  unpacked: 'cifar-10-batches-bin',
  files: {
    train: [1, 2, 3, 4, 5].map(i => `data_batch_${i}.bin`),
    test: ['test_batch.bin'],
  },
  others: {
    ...{ data_batch_1: PYTHON, test_batch: PYTHON, 'batches.meta': PYTHON, 'cifar-10-batches-py': PYTHON },
    ...{ 'data_batch_1.mat': MATLAB, 'test_batch.mat': MATLAB, 'cifar-10-batches-mat': MATLAB },
  },
  archive: 'cifar-10-binary.tar.gz',
};

const SET100: CifarSet = {
  layout: {
    what: 'cifar100',
    tree: [
      ['train.bin', '50,000 records of 3,074 bytes'],
      ['test.bin', '10,000 records of 3,074 bytes'],
      ['fine_label_names.txt', 'the names of 100 classes; may be missing'],
      ['coarse_label_names.txt', 'the names of 20 superclasses; may be missing'],
    ],
    archive: `${PAGE} cifar-100-binary.tar.gz, ${URL}`,
  },
  unpacked: 'cifar-100-binary',
  files: { train: ['train.bin'], test: ['test.bin'] },
  others: {
    ...{ train: PYTHON, test: PYTHON, meta: PYTHON, 'cifar-100-python': PYTHON },
    ...{ 'train.mat': MATLAB, 'test.mat': MATLAB, 'cifar-100-matlab': MATLAB },
  },
  archive: 'cifar-100-binary.tar.gz',
};

const KINDS: OptionKinds<Cifar10FolderOptions> = { split: oneOf('train', 'test'), limit: aCount };

/**
 * CIFAR-10's pictures [3, 32, 32] in the order of their files, from a folder with the files of the binary version, or with the
 * folder cifar-10-batches-bin to which its archive unpacks. The pixels are read at once, into memory that threads share.
 *
 * @throws FormatError for a folder that looks otherwise, and for a file that is not whole records with labels 0 … 9
 */
export function cifar10(folder: string, o: Cifar10FolderOptions = {}): PictureSource {
  checkArgument('cifar10', 'folder', folder, aString);
  checkOptions('cifar10', o, KINDS);
  return read(SET10, folder, CIFAR10, 'batches.meta.txt', o);
}

/**
 * CIFAR-100's pictures [3, 32, 32] in the order of their files, from a folder with the files of the binary version, or with the
 * folder cifar-100-binary to which its archive unpacks. The pixels are read at once, into memory that threads share.
 *
 * @throws FormatError for a folder that looks otherwise, and for a file that is not whole records with labels in range
 */
export function cifar100(folder: string, o: Cifar100FolderOptions = {}): PictureSource {
  checkArgument('cifar100', 'folder', folder, aString);
  checkOptions('cifar100', o, { ...KINDS, labels: oneOf('fine', 'coarse') });
  const { labels = 'fine' } = o;
  return read(SET100, folder, CIFAR100[labels], `${labels}_label_names.txt`, o);
}

function read(
  set: CifarSet,
  folder: string,
  format: CifarFormat,
  namesFile: string,
  { split = 'train', limit = Infinity }: Cifar10FolderOptions,
): PictureSource {
  const { what } = set.layout;
  const inside = join(folder, set.unpacked);
  const home = isFolder(what, inside) ? inside : folder;
  const files = set.files[split].map(name => located(set, home, name));
  const counts = files.map(({ path, size }) => recordsIn(what, size, format, path));
  const classes = namesIn(what, join(home, namesFile), format);
  const total = Math.min(
    limit,
    counts.reduce((sum, count) => sum + count, 0),
  );
  const pixels = sharedBytes(total * PIXELS);
  const labels = new Int32Array(total);
  let at = 0;
  for (const [i, { path }] of files.entries()) {
    const count = Math.min(counts[i]!, total - at);
    if (count === 0) break;
    unpack(what, firstBytes(what, path, count * recordBytes(format)), format, path, pixels, labels, at);
    at += count;
  }
  return picturesInMemory({ pixels, channels: 3, height: 32, width: 32, labels, classes });
}

/** A file of the set and its size. */
function located(set: CifarSet, home: string, name: string): { path: string; size: number } {
  const { what } = set.layout;
  const path = join(home, name);
  const stats = statOf(what, path);
  if (stats?.isFile()) return { path, size: stats.size };
  const entries = entriesOf(what, home) ?? [];
  const other = entries.find(
    entry => Object.hasOwn(set.others, entry.name) && entry.isDirectory() === entry.name.startsWith('cifar-'),
  )?.name;
  const packed = entries.find(entry => entry.name === set.archive)?.name;
  const hint =
    other !== undefined
      ? `; ${other} belongs to ${set.others[other]} of the set, and the binary version is needed`
      : packed !== undefined
        ? `; unpack the archive there: tar -xzf ${packed}`
        : '';
  throw layoutError(
    set.layout,
    home,
    `${stats === null ? `there is no ${name} in ${home}` : `${path} is no file`}${hint}`,
  );
}

/** Class names from their file, one a line; the standard ones where there is none. */
function namesIn(what: string, path: string, format: CifarFormat): readonly string[] {
  if (statOf(what, path) === null) return format.classes;
  const names = linesOf(what, path).map(line => line.trim());
  const expected = format.counts[format.at]!;
  const empty = names.indexOf('');
  if (empty >= 0 && empty < expected) throw new FormatError(`${what}: ${path}: line ${empty + 1} has no class name`);
  if (names.length !== expected)
    throw new FormatError(
      `${what}: expected ${path} to have ${expected} class names, a line each, got ${names.length}`,
    );
  const twice = names.findIndex((name, i) => names.indexOf(name) < i);
  if (twice >= 0)
    throw new FormatError(
      `${what}: ${path}: lines ${names.indexOf(names[twice]!) + 1} and ${twice + 1} are both ${names[twice]}`,
    );
  return names;
}

/** The first `size` bytes of a file that had as many a moment ago. */
function firstBytes(what: string, path: string, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  let read = 0;
  try {
    const file = openSync(path, 'r');
    try {
      for (let got = -1; read < size && got !== 0; read += got) got = readSync(file, bytes, read, size - read, read);
    } finally {
      closeSync(file);
    }
  } catch (error) {
    throw new FormatError(`${what}: ${path} cannot be read: ${messageOf(error)}`, { cause: error });
  }
  if (read < size) throw new FormatError(`${what}: ${path} ended at byte ${read}, expected ${size}: it was changed`);
  return bytes;
}
