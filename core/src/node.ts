/** Safetensors files on disk, for Node; `safetensors.ts` has the format. Files are held in memory whole, up to 2 GiB. */

import { randomUUID } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { FormatError } from './errors.ts';
import { loadSafetensors, type StateDict, safetensorsMetadata, saveSafetensors } from './safetensors.ts';

/**
 * Writes the tensors to a safetensors file. The bytes go to a temporary file beside it, which then takes its name: a
 * crash at any moment leaves the old file or the new one, whole.
 */
export function save(path: string, tensors: StateDict, metadata?: Record<string, string>): void {
  const bytes = saveSafetensors(tensors, metadata);
  const temporary = `${path}.${randomUUID()}.tmp`;
  try {
    const file = openSync(temporary, 'wx');
    try {
      writeFileSync(file, bytes);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

/** The tensors of a safetensors file. Throws a FormatError naming the file if it is not one. */
export function load(path: string): StateDict {
  return naming(path, () => loadSafetensors(readFileSync(path)));
}

/** The free-form metadata of a safetensors file; empty where it has none. */
export function loadMetadata(path: string): Record<string, string> {
  return naming(path, () => safetensorsMetadata(readFileSync(path)));
}

function naming<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new FormatError(`${path}: ${error.message}`, { cause: error });
  }
}
