/**
 * Checks of what a program hands in: arguments and options of every public function. TypeScript sees most mistakes, a
 * program in plain JavaScript none, so each of these functions checks again. A check that passes costs some nanoseconds.
 */

import { DTYPES } from './dtype.ts';
import { DTypeError } from './errors.ts';

/** What an argument must be: as a test, and in words for the message. */
export interface Kind {
  /** Completes "expected NAME to be …". */
  readonly expected: string;
  readonly is: (value: unknown) => boolean;
  /** What the caller probably meant, for a value that is refused; empty if nobody knows. */
  readonly hint?: (value: unknown) => string;
  /** The class of the error. Default TypeError. */
  readonly error?: new (
    message: string,
  ) => Error;
}

/** The kind of each option. */
export type OptionKinds<O> = { readonly [K in keyof Required<O>]: Kind };

/** Throws unless `value` is of the kind. `name` is the argument's. */
export function checkArgument(op: string, name: string, value: unknown, kind: Kind): void {
  if (!kind.is(value)) throw refusal(op, name, value, kind);
}

/** Throws unless `options` is left out, or a plain object that has known options of the right kinds only. */
export function checkOptions<O extends object>(op: string, options: O | undefined, kinds: OptionKinds<O>): void {
  if (options === undefined) return;
  if (!isPlainObject(options)) {
    const names = Object.keys(kinds) as (keyof O & string)[];
    const known = names.length === 0 ? 'no options' : `options such as { ${names.slice(0, 4).join(', ')} }`;
    const meant = names.find(name => kinds[name].is(options));
    const hint = meant === undefined ? '' : `; did you mean { ${meant}: ${received(options)} }?`;
    throw new TypeError(`${op}: expected ${known}, got ${received(options)}${hint}`);
  }
  for (const name in options) {
    const value: unknown = options[name];
    const kind = Object.hasOwn(kinds, name) ? kinds[name as keyof O] : undefined;
    if (kind === undefined) throw unknownOption(op, name, Object.keys(kinds));
    if (value !== undefined && !kind.is(value)) throw refusal(op, name, value, kind);
  }
}

function refusal(op: string, name: string, value: unknown, { expected, hint, error = TypeError }: Kind): Error {
  const meant = hint?.(value) ?? '';
  return new error(`${op}: expected ${name} to be ${expected}, got ${received(value)}${meant && `; ${meant}`}`);
}

function unknownOption(op: string, name: string, known: readonly string[]): TypeError {
  const plain = (text: string) => text.toLowerCase().replaceAll('_', '');
  const wanted = plain(name);
  const start = wanted.slice(0, wanted.length * 0.7 + 1);
  // The name itself, one that begins with most of it, one with which it begins.
  const likely = [
    (one: string) => one === wanted,
    (one: string) => one.startsWith(start),
    (one: string) => wanted.startsWith(one),
  ];
  const [near] = likely.flatMap(is => known.filter(one => is(plain(one))));
  return new TypeError(
    `${op}: there is no option '${name}', only ${known.join(', ') || 'no options at all'}` +
      (near === undefined ? '' : `; did you mean '${near}'?`),
  );
}

/** A value as messages show it: `float32[2,3]` for a tensor, `'text'`, `a promise`. */
export function received(value: unknown, depth = 1): string {
  if (typeof value === 'string') return `'${value}'`;
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'function') return 'a function';
  if (typeof value !== 'object' || value === null) return String(value);
  if ('dtype' in value && 'shape' in value && Array.isArray(value.shape)) return `${value.dtype}[${value.shape}]`;
  if (Array.isArray(value)) {
    const shown = value.slice(0, 4).map(one => (depth === 0 && Array.isArray(one) ? '[…]' : received(one, depth - 1)));
    return `[${shown.join(', ')}${value.length > 4 ? ', …' : ''}]`;
  }
  if (isPlainObject(value)) return `{ ${Object.keys(value).slice(0, 4).join(', ')} }`.replace('{  }', '{}');
  if ('then' in value) return 'a promise';
  return `a ${value.constructor?.name ?? 'strange object'}`;
}

/** Whether it is a promise. The caller refuses it, and so nobody would wait for it: a failure of its own ends no process. */
export function dropPromise(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || received(value) !== 'a promise') return false;
  Promise.resolve(value).catch(() => {});
  return true;
}

/**
 * What messages call an instance. Minifiers rename classes, so those of the library have a static `builtIn`; a class of the
 * program's own is called by its name, or by what it extends where a minifier left nothing of that.
 */
export function nameOf(instance: object): string {
  const { constructor: made } = instance;
  const label = 'builtIn' in made ? String(made.builtIn) : '';
  return label !== '' && (Object.hasOwn(made, 'builtIn') || made.name.length < 3) ? label : made.name;
}

/** The method by which Node's console and REPL show an object. */
export const inspect: unique symbol = Symbol.for('nodejs.util.inspect.custom') as typeof inspect;

export function isPlainObject(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

export const aNumber: Kind = { expected: 'a number', is: v => typeof v === 'number' };
export const aPositive: Kind = {
  expected: 'a finite number above 0',
  is: v => typeof v === 'number' && v > 0 && v < Infinity,
  error: RangeError,
};
/** What is added to a denominator, say. */
export const anEps: Kind = {
  expected: 'a number ≥ 0',
  is: v => typeof v === 'number' && v >= 0 && v < Infinity,
  error: RangeError,
};
export const aNormOrder: Kind = {
  expected: 'a number above 0, or Infinity',
  is: v => typeof v === 'number' && v > 0,
  error: RangeError,
};
export const anInteger: Kind = { expected: 'an integer', is: v => Number.isInteger(v) };
/** Of the one that options come behind. */
export const anAxis: Kind = { ...anInteger, hint: v => (isPlainObject(v) ? 'options come after it' : '') };
export const aCount: Kind = {
  expected: 'an integer ≥ 1',
  is: v => Number.isInteger(v) && Number(v) >= 1,
  error: RangeError,
};
export const aBoolean: Kind = { expected: 'true or false', is: v => typeof v === 'boolean' };
export const aString: Kind = { expected: 'a string', is: v => typeof v === 'string' };
export const aFunction: Kind = { expected: 'a function', is: v => typeof v === 'function' };
export const aDevice: Kind = {
  expected: "the name of a device, such as 'cpu'",
  is: v => typeof v === 'string',
};
export const aDType: Kind = {
  expected: DTYPES.map(name => `'${name}'`).join(' or '),
  is: v => (DTYPES as readonly unknown[]).includes(v),
  error: DTypeError,
};
/** Lengths of axes; whether they are integers ≥ 0 is for `checkShape` to say. */
export const aShape: Kind = {
  expected: 'a shape such as [2, 3]',
  is: v => Array.isArray(v),
  hint: v => (typeof v === 'number' ? `write [${v}, …]` : ''),
};
export const aStateDict: Kind = {
  expected: 'a state dict, an object of tensors by name',
  is: isPlainObject,
  hint: v => (received(v) === 'a promise' ? 'await it' : ''),
};
export const axes: Kind = {
  expected: 'an axis or an array of axes',
  is: v => v === undefined || Number.isInteger(v) || (Array.isArray(v) && v.every(Number.isInteger)),
  hint: v => (isPlainObject(v) ? 'options come after the axes: (undefined, { … })' : ''),
};

/** One of these strings. */
export function oneOf(...choices: readonly string[]): Kind {
  return {
    expected: choices.map(c => `'${c}'`).join(' or '),
    is: v => choices.includes(v as string),
    error: RangeError,
  };
}

/** The kind itself or null. */
export function orNull(kind: Kind): Kind {
  return { ...kind, expected: `${kind.expected} or null`, is: v => v === null || kind.is(v) };
}

/** An instance of a class. `expected` is what messages call it, 'a Generator' say. */
export function anInstance(of: abstract new (...args: never[]) => object, expected: string, hint?: Kind['hint']): Kind {
  return { expected, is: v => v instanceof of, ...(hint && { hint }) };
}

/** Throws unless no argument was given. */
export function checkNone(name: string, given: readonly unknown[], hint: string): void {
  if (given.length > 0) throw new TypeError(`${name}: takes no argument, got ${received(given[0])}; ${hint}`);
}

/** Throws a RangeError with the name of an option unless low ≤ value < high. */
export function checkRange(name: string, option: string, value: number, low: number, high: number): void {
  if (!(typeof value === 'number' && value >= low && value < high))
    throw new RangeError(`${name}: expected ${option} in [${low}, ${high}), got ${received(value)}`);
}
