/** Checked reading of JSON: a shape takes a value and the place where it stands, and returns it with its type or throws a FormatError. */

import { FormatError } from '@otimes/core';

export type Shape<T> = (value: unknown, at: string) => T;

/** What a value is, in a few words. */
function said(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'null';
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === 'object') return 'an object';
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}

export function refuse(at: string, expected: string, value: unknown): never {
  throw new FormatError(`${at}: expected ${expected}, got ${said(value)}`);
}

export const text: Shape<string> = (value, at) => (typeof value === 'string' ? value : refuse(at, 'text', value));

export const flag: Shape<boolean> = (value, at) =>
  typeof value === 'boolean' ? value : refuse(at, 'true or false', value);

/** A finite number of `low` or more. */
export const numberFrom =
  (low: number): Shape<number> =>
  (value, at) =>
    typeof value === 'number' && Number.isFinite(value) && value >= low
      ? value
      : refuse(at, low === -Infinity ? 'a finite number' : `a finite number of ${low} or more`, value);
export const number = numberFrom(-Infinity);
export const positive: Shape<number> = (value, at) =>
  numberFrom(0)(value, at) > 0 ? (value as number) : refuse(at, 'a number above 0', value);

/** A whole number of `low` or more. */
export const count =
  (low = 0): Shape<number> =>
  (value, at) =>
    Number.isSafeInteger(value) && (value as number) >= low
      ? (value as number)
      : refuse(at, `a whole number of ${low} or more`, value);

export const oneOf =
  <const T extends string | number>(...names: readonly T[]): Shape<T> =>
  (value, at) =>
    names.includes(value as T) ? (value as T) : refuse(at, names.map(name => JSON.stringify(name)).join(' or '), value);

export const nullable =
  <T>(shape: Shape<T>): Shape<T | null> =>
  (value, at) =>
    value === null ? null : shape(value, at);

/** What may be missing, and is then undefined. */
export const optional =
  <T>(shape: Shape<T>): Shape<T | undefined> =>
  (value, at) =>
    value === undefined ? undefined : shape(value, at);

export const list =
  <T>(shape: Shape<T>): Shape<readonly T[]> =>
  (value, at) =>
    Array.isArray(value) ? value.map((item, i) => shape(item, `${at}[${i}]`)) : refuse(at, 'a list', value);

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** By name, whatever the names. */
export const mapOf =
  <T>(shape: Shape<T>): Shape<Readonly<Record<string, T>>> =>
  (value, at) =>
    isObject(value)
      ? Object.fromEntries(Object.entries(value).map(([name, item]) => [name, shape(item, `${at}.${name}`)]))
      : refuse(at, 'an object', value);

type Fields = Readonly<Record<string, Shape<unknown>>>;
type Of<F extends Fields> = { readonly [K in keyof F]: F[K] extends Shape<infer T> ? T : never };

/** These fields; others are left as they are, since later versions may write more. */
export const object =
  <F extends Fields>(fields: F): Shape<Of<F>> =>
  (value, at) => {
    if (!isObject(value)) return refuse(at, 'an object', value);
    const read: Record<string, unknown> = { ...value };
    for (const [name, shape] of Object.entries(fields)) read[name] = shape(value[name], `${at}.${name}`);
    return read as Of<F>;
  };

/** Any value of JSON. */
export const anything: Shape<unknown> = value => value;
