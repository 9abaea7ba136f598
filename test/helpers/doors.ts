/**
 * Wrong arguments for every door of a package, as they come from plain JavaScript. A call with one wrong argument works,
 * or is refused by an error of the library that begins with the operation's name; an engine's TypeError is neither.
 */

import assert from 'node:assert/strict';
import { ones } from '@otimes/core';
import { isPlainObject } from '@otimes/core/extend';
import type t from 'tap';

/** One public function, method or constructor. */
export type Door = {
  call: (...args: never[]) => unknown;
  /** Right arguments, made anew for each call; a last plain object is taken for options, all of them if `options` is true. */
  args: () => readonly unknown[];
  /** What messages begin with; by default the door's name. */
  says?: string | readonly string[];
  /** Arguments that are not tried, by position, with the reason. */
  skip?: Readonly<Record<number, string>>;
};

/** Values that are wrong for most arguments. */
export const wrongValues = (): readonly unknown[] => [
  undefined,
  null,
  true,
  7,
  -1,
  0.5,
  NaN,
  'text',
  '',
  [],
  [2, 3],
  ['a'],
  [[1]],
  [null],
  [ones([2])],
  {},
  { noOptionHasThisName: 1 },
  { axis: 0 },
  () => undefined,
  Promise.resolve(1),
  new Map(),
  new Date(0),
  ones([2, 3, 5]),
  ones([], { dtype: 'float64' }),
  ones([4], { dtype: 'int32' }),
  ones([1], { dtype: 'bool' }),
];

const show = (value: unknown): string => {
  if (Array.isArray(value)) return `[${value.map(show)}]`;
  if (typeof value === 'function') return 'a function';
  if (isPlainObject(value)) return `{ ${Object.keys(value)} }`;
  return Object.prototype.toString.call(value) + (typeof value === 'object' && value ? '' : ` ${String(value)}`);
};

/**
 * Throws unless each door stands up to each wrong value in each place, to missing arguments, to options that are no plain
 * object, to an unknown option, and to each wrong value of each option that `args` shows.
 */
export async function checkDoor(name: string, { call, args, says = name, skip = {} }: Door): Promise<void> {
  // A tensor in the place of a number says 'operator' where it is compared.
  const names = [...(typeof says === 'string' ? [says] : says), 'operator'];
  const faults: string[] = [];
  const attempt = async (what: string, given: readonly unknown[], mustThrow: boolean) => {
    try {
      await call(...(given as never[]));
      if (mustThrow) faults.push(`${what}: taken in silence`);
    } catch (error) {
      const message = error instanceof Error ? error.message : `no Error but ${error}`;
      if (!names.some(start => message.startsWith(`${start}: `))) faults.push(`${what}: ${message}`);
    }
  };
  await call(...(args() as never[]));
  const right = args();
  for (let i = 0; i < right.length; i++) {
    if (skip[i] !== undefined) continue;
    await attempt(`with ${i} arguments`, args().slice(0, i), false);
    const isOptions = isPlainObject(right[i]);
    for (const wrong of wrongValues()) {
      const given = [...args()];
      given[i] = wrong;
      const silent = isOptions && wrong !== undefined && !(isPlainObject(wrong) && Object.keys(wrong).length === 0);
      await attempt(`${show(wrong)} as argument ${i}`, given, silent);
      if (!isOptions) continue;
      for (const option of Object.keys(right[i] as object)) {
        const changed = [...args()];
        changed[i] = { ...(right[i] as object), [option]: wrong };
        await attempt(`option ${option} ${show(wrong)}`, changed, false);
      }
    }
  }
  assert.deepEqual(faults, [], `${name}: messages begin with ${names.map(start => `'${start}: '`).join(' or ')}`);
}

/** A test of each door, and one that every name of `all` has a door or stands in `apart` with the reason. */
export function checkDoors(
  test: typeof t,
  what: string,
  all: Iterable<string>,
  doors: Readonly<Record<string, Door>>,
  apart: Readonly<Record<string, string>> = {},
): void {
  test.test(`${what}: every public name is in the table`, async () => {
    const names = [...all];
    assert.deepEqual(
      names.filter(name => !(name in doors) && !(name in apart)),
      [],
    );
    assert.deepEqual(
      [...Object.keys(doors), ...Object.keys(apart)].filter(name => !names.includes(name)),
      [],
    );
  });
  for (const [name, door] of Object.entries(doors))
    test.test(`${what}: ${name} works or says what is wrong`, () => checkDoor(name, door));
}
