/** One run at a time in a folder: a file with the number of the process that has it. */

import { closeSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { resolve } from 'node:path';
import { filesOf } from './files.ts';

type Holder = { readonly pid: number; readonly host: string; readonly since: string };

/** Another process has the folder. */
export class LockedError extends Error {
  override name = 'LockedError';
}

/** Files of the locks that this process has. */
const held = new Set<string>();

/**
 * Takes the folder, or throws a LockedError that names who has it.
 *
 * @param say hears of a lock that a dead process left
 * @returns gives the folder back
 */
export function lock(folder: string, say: (line: string) => void): () => void {
  const path = resolve(filesOf(folder).lock);
  if (held.has(path)) throw new LockedError(`${folder}: is taken by another run of this process`);
  const own: Holder = { pid: process.pid, host: hostname(), since: new Date().toISOString() };
  for (;;) {
    try {
      const file = openSync(path, 'wx');
      writeFileSync(file, JSON.stringify(own));
      closeSync(file);
      held.add(path);
      return () => {
        held.delete(path);
        rmSync(path, { force: true });
      };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    removeStale(folder, path, say);
  }
}

/** Removes the lock of a dead process. Throws for one that may be alive. */
function removeStale(folder: string, path: string, say: (line: string) => void): void {
  const text = read(path);
  if (text === null) return;
  const holder = holderIn(text);
  const remove = `if that is no run of this folder any more, remove ${path}`;
  if (holder === null) throw new LockedError(`${folder}: is taken by a lock that cannot be read; ${remove}`);
  const { pid, host, since } = holder;
  if (host !== hostname())
    throw new LockedError(`${folder}: is taken by process ${pid} on ${host}, since ${since}; ${remove}`);
  if (isAlive(pid)) throw new LockedError(`${folder}: is taken by process ${pid}, since ${since}; ${remove}`);
  // Moved aside first: between reading and removing it another process may have put its own in the place.
  const aside = `${path}.${process.pid}`;
  try {
    renameSync(path, aside);
  } catch {
    return;
  }
  if (read(aside) !== text) {
    renameSync(aside, path);
    throw new LockedError(`${folder}: is just being taken by another process`);
  }
  rmSync(aside, { force: true });
  say(`Process ${pid}, which had this folder since ${since}, is gone: its lock is taken over.`);
}

function read(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}

function holderIn(text: string): Holder | null {
  try {
    const holder = JSON.parse(text) as Holder;
    return Number.isInteger(holder.pid) && typeof holder.host === 'string' ? holder : null;
  } catch {
    return null;
  }
}

function isAlive(pid: number): boolean {
  // Numbers are given again; what this process holds is known.
  if (pid === process.pid) return false;
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}
