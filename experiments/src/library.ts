/** What there is to compare, and with what: the package's tasks, contenders and presets, and those of modules that a program brings. */

import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { received } from '@otimes/core/extend';
import { checkSpace } from './config.ts';
import { CONTENDERS } from './contenders/index.ts';
import type { Contender, Experiment, Task } from './experiment.ts';
import { didYouMean } from './nearest.ts';
import { PRESETS } from './presets/index.ts';
import { TASKS } from './tasks/index.ts';

export type Library = {
  readonly tasks: ReadonlyMap<string, Task>;
  readonly contenders: ReadonlyMap<string, Contender>;
  readonly presets: ReadonlyMap<string, Experiment>;
};

/** What a module may export: lists, each of which may be missing. */
export type LibraryModule = {
  readonly TASKS?: readonly Task[];
  readonly CONTENDERS?: readonly Contender[];
  readonly PRESETS?: readonly Experiment[];
};

const OWN: LibraryModule = { TASKS, CONTENDERS, PRESETS };

/**
 * The library with what these modules export under `TASKS`, `CONTENDERS` and `PRESETS`.
 *
 * @param modules paths of files; JavaScript, or what else this Node runs
 * @throws for a module that exports none of them, and a name that comes twice
 */
export async function loadLibrary(modules: readonly string[]): Promise<Library> {
  const tasks = new Map<string, Task>();
  const contenders = new Map<string, Contender>();
  const presets = new Map<string, Experiment>();
  const take = (from: string, { TASKS = [], CONTENDERS = [], PRESETS = [] }: LibraryModule) => {
    add(from, 'task', tasks, TASKS);
    add(from, 'contender', contenders, CONTENDERS);
    add(from, 'experiment', presets, PRESETS);
  };
  take('otimes-experiments', OWN);
  for (const path of modules) {
    const module: LibraryModule = await import(pathToFileURL(resolve(path)).href).catch((cause: Error) => {
      throw new Error(`--with ${path}: ${cause.message}`, { cause });
    });
    const lists = [module.TASKS, module.CONTENDERS, module.PRESETS].filter(list => list !== undefined);
    if (lists.length === 0 || !lists.every(Array.isArray))
      throw new TypeError(
        `${path}: expected a module that exports lists under TASKS, CONTENDERS or PRESETS, got ${received({ ...module })}`,
      );
    take(path, module);
  }
  return { tasks, contenders, presets };
}

/** As names of files, and as parts of them. */
const NAME = /^[a-z0-9]+([-.][a-z0-9]+)*$/;

const FAMILIES = ['first-order', 'kronecker', 'quasi-newton'];

/** What a report or a run would stumble over after hours. */
function checkContender(from: string, { name, label, family, space, make }: Contender): void {
  const at = `${from}: contender '${name}'`;
  const refuse = (field: string, expected: string, got: unknown) => {
    throw new TypeError(`${at}: expected ${field} to be ${expected}, got ${received(got)}`);
  };
  if (typeof label !== 'string' || label === '') refuse('label', 'a text', label);
  if (!FAMILIES.includes(family)) refuse('family', `one of ${FAMILIES.join(', ')}`, family);
  if (typeof make !== 'function') refuse('make', 'a function', make);
  checkSpace(`${at}: space`, space);
}

function add<T extends { readonly name: string }>(
  from: string,
  kind: string,
  known: Map<string, T>,
  list: readonly T[],
): void {
  for (const one of list) {
    if (kind === 'contender' && !NAME.test(one.name))
      throw new TypeError(
        `${from}: expected a contender's name of small letters, digits and dashes, got '${one.name}'`,
      );
    if (kind === 'contender') checkContender(from, one as unknown as Contender);
    if (known.has(one.name)) throw new TypeError(`${from}: there is a ${kind} '${one.name}' already`);
    known.set(one.name, one);
  }
}

/** The one of that name. Throws an Error that lists the names there are. */
export function find<T>(kind: string, known: ReadonlyMap<string, T>, name: string): T {
  const found = known.get(name);
  if (found !== undefined) return found;
  const names = [...known.keys()];
  throw new Error(`there is no ${kind} '${name}', only ${names.join(', ') || 'none at all'}${didYouMean(name, names)}`);
}
