/** Folders of data sets: what is in them, and errors that show how they should look. */

import { type Dirent, lstatSync, readdirSync, readFileSync, type Stats, statSync } from 'node:fs';
import { join } from 'node:path';
import { FormatError } from '@otimes/core';

/** How the folder of a data set looks. */
export type Layout = {
  /** The function that reads it, which errors begin with. */
  readonly what: string;
  /** Its entries, each with what it is; what lies deeper is indented by two spaces. */
  readonly tree: readonly (readonly [entry: string, meaning: string])[];
  /** Where the official archive lies, as the end of a sentence, or null for a set of one's own. */
  readonly archive: string | null;
};

/** An error that shows the layout, what is in the folder instead, and where the set comes from. */
export function layoutError(layout: Layout, folder: string, problem: string, cause?: unknown): FormatError {
  const width = Math.max(...layout.tree.map(([entry]) => entry.length));
  const lines = layout.tree.map(([entry, meaning]) => `    ${entry.padEnd(width)}  ${meaning}`.trimEnd());
  return new FormatError(
    [
      `${layout.what}: ${problem}. Expected`,
      `  ${folder}`,
      ...lines,
      `Found ${found(folder)}.`,
      ...(layout.archive === null ? [] : [`Nothing is downloaded: ${layout.archive}.`]),
    ].join('\n'),
    { cause },
  );
}

/** What is in a folder, in a few words. */
function found(folder: string): string {
  try {
    const stats = statSync(folder);
    if (!stats.isDirectory()) return `a file there (${stats.size} bytes)`;
    const names = readdirSync(folder, { withFileTypes: true })
      .map(entry => (entry.isDirectory() ? `${entry.name}/` : entry.name))
      .sort();
    if (names.length === 0) return 'an empty folder';
    return `there: ${names.slice(0, 8).join(', ')}${names.length > 8 ? ` and ${names.length - 8} more` : ''}`;
  } catch (error) {
    return errorCode(error) === 'ENOENT' ? 'no such folder' : `what cannot be read (${messageOf(error)})`;
  }
}

/** The entries of a folder, sorted by name; null if there is no such folder. Throws a FormatError if it cannot be read. */
export function entriesOf(what: string, folder: string): Dirent[] | null {
  try {
    return readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1));
  } catch (error) {
    const code = errorCode(error);
    if (code === 'ENOENT') checkNoLink(what, folder);
    if (code === 'ENOENT' || code === 'ENOTDIR') return null;
    throw new FormatError(`${what}: ${folder} cannot be read: ${messageOf(error)}`, { cause: error });
  }
}

/** What a path leads to, also through links; null if there is nothing. A FormatError for a link to nothing. */
export function statOf(what: string, path: string): Stats | null {
  try {
    const stats = statSync(path, { throwIfNoEntry: false });
    if (stats !== undefined) return stats;
  } catch (error) {
    if (errorCode(error) === 'ENOTDIR') return null;
    throw new FormatError(`${what}: ${path} cannot be read: ${messageOf(error)}`, { cause: error });
  }
  checkNoLink(what, path);
  return null;
}

/** Of a path that leads to nothing: it is no link. */
function checkNoLink(what: string, path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false }) !== undefined)
    throw new FormatError(`${what}: ${path} is a link to nothing`);
}

export const isFolder = (what: string, path: string): boolean => statOf(what, path)?.isDirectory() ?? false;

/** What an entry of a folder is, through links as well. A FormatError for a link to nothing, a pipe or a device. */
export function kindOf(what: string, folder: string, entry: Dirent): 'file' | 'folder' {
  if (entry.isFile()) return 'file';
  if (entry.isDirectory()) return 'folder';
  const path = join(folder, entry.name);
  const stats = statOf(what, path);
  if (stats === null) throw new FormatError(`${what}: ${path} is gone`);
  if (stats.isFile()) return 'file';
  if (stats.isDirectory()) return 'folder';
  throw new FormatError(`${what}: ${path} is neither a file nor a folder`);
}

/** The bytes of a file. Throws a FormatError if it cannot be read. */
export function bytesOf(what: string, path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new FormatError(`${what}: ${path} cannot be read: ${messageOf(error)}`, { cause: error });
  }
}

/** The lines of a text file, without line ends; empty ones at its end are left out. */
export function linesOf(what: string, path: string): string[] {
  const lines = new TextDecoder().decode(bytesOf(what, path)).split(/\r?\n/);
  while (lines.at(-1)?.trim() === '') lines.pop();
  return lines;
}

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

function errorCode(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}
