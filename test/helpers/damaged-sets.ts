/** Data sets on disk, damaged: what the error says. */

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import type { Test } from 'tap';
import { law } from './law.ts';

/** What is done to the set's folder, and the message, in which the folder is `~`. */
export type Case = [what: string, damage: (folder: string) => unknown, message: RegExp];

/** For each case a new set, damaged: reading it throws a FormatError with this message. */
export function damaged(
  on: Test,
  set: string,
  write: (folder: string) => unknown,
  read: (folder: string) => unknown,
  cases: readonly Case[],
): void {
  for (const [what, damage, message] of cases)
    law(on, `${set}, ${what}: a FormatError that names file and place`, async t => {
      const folder = t.testdir();
      await write(folder);
      await damage(folder);
      await assert.rejects(
        async () => read(folder),
        (error: Error) => {
          assert.equal(error.name, 'FormatError', error.stack);
          assert.match(error.message.replaceAll(folder, '~'), message);
          return true;
        },
      );
    });
}

/** Changes one byte of a file. */
export const edit = (path: string, at: number, byte: number) => {
  const bytes = readFileSync(path);
  bytes[at] = byte;
  writeFileSync(path, bytes);
};
/** Changes the text of a file. */
export const rewrite = (path: string, change: (text: string) => string) =>
  writeFileSync(path, change(readFileSync(path, 'utf8')));
/** Another text for line `n`, from 1 on; for `rewrite`. */
export const line = (n: number, to: string) => (text: string) =>
  text
    .split('\n')
    .map((old, i) => (i === n - 1 ? to : old))
    .join('\n');
/** A link that leads to itself: it is there, and cannot be read by anybody. */
export const loop = (path: string) => {
  rmSync(path, { recursive: true, force: true });
  symlinkSync(path, path);
};
/** A link to what is not there. */
export const dangling = (path: string) => {
  rmSync(path, { recursive: true, force: true });
  symlinkSync('/nowhere/x', path);
};

/** A folder there, with nothing in it. */
export function emptied(path: string): void {
  rmSync(path, { recursive: true, force: true });
  mkdirSync(path);
}
