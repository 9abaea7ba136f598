/** How a module finds what belongs to it: in its fields, and in the plain objects, arrays, maps and sets in them. */

import { Tensor } from '@otimes/core';
import { isPlainObject } from '@otimes/core/extend';
import type { AnyModule } from './module.ts';
import { Buffer, Parameter } from './parameter.ts';

/** The base of `Module`, by which this file recognises modules without importing the class: that would be a cycle. */
export abstract class ModuleBase {}

/**
 * An entry of a module with its name: a parameter, a buffer or a submodule; or a plain tensor or an instance of another class,
 * which are checked and are no members.
 */
export type Member = readonly [name: string, value: object];

export function isMember(value: unknown): value is Parameter | Buffer | AnyModule {
  return value instanceof Parameter || value instanceof Buffer || value instanceof ModuleBase;
}

/** Each value of a kind once, by the first path that leads to it. */
export function firstOfEach<T extends object>(
  all: Iterable<Member>,
  is: (value: object) => value is T,
): Map<string, T> {
  const seen = new Set<object>();
  const found = new Map<string, T>();
  for (const [path, value] of all) {
    if (!is(value) || seen.has(value)) continue;
    seen.add(value);
    found.set(path, value);
  }
  return found;
}

/** What a plain container holds, by name; null for all other objects. */
function entriesOf(holder: object): Iterable<[name: unknown, value: unknown]> | null {
  if (holder instanceof Map) return holder;
  if (holder instanceof Set) return [...holder].entries();
  if (Array.isArray(holder)) return holder.entries();
  return isPlainObject(holder) ? Object.entries(holder) : null;
}

/** The members in `value`, the entry `name`. A container in itself is skipped: its entries have shorter names already. */
export function* membersIn(name: string, value: unknown, above: readonly object[] = []): Iterable<Member> {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value) || above.includes(value)) return;
  const entries = isMember(value) || value instanceof Tensor ? null : entriesOf(value);
  if (entries === null) yield [name, value];
  else for (const [key, one] of entries) yield* membersIn(`${name}.${String(key)}`, one, [...above, value]);
}

/** The path of a member in an instance of another class, down to four levels; '' if there is none that is not in `seen`. */
export function hiddenIn(value: unknown, path: string, seen: Set<unknown>, depth = 4): string {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value) || seen.has(value)) return '';
  if (isMember(value)) return path;
  seen.add(value);
  if (depth === 0 || value instanceof Tensor) return '';
  for (const [key, one] of entriesOf(value) ?? Object.entries(value)) {
    const hidden = hiddenIn(one, `${path}.${String(key)}`, seen, depth - 1);
    if (hidden !== '') return hidden;
  }
  return '';
}

/** A new value for a place. `put` writes a value there and returns whether that worked: a place may be read-only. */
export type Change = {
  readonly path: string;
  readonly from: unknown;
  readonly to: unknown;
  readonly put: (value: unknown) => boolean;
};

/** The change of a field to `to`. */
export function fieldChange(holder: object, name: string, path: string, to: unknown): Change {
  const put = (value: unknown) => {
    Reflect.set(holder, name, value);
    return Reflect.get(holder, name) === value;
  };
  return { path, from: Reflect.get(holder, name), to, put };
}

/** Makes all changes; throws and makes none if one of them fails. */
export function changeAll(op: string, changes: readonly Change[]): void {
  const made: Change[] = [];
  try {
    for (const change of changes) {
      if (!change.put(change.to))
        throw new TypeError(
          `${op}: nothing was changed, since '${change.path}' cannot be set: it is frozen, read-only, or has a getter alone`,
        );
      made.push(change);
    }
  } catch (error) {
    for (const { from, put } of made.reverse()) put(from);
    throw error;
  }
}

/**
 * Adds to `changes` the replacement of each parameter and buffer of `holder`, a module or a plain container in it.
 * `prefix` is the path of `holder`, with a dot at its end.
 */
export function replaceIn(
  holder: object,
  prefix: string,
  replace: (value: Parameter | Buffer) => Parameter | Buffer,
  changes: Change[],
  above: readonly object[] = [],
): void {
  if (above.includes(holder)) return;
  const replaced = (value: unknown, path: string): unknown => {
    if (value instanceof Parameter || value instanceof Buffer) return replace(value);
    const isContainer = typeof value === 'object' && value !== null && entriesOf(value) !== null;
    if (isContainer) replaceIn(value, `${path}.`, replace, changes, [...above, holder]);
    return value;
  };
  if (holder instanceof Set) {
    const from = [...holder];
    const to = from.map((value, i) => replaced(value, prefix + i));
    const put = (values: unknown) => {
      holder.clear();
      for (const value of values as unknown[]) holder.add(value);
      return true;
    };
    if (to.some(value => !holder.has(value))) changes.push({ path: prefix.slice(0, -1), from, to, put });
    return;
  }
  for (const [name, value] of entriesOf(holder) ?? Object.entries(holder)) {
    const path = prefix + String(name);
    const to = replaced(value, path);
    if (to === value) continue;
    if (!(holder instanceof Map)) changes.push(fieldChange(holder, String(name), path, to));
    else changes.push({ path, from: value, to, put: one => holder.set(name, one).get(name) === one });
  }
}
