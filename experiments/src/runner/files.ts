/** Where things lie in the folder of a run, and JSON files that are written whole or not at all. */

import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { FormatError } from '@otimes/core';
import { isPlainObject, received } from '@otimes/core/extend';

/** The files of a run, see record.ts. */
export const filesOf = (folder: string) => ({
  experiment: join(folder, 'experiment.json'),
  /** RunOptions: how the run was started. */
  options: join(folder, 'options.json'),
  timing: join(folder, 'timing.json'),
  lock: join(folder, 'lock.json'),
  trials: join(folder, 'trials'),
  record: (id: string) => join(folder, 'trials', `${id}.json`),
  checkpoint: (id: string) => join(folder, 'trials', `${id}.safetensors`),
  weights: (id: string) => join(folder, 'trials', `${id}.weights.safetensors`),
});

/** Puts the value in the place of the file: whoever reads it finds the old one or the new one, whole. */
export function writeJson(path: string, value: unknown): void {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    const file = openSync(temporary, 'w');
    try {
      writeFileSync(file, `${JSON.stringify(value, null, 2)}\n`);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    // Of a disk that is full the system says neither which file nor which disk.
    const { message } = error as Error;
    throw message.includes(path) ? error : Object.assign(error as Error, { message: `${path}: ${message}`, path });
  }
}

/** The object in a JSON file of format 1; null where there is no file. Throws a FormatError with the path for anything else. */
export function readJson<T extends { readonly format: 1 }>(path: string): T | null {
  if (!existsSync(path)) return null;
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw new FormatError(
      `${path}: is not JSON: ${(cause as Error).message}. Without the file, what it was for is made again`,
      { cause },
    );
  }
  if (!isPlainObject(value) || value.format !== 1) {
    const got = isPlainObject(value) ? `format ${received(value.format)}` : received(value);
    throw new FormatError(`${path}: expected an object of format 1, got ${got}`);
  }
  return value as T;
}

/** Removes temporary files that writers left behind when they were killed. Only while nobody else writes there. */
export function removeTemporaries(folder: string): void {
  for (const name of readdirSync(folder)) if (name.endsWith('.tmp')) rmSync(join(folder, name), { force: true });
}
