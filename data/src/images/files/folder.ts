/** Folders of JPEG and PNG files, one folder a class; and sources from their recipes. */

import { join, resolve } from 'node:path';
import { FormatError } from '@otimes/core';
import { anInstance, aString, checkArgument, checkOptions, isPlainObject, type Kind } from '@otimes/core/extend';
import {
  aChannelCount,
  checkIndex,
  checkLabels,
  type FilesRecipe,
  type Picture,
  type PictureSource,
  picturesInMemory,
  Source,
  type SourceRecipe,
  someNames,
} from '../source.ts';
import { type PictureDecoder, pictureDecoder } from './decoder.ts';
import { bytesOf, entriesOf, isFolder, kindOf, type Layout, layoutError } from './layout.ts';

/** Pictures in files, read and decoded each time that they are asked for. */
class InFiles extends Source<FilesRecipe> {
  readonly #decode: PictureDecoder;

  constructor(recipe: FilesRecipe, decode: PictureDecoder) {
    super(recipe);
    this.#decode = decode;
  }

  picture(index: number): Picture {
    checkIndex(index, this.length);
    const file = this.recipe.paths[index]!;
    return this.#decode(bytesOf('picture', file), { channels: this.recipe.channels ?? 3, file });
  }
}

/** A source of files, with its decoder started. */
export async function sourceOfFiles(recipe: Omit<FilesRecipe, 'kind'>): Promise<PictureSource> {
  const decode = await pictureDecoder();
  return new InFiles({ ...recipe, kind: 'files' }, decode);
}

const aRecipe: Kind = {
  expected: "the recipe of a source, with kind 'bytes' or 'files'",
  is: v => isPlainObject(v) && (v.kind === 'bytes' || v.kind === 'files'),
  hint: v => (typeof v === 'object' && v !== null && 'recipe' in v ? 'give source.recipe' : ''),
};

const FILES = {
  kind: aString,
  paths: someNames,
  labels: anInstance(Int32Array, 'an Int32Array'),
  classes: someNames,
  channels: aChannelCount,
};

/** The source that a recipe describes: the same pictures under the same indices, in this thread. */
export async function openSource(recipe: SourceRecipe): Promise<PictureSource> {
  checkArgument('openSource', 'recipe', recipe, aRecipe);
  if (recipe.kind === 'bytes') return picturesInMemory(recipe);
  checkOptions('openSource', recipe, FILES);
  for (const name of ['paths', 'labels', 'classes'] as const)
    checkArgument('openSource', name, recipe[name], FILES[name]);
  const { paths, labels, classes, channels = 3 } = recipe;
  if (paths.length !== labels.length)
    throw new RangeError(`openSource: expected a label for each file, got ${labels.length} for ${paths.length}`);
  checkLabels('openSource', labels, classes);
  return sourceOfFiles({ paths, labels, classes, channels });
}

export type ImageFolderOptions = {
  /** 3 expands greyscale files to three equal planes, 1 makes colours grey. Defaults to 3. */
  channels?: 1 | 3;
  /** How the names of pictures end, in any case; defaults to ['.jpg', '.jpeg', '.png']. */
  extensions?: readonly string[];
};

const someExtensions: Kind = {
  expected: "an array of one or more extensions such as '.jpg'",
  is: v => someNames.is(v) && (v as string[]).length > 0 && (v as string[]).every(one => /^\../.test(one)),
};

const PICTURES = ['.jpg', '.jpeg', '.png'];

const LAYOUT: Layout = {
  what: 'imageFolder',
  tree: [
    ['CLASS/', 'a folder for each class, its name the class'],
    ['  NAME.jpg', 'its pictures, JPEG or PNG, also in folders of its own'],
    ['OTHER CLASS/', ''],
  ],
  archive: null,
};

/**
 * Pictures of any size in a folder for each class, as torchvision's ImageFolder has them: classes are the sub-folders sorted by
 * name, pictures are sorted by folder and name within their class, and lie in folders inside of it as well. Names with a dot first,
 * and files with other extensions, are no pictures. They are decoded when asked for; what is in the folder now is the source.
 *
 * @throws FormatError for no folder, no classes, a class without pictures, or a folder that is named as a picture
 */
export async function imageFolder(folder: string, o: ImageFolderOptions = {}): Promise<PictureSource> {
  checkArgument('imageFolder', 'folder', folder, aString);
  checkOptions('imageFolder', o, { channels: aChannelCount, extensions: someExtensions });
  const { channels = 3, extensions = PICTURES } = o;
  const home = resolve(folder);
  const classes = visible('imageFolder', home)
    .filter(entry => kindOf('imageFolder', home, entry) === 'folder')
    .map(entry => entry.name);
  if (classes.length === 0)
    throw layoutError(
      LAYOUT,
      home,
      isFolder('imageFolder', home) ? `${home} has no folders, which would be classes` : `there is no folder ${home}`,
    );
  const paths: string[] = [];
  const labels: number[] = [];
  for (const [label, name] of classes.entries()) {
    const found = picturesUnder('imageFolder', join(home, name), extensions);
    if (found.length === 0)
      throw layoutError(LAYOUT, home, `the class ${join(home, name)} has no picture (${extensions.join(', ')})`);
    for (const path of found) {
      paths.push(path);
      labels.push(label);
    }
  }
  return sourceOfFiles({ paths, labels: Int32Array.from(labels), classes, channels });
}

/** The entries of a folder that are not hidden. */
const visible = (what: string, folder: string) =>
  (entriesOf(what, folder) ?? []).filter(entry => !entry.name.startsWith('.'));

/** The pictures in a folder, sorted, and then those in each folder inside of it. */
function picturesUnder(what: string, folder: string, extensions: readonly string[]): string[] {
  const entries = visible(what, folder).map(entry => ({ entry, kind: kindOf(what, folder, entry) }));
  const named = entries.filter(({ entry }) => endsIn(entry.name, extensions));
  const wrong = named.find(({ kind }) => kind === 'folder');
  if (wrong !== undefined)
    throw new FormatError(`${what}: ${join(folder, wrong.entry.name)} is a folder, expected a picture by its name`);
  const inside = entries.filter(({ kind }) => kind === 'folder');
  return [
    ...named.map(({ entry }) => join(folder, entry.name)),
    ...inside.flatMap(({ entry }) => picturesUnder(what, join(folder, entry.name), extensions)),
  ];
}

export function endsIn(name: string, extensions: readonly string[]): boolean {
  const lower = name.toLowerCase();
  return extensions.some(extension => lower.endsWith(extension.toLowerCase()));
}
