/** Tiny ImageNet (Stanford's course CS231n): pictures of 64 × 64 in 200 classes, JPEG files of which some are grey. */

import { join, resolve } from 'node:path';
import { FormatError } from '@otimes/core';
import { aCount, aString, checkArgument, checkOptions, type Kind, oneOf } from '@otimes/core/extend';
import type { PictureSource } from '../source.ts';
import { endsIn, sourceOfFiles } from './folder.ts';
import { entriesOf, isFolder, kindOf, type Layout, layoutError, linesOf, statOf } from './layout.ts';

export type TinyImageNetOptions = {
  /** 500 pictures a class for training, or 50 for validation; those of the test have no labels. Defaults to 'train'. */
  split?: 'train' | 'val';
  /**
   * No more than so many pictures; defaults to all. Of the training set the first of each class, then the second of each and so on,
   * so that few pictures have many classes; of the validation set the first ones.
   */
  limit?: number;
};

const WHAT = 'tinyImageNet';
const EXTENSIONS = ['.jpeg', '.jpg', '.png'];
const UNPACKED = 'tiny-imagenet-200';
const ARCHIVE = 'tiny-imagenet-200.zip';

const LAYOUT: Layout = {
  what: WHAT,
  tree: [
    ['wnids.txt', 'the classes, a WordNet id such as n01443537 a line: 200'],
    ['words.txt', 'their names: id, tab, name'],
    ['train/', ''],
    ['  n01443537/', 'a folder for each class'],
    ['    images/*.JPEG', ''],
    ['val/', ''],
    ['  images/*.JPEG', ''],
    ['  val_annotations.txt', 'file, tab, id, and four numbers of a box'],
  ],
  archive: `the CS231n course page has the archive, http://cs231n.stanford.edu/${ARCHIVE}`,
};

const aSplit: Kind = {
  ...oneOf('train', 'val'),
  hint: v => (v === 'test' ? 'the pictures of the test have no labels' : ''),
};

/** Files and their labels. */
type Listed = { path: string; label: number };

/**
 * Tiny ImageNet's pictures [3, 64, 64], from its folder or one with the folder tiny-imagenet-200 in it. Labels are the lines of
 * wnids.txt, classes their names in words.txt; grey files have three equal planes. Training pictures come class by class, each class
 * sorted by name; those for validation in the order of their annotations. They are decoded when asked for.
 *
 * @throws FormatError for a folder that looks otherwise, and where lists and files do not fit: it names file and line
 */
export async function tinyImageNet(folder: string, o: TinyImageNetOptions = {}): Promise<PictureSource> {
  checkArgument(WHAT, 'folder', folder, aString);
  checkOptions(WHAT, o, { split: aSplit, limit: aCount });
  const { split = 'train', limit = Infinity } = o;
  const inside = join(folder, UNPACKED);
  const home = resolve(isFolder(WHAT, inside) ? inside : folder);
  const wnids = wnidsIn(home);
  const classes = namesOf(home, wnids);
  const all = split === 'train' ? training(home, wnids, limit) : validation(home, wnids);
  const listed = all.slice(0, limit);
  return sourceOfFiles({
    paths: listed.map(({ path }) => path),
    labels: Int32Array.from(listed, ({ label }) => label),
    classes,
    channels: 3,
  });
}

/** A text file of the set. */
function lines(home: string, name: string): { path: string; lines: string[] } {
  const path = join(home, name);
  const stats = statOf(WHAT, path);
  if (!stats?.isFile()) {
    const packed = statOf(WHAT, join(home, ARCHIVE)) !== null ? `; unpack the archive there: unzip ${ARCHIVE}` : '';
    throw layoutError(
      LAYOUT,
      home,
      `${stats === null ? `there is no ${name} in ${home}` : `${path} is no file`}${packed}`,
    );
  }
  return { path, lines: linesOf(WHAT, path) };
}

/** WordNet id → label. */
function wnidsIn(home: string): Map<string, number> {
  const file = lines(home, 'wnids.txt');
  if (file.lines.length === 0) throw new FormatError(`${WHAT}: ${file.path} is empty, expected a WordNet id a line`);
  const wnids = new Map<string, number>();
  for (const [i, line] of file.lines.entries()) {
    const wnid = line.trim();
    if (!/^n\d{8}$/.test(wnid))
      throw new FormatError(
        `${WHAT}: ${file.path}: line ${i + 1} is '${shorter(line)}', expected an id such as n01443537`,
      );
    if (wnids.has(wnid))
      throw new FormatError(`${WHAT}: ${file.path}: lines ${wnids.get(wnid)! + 1} and ${i + 1} are both ${wnid}`);
    wnids.set(wnid, i);
  }
  return wnids;
}

/** Class names, by label. */
function namesOf(home: string, wnids: ReadonlyMap<string, number>): string[] {
  const file = lines(home, 'words.txt');
  const names = new Map<string, { name: string; line: number }>();
  for (const [i, line] of file.lines.entries()) {
    const [wnid = '', name = ''] = line.split('\t');
    if (!wnids.has(wnid)) continue;
    const before = names.get(wnid);
    if (before !== undefined)
      throw new FormatError(`${WHAT}: ${file.path}: lines ${before.line} and ${i + 1} both name ${wnid}`);
    if (name.trim() === '') throw new FormatError(`${WHAT}: ${file.path}: line ${i + 1} has no name for ${wnid}`);
    names.set(wnid, { name: name.trim(), line: i + 1 });
  }
  return [...wnids.keys()].map(wnid => {
    const found = names.get(wnid);
    if (found === undefined)
      throw new FormatError(`${WHAT}: ${file.path} has no name for ${wnid}, line ${wnids.get(wnid)! + 1} of wnids.txt`);
    return found.name;
  });
}

/** The names of the pictures in a folder, sorted; at least one. */
function picturesIn(home: string, folder: string): string[] {
  const entries = entriesOf(WHAT, folder);
  if (entries === null) throw layoutError(LAYOUT, home, `there is no folder ${folder}`);
  const named = entries.filter(({ name }) => !name.startsWith('.') && endsIn(name, EXTENSIONS));
  for (const entry of named)
    if (kindOf(WHAT, folder, entry) === 'folder')
      throw new FormatError(`${WHAT}: ${join(folder, entry.name)} is a folder, expected a picture by its name`);
  if (named.length === 0) throw layoutError(LAYOUT, home, `${folder} has no pictures`);
  return named.map(({ name }) => name);
}

function training(home: string, wnids: ReadonlyMap<string, number>, limit: number): Listed[] {
  const folder = join(home, 'train');
  for (const entry of entriesOf(WHAT, folder) ?? [])
    if (!wnids.has(entry.name) && !entry.name.startsWith('.') && kindOf(WHAT, folder, entry) === 'folder')
      throw new FormatError(`${WHAT}: ${join(folder, entry.name)} is a class that is not in wnids.txt`);
  const classes = [...wnids].map(([wnid, label]) => {
    const images = join(folder, wnid, 'images');
    return picturesIn(home, images).map(name => ({ path: join(images, name), label }));
  });
  if (limit === Infinity) return classes.flat();
  const most = Math.max(...classes.map(pictures => pictures.length));
  const inTurn: Listed[] = [];
  for (let i = 0; i < most && inTurn.length < limit; i++)
    for (const pictures of classes) if (i < pictures.length) inTurn.push(pictures[i]!);
  return inTurn;
}

function validation(home: string, wnids: ReadonlyMap<string, number>): Listed[] {
  const images = join(home, 'val', 'images');
  const files = new Set(picturesIn(home, images));
  const { path, lines: rows } = lines(home, join('val', 'val_annotations.txt'));
  const annotated = new Map<string, number>();
  const listed = rows.map((row, i) => {
    const at = `${WHAT}: ${path}: line ${i + 1}`;
    const fields = row.split('\t');
    const [file = '', wnid = '', ...box] = fields;
    if (fields.length !== 6 || !box.every(side => /^\s*\d+\s*$/.test(side)))
      throw new FormatError(`${at} is '${shorter(row)}', expected file, id and the four numbers of a box, by tabs`);
    if (!files.has(file)) throw new FormatError(`${at} is of ${file}, which is not in ${images}`);
    const label = wnids.get(wnid);
    if (label === undefined) throw new FormatError(`${at} has the class ${wnid}, which is not in wnids.txt`);
    const before = annotated.get(file);
    if (before !== undefined) throw new FormatError(`${at} is of ${file}, as line ${before} is`);
    annotated.set(file, i + 1);
    return { path: join(images, file), label };
  });
  for (const file of files)
    if (!annotated.has(file)) throw new FormatError(`${WHAT}: ${join(images, file)} has no line in ${path}`);
  return listed;
}

/** A line as messages show it. */
const shorter = (line: string): string => (line.length > 60 ? `${line.slice(0, 60)}…` : line);
