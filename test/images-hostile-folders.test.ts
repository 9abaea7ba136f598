/** Tiny ImageNet and folders of pictures with something missing or damaged: what errors say, and that nothing is half read. */

import assert from 'node:assert/strict';
import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { imageFolder, tinyImageNet } from '@otimes/data/node';
import t from 'tap';
import { damaged, dangling, emptied, line, loop, rewrite } from './helpers/damaged-sets.ts';
import { writeSyntheticImageFolder, writeSyntheticTinyImageNet } from './helpers/image-sets.ts';
import { law } from './helpers/law.ts';

// --- Tiny ImageNet ---

const writeTiny = (folder: string) => writeSyntheticTinyImageNet(folder, { classes: 2, train: 2, test: 3, size: 8 });
const wnidOf = (f: string, n: number) => readFileSync(`${f}/wnids.txt`, 'utf8').split('\n')[n]!;

damaged(t, 'Tiny ImageNet', writeTiny, f => tinyImageNet(f), [
  [
    'an empty folder',
    emptied,
    /^tinyImageNet: there is no wnids\.txt in ~\. Expected\n {2}~\n {4}wnids\.txt[\s\S]*\n {6}val_annotations\.txt [\s\S]*Found an empty folder\.\n.*tiny-imagenet-200\.zip/,
  ],
  [
    'the archive beside nothing',
    f => [rmSync(`${f}/wnids.txt`), writeFileSync(`${f}/tiny-imagenet-200.zip`, '')],
    /unpack the archive there: unzip tiny-imagenet-200\.zip/,
  ],
  ['no classes', f => writeFileSync(`${f}/wnids.txt`, '\n'), /~\/wnids\.txt is empty, expected a WordNet id a line/],
  [
    'a class that is no id',
    f => rewrite(`${f}/wnids.txt`, line(2, '../../etc')),
    /wnids\.txt: line 2 is '\.\.\/\.\.\/etc', expected an id such as n01443537/,
  ],
  ['a class twice', f => rewrite(`${f}/wnids.txt`, line(2, wnidOf(f, 0))), /wnids\.txt: lines 1 and 2 are both n0\d+/],
  ['no words', f => rmSync(`${f}/words.txt`), /there is no words\.txt in ~/],
  [
    'a class without a name',
    f => rewrite(`${f}/words.txt`, line(1, '')),
    /~\/words\.txt has no name for n0\d+, line 1 of wnids\.txt/,
  ],
  [
    'an empty name',
    f => rewrite(`${f}/words.txt`, line(1, `${wnidOf(f, 0)}\t`)),
    /words\.txt: line 1 has no name for n0\d+/,
  ],
  [
    'a class named twice',
    f => appendFileSync(`${f}/words.txt`, `${wnidOf(f, 0)}\tother\n`),
    /words\.txt: lines 1 and 4 both name n0\d+/,
  ],
  [
    'a class without a folder',
    f => rmSync(`${f}/train/${wnidOf(f, 1)}`, { recursive: true }),
    /there is no folder ~\/train\/n0\d+\/images\. Expected/,
  ],
  [
    'a class without pictures',
    f => emptied(`${f}/train/${wnidOf(f, 1)}/images`),
    /~\/train\/n0\d+\/images has no pictures\. Expected/,
  ],
  [
    'a folder of no class',
    f => mkdirSync(`${f}/train/n99999999/images`, { recursive: true }),
    /~\/train\/n99999999 is a class that is not in wnids\.txt/,
  ],
  [
    'a folder named as a picture',
    f => mkdirSync(`${f}/train/${wnidOf(f, 0)}/images/x.JPEG`),
    /\/images\/x\.JPEG is a folder, expected a picture by its name/,
  ],
  [
    'a link to nothing',
    f => symlinkSync('/nowhere/x', `${f}/train/${wnidOf(f, 0)}/images/x.JPEG`),
    /\/images\/x\.JPEG is a link to nothing/,
  ],
  [
    'words behind a link to nothing',
    f => dangling(`${f}/words.txt`),
    /^tinyImageNet: ~\/words\.txt is a link to nothing$/,
  ],
  [
    'pictures behind a link to nothing',
    f => dangling(`${f}/train/${wnidOf(f, 1)}/images`),
    /\/images is a link to nothing$/,
  ],
]);

const annotations = (f: string) => `${f}/val/val_annotations.txt`;
damaged(t, "Tiny ImageNet's validation", writeTiny, f => tinyImageNet(f, { split: 'val' }), [
  ['no annotations', f => rmSync(annotations(f)), /there is no val\/val_annotations\.txt in ~/],
  ['no pictures', f => rmSync(`${f}/val/images`, { recursive: true }), /there is no folder ~\/val\/images\. Expected/],
  [
    'an annotation of a missing file',
    f => rmSync(`${f}/val/images/val_1.JPEG`),
    /val_annotations\.txt: line 2 is of val_1\.JPEG, which is not in ~\/val\/images/,
  ],
  [
    'a picture without an annotation',
    f => rewrite(annotations(f), text => text.replace(/val_2.*\n/, '')),
    /~\/val\/images\/val_2\.JPEG has no line in ~\/val\/val_annotations\.txt/,
  ],
  [
    'a class that is not listed',
    f => rewrite(annotations(f), text => text.replace(wnidOf(f, 1), 'n01234567')),
    /line \d has the class n01234567, which is not in wnids\.txt/,
  ],
  [
    'a picture annotated twice',
    f => appendFileSync(annotations(f), readFileSync(annotations(f), 'utf8').split('\n')[0]!),
    /line 4 is of val_0\.JPEG, as line 1 is/,
  ],
  [
    'spaces for tabs',
    f => rewrite(annotations(f), text => text.replace('\t', ' ')),
    /line 1 is 'val_0\.JPEG n0.*', expected file, id and the four numbers of a box, by tabs/,
  ],
  [
    'a line cut off',
    f => rewrite(annotations(f), text => text.trim().slice(0, -3)),
    /line 3 is '.*', expected file, id and the four numbers/,
  ],
  ['an empty line', f => rewrite(annotations(f), text => `\n${text}`), /line 1 is '', expected file/],
]);

// --- image folders ---

const writeFolder = (folder: string) => writeSyntheticImageFolder(folder, { train: 2, size: 8 });
damaged(t, 'an image folder', writeFolder, f => imageFolder(f), [
  [
    'no classes',
    f => ['cat', 'dog', 'owl'].map(name => rmSync(`${f}/${name}`, { recursive: true })),
    /^imageFolder: ~ has no folders, which would be classes\. Expected\n {2}~\n {4}CLASS\/ /,
  ],
  ['no folder', f => rmSync(f, { recursive: true }), /there is no folder ~\. Expected[\s\S]*Found no such folder\.$/],
  ['an empty class', f => mkdirSync(`${f}/cow`), /the class ~\/cow has no picture \(\.jpg, \.jpeg, \.png\)/],
  [
    'a class of other files',
    f => [mkdirSync(`${f}/cow`), writeFileSync(`${f}/cow/a.webp`, '')],
    /the class ~\/cow has no picture/,
  ],
  [
    'a folder named as a picture',
    f => mkdirSync(`${f}/dog/x.jpg`),
    /~\/dog\/x\.jpg is a folder, expected a picture by its name/,
  ],
  ['a link to nothing', f => symlinkSync('/nowhere/x', `${f}/dog/x.jpg`), /~\/dog\/x\.jpg is a link to nothing/],
  ['a link to itself', f => loop(`${f}/dog/x.jpg`), /~\/dog\/x\.jpg cannot be read: ELOOP/],
  ['a folder within itself', f => symlinkSync(`${f}/dog`, `${f}/dog/dog`), /dog\/dog\/dog.* cannot be read: ELOOP/],
]);

damaged(
  t,
  'a picture',
  writeFolder,
  async f => {
    const source = await imageFolder(f);
    const good = source.picture(0);
    try {
      source.picture(3);
    } finally {
      assert.deepEqual(source.picture(0), good);
    }
  },
  [
    ['truncated', f => truncateSync(`${f}/dog/dog_1.jpg`, 200), /^~\/dog\/dog_1\.jpg: not a whole JPEG: Premature end/],
    [
      'a JPEG that is no JPEG',
      f => writeFileSync(`${f}/dog/dog_1.jpg`, 'Not found'),
      /^~\/dog\/dog_1\.jpg: neither JPEG nor PNG/,
    ],
    ['empty', f => truncateSync(`${f}/dog/dog_1.jpg`, 0), /^~\/dog\/dog_1\.jpg: neither JPEG nor PNG: it is empty/],
  ],
);

law(t, 'a picture that is gone or cannot be read is a FormatError that names it when it is asked for', async t => {
  const folder = t.testdir();
  await writeFolder(folder);
  const source = await imageFolder(folder);
  rmSync(`${folder}/cat/cat_1.jpg`);
  assert.throws(() => source.picture(1), {
    name: 'FormatError',
    message: /^picture: .*cat_1\.jpg cannot be read: ENOENT/,
  });
  loop(`${folder}/cat/cat_1.jpg`);
  assert.throws(() => source.picture(1), { name: 'FormatError', message: /cat_1\.jpg cannot be read: ELOOP/ });
  chmodSync(`${folder}/dog/dog_0.jpg`, 0);
  // Root may read everything.
  if (process.getuid?.() !== 0)
    assert.throws(() => source.picture(2), { name: 'FormatError', message: /dog_0\.jpg cannot be read: EACCES/ });
  assert.equal(source.picture(4).width, 8);
});
