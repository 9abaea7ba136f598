/** Safetensors files and checkpoints on disk, for Node; `safetensors.ts` and `checkpoint.ts` have the formats. Files are held in memory whole, up to 2 GiB. */

import { randomUUID } from 'node:crypto';
import {
  closeSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { aString, checkArgument } from './check.ts';
import { type CheckpointParts, type CheckpointValues, packCheckpoint, unpackCheckpoint } from './checkpoint.ts';
import { FormatError } from './errors.ts';
import { loadSafetensors, type StateDict, safetensorsMetadata, saveSafetensors } from './safetensors.ts';

/**
 * Writes the tensors to a safetensors file. The bytes go to a temporary file beside it, which then takes its name: a
 * crash at any moment leaves the old file or the new one, whole. Temporary files of processes that were killed are
 * removed by the next `save` under that name. Of tensors on a device that is read with await:
 * `save(path, await readStateDict(tensors))`.
 */
export function save(path: string, tensors: StateDict, metadata?: Record<string, string>): void {
  write(path, saveSafetensors(tensors, metadata));
}

/** Puts the bytes in the place of the file, whole or not at all. */
function write(path: string, bytes: Uint8Array): void {
  const temporary = `${path}.${hostname()}-${process.pid}-${randomUUID()}.tmp`;
  try {
    clearTemporaries(path);
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
    // Of a disk that is full the system says neither which file nor which disk.
    const { message } = error as Error;
    throw message.includes(path) ? error : Object.assign(error as Error, { message: `${path}: ${message}`, path });
  }
}

/** Removes temporary files of `path` whose process is gone. Those of other machines that share the disk stay. */
function clearTemporaries(path: string): void {
  const start = `${basename(path)}.${hostname()}-`;
  try {
    for (const name of readdirSync(dirname(path))) {
      const owner = name.startsWith(start) && /^(\d+)-[\da-f-]{36}\.tmp$/.exec(name.slice(start.length));
      if (!owner) continue;
      const file = join(dirname(path), name);
      if (!isAlive(Number(owner[1]), file)) rmSync(file, { force: true });
    }
  } catch {
    // A folder that may not be listed, or a file of somebody else: no reason not to save.
  }
}

/** Whether the process with that number runs, and wrote the file: numbers are given again, after a restart of a container to its like. */
function isAlive(pid: number, file: string): boolean {
  if (pid === process.pid) {
    const changed = statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;
    return changed > Date.now() - 1000 * process.uptime() - 1000;
  }
  try {
    return process.kill(pid, 0);
  } catch (error) {
    // Anything but "no such process", such as "not permitted", means that there is one.
    return !(error instanceof Error && 'code' in error && error.code === 'ESRCH');
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

/**
 * Writes a checkpoint: all that a training run needs to go on bit for bit, in one file that is replaced as `save` does. The states are
 * those at the call, with that of the default generator.
 *
 * @param parts by name: `{ model, optimizer, schedule, loader, generators: [rng], epoch }`; see `packCheckpoint`
 */
export async function saveCheckpoint(path: string, parts: CheckpointParts): Promise<void> {
  checkArgument('saveCheckpoint', 'path', path, aString);
  write(path, await packCheckpoint(parts));
}

/**
 * Takes over a checkpoint into the parts that are given by the names under which they were saved, all or nothing; see
 * `unpackCheckpoint`.
 *
 * @returns the plain values and tensors of the file: `const { epoch } = await loadCheckpoint(path, { model, optimizer })`
 * @throws FormatError with the path if the file is no checkpoint
 */
export async function loadCheckpoint(path: string, parts?: CheckpointParts): Promise<CheckpointValues> {
  checkArgument('loadCheckpoint', 'path', path, aString);
  const bytes = readFileSync(path);
  try {
    return await unpackCheckpoint(bytes, parts);
  } catch (error) {
    throw withPath(path, error);
  }
}

function withPath(path: string, error: unknown): unknown {
  return error instanceof FormatError ? new FormatError(`${path}: ${error.message}`, { cause: error }) : error;
}

function naming<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw withPath(path, error);
  }
}
