/** Checks of an experiment that was read from a file or written by hand: every error names the file, the place in it and what was meant. */

import { readFileSync } from 'node:fs';
import { isPlainObject, received } from '@otimes/core/extend';
import { KRONECKER_OPTIONS } from '@otimes/optim';
import { CONTENDERS } from './contenders/index.ts';
import type { Contender, Dimension, Experiment } from './experiment.ts';
import type { Library } from './library.ts';
import { didYouMean } from './nearest.ts';

/** An experiment that cannot be run as it is written. */
export class ConfigError extends Error {
  override name = 'ConfigError';
}

/** A check of the value at a place: throws a ConfigError. `at` is `my.json: tuning.trials`. */
type Check = (at: string, value: unknown) => void;

const fail = (at: string, expected: string, value: unknown): never => {
  throw new ConfigError(`${at}: expected ${expected}, got ${received(value)}`);
};
const kind =
  (expected: string, is: (value: unknown) => boolean): Check =>
  (at, value) =>
    is(value) || fail(at, expected, value);

const isNumber = (value: unknown): value is number => Number.isFinite(value);
const text = kind('a text', v => typeof v === 'string' && v.length > 0);
const number = kind('a finite number', isNumber);
const atLeast = (least: number) =>
  kind(`a whole number of at least ${least}`, v => Number.isInteger(v) && Number(v) >= least);
const scalar = kind('a number, a text, true or false', v => isNumber(v) || ['string', 'boolean'].includes(typeof v));
const json = kind('a record of JSON', v => isPlainObject(v) && isJson(v));
const orNull =
  (check: Check): Check =>
  (at, value) =>
    value === null || check(at, value);

function isJson(value: unknown): boolean {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return true;
  if (typeof value === 'number') return Number.isFinite(value);
  if (Array.isArray(value)) return value.every(isJson);
  return isPlainObject(value) && Object.values(value).every(isJson);
}

/** One of these, which are called `what`. */
const oneOf =
  (what: string, names: readonly string[]): Check =>
  (at, value) => {
    if (typeof value === 'string' && names.includes(value)) return;
    const hint = typeof value === 'string' ? didYouMean(value, names) : '';
    throw new ConfigError(`${at}: expected ${what} of ${names.join(', ')}, got ${received(value)}${hint}`);
  };

/** At least one, each once. */
const listOf =
  (check: Check): Check =>
  (at, value) => {
    if (!Array.isArray(value) || value.length === 0) return fail(at, 'a list of at least one', value);
    for (const [i, one] of value.entries()) {
      check(`${at}[${i}]`, one);
      if (value.indexOf(one) !== i) throw new ConfigError(`${at}[${i}]: ${received(one)} comes twice`);
    }
  };

const recordOf =
  (name: Check, check: Check): Check =>
  (at, value) => {
    if (!isPlainObject(value)) return fail(at, 'a record', value);
    for (const [key, one] of Object.entries(value)) {
      name(at, key);
      check(`${at}.${key}`, one);
    }
  };

/** These names, no others; those with a question mark may be missing. */
const fields =
  (checks: Readonly<Record<string, Check>>): Check =>
  (at, value) => {
    if (!isPlainObject(value)) return fail(at, 'a record', value);
    const known = Object.keys(checks).map(name => name.replace('?', ''));
    for (const [name, one] of Object.entries(value)) {
      const check = checks[name] ?? checks[`${name}?`];
      if (check === undefined || name.endsWith('?'))
        throw new ConfigError(`${at}: there is no '${name}', only ${known.join(', ')}${didYouMean(name, known)}`);
      check(place(at, name), one);
    }
    for (const name of Object.keys(checks))
      if (!name.endsWith('?') && !Object.hasOwn(value, name))
        throw new ConfigError(`${at}: expected '${name}', which is missing`);
  };

/** `my.json: tuning` → `my.json: tuning.trials`. */
const place = (at: string, name: string): string => (at.includes(': ') ? `${at}.${name}` : `${at}: ${name}`);

const range = { low: number, high: number, default: number };
const dimension: Check = (at, value) => {
  const scale = isPlainObject(value) ? value.scale : undefined;
  if (scale === 'choice') {
    fields({ scale: text, choices: listOf(scalar), default: scalar })(at, value);
    const { choices, default: usual } = value as Dimension & { scale: 'choice' };
    if (!choices.includes(usual)) fail(`${at}.default`, `one of the choices ${choices.join(', ')}`, usual);
    return;
  }
  if (isPlainObject(value)) oneOf('a scale', ['log', 'linear', 'choice'])(`${at}.scale`, scale);
  fields({ scale: text, ...range })(at, value);
  const { low, high, default: usual } = value as Dimension & { scale: 'log' };
  if (!(low < high)) fail(`${at}.high`, `a number above low, ${low}`, high);
  if (scale === 'log' && low <= 0) fail(`${at}.low`, 'a number above 0 on a log scale', low);
  if (usual < low || usual > high) fail(`${at}.default`, `a number from ${low} to ${high}`, usual);
};

/** Throws a ConfigError unless `value` is a space of settings; `at` says of whom. */
export const checkSpace: Check = recordOf(() => {}, dimension);

/** The part of a name between slashes. */
const PART = '[A-Za-z0-9]+(?:[-._][A-Za-z0-9]+)*';
const NAME = new RegExp(`^${PART}(?:/${PART})*$`);

/**
 * Throws a ConfigError unless `value` is an experiment that can be run with the library.
 *
 * @param from what messages call it: a file
 */
export function checkExperiment(from: string, value: unknown, library: Library): asserts value is Experiment {
  const contender = oneOf('a contender', [...library.contenders.keys()]);
  fields({
    name: kind('a name of letters, digits, dashes and slashes', v => typeof v === 'string' && NAME.test(v)),
    ...{ title: text, about: text },
    task: oneOf('a task', [...library.tasks.keys()]),
    taskOptions: json,
    ...{ target: number, targetFrom: text, epochs: atLeast(1), checksPerEpoch: atLeast(1), seeds: atLeast(1) },
    tuning: fields({
      trials: atLeast(0),
      seed: atLeast(0),
      giveUp: orNull(kind('a number of at least 1, or null', v => isNumber(v) && v >= 1)),
    }),
    schedules: listOf(oneOf('a schedule', ['constant', 'cosine', 'linear'])),
    finalists: oneOf('a choice', ['best', 'each schedule']),
    contenders: listOf(contender),
    'spaces?': recordOf(
      contender,
      recordOf(() => {}, dimension),
    ),
    'fixed?': recordOf(
      contender,
      recordOf(() => {}, scalar),
    ),
    kronecker: json,
    'short?': json,
    'takes?': text,
  })(from, value);
  const { tuning, seeds, schedules, finalists, contenders, kronecker } = value as Experiment;
  // Contenders of a program may share what they like.
  if (contenders.some(name => OWN.has(library.contenders.get(name)!)))
    for (const name of Object.keys(kronecker))
      if (!KRONECKER_NAMES.includes(name))
        throw new ConfigError(
          `${from}: kronecker: there is no '${name}', only ${KRONECKER_NAMES.join(', ')}${didYouMean(name, KRONECKER_NAMES)}`,
        );
  if (tuning.seed < seeds)
    throw new ConfigError(
      `${from}: tuning.seed: expected a seed of none of the final runs, which have 0 to ${seeds - 1}, got ${tuning.seed}`,
    );
  const least = finalists === 'each schedule' ? schedules.length : 1;
  if (tuning.trials === 0 ? finalists === 'best' && schedules.length > 1 : tuning.trials < least)
    throw new ConfigError(
      `${from}: tuning.trials: expected a trial for each schedule, of which there are ${schedules.length}, got ${tuning.trials}`,
    );
}

/** Contenders that take what the Kronecker optimizers of an experiment share as options of the library. */
const OWN: ReadonlySet<Contender> = new Set(CONTENDERS.filter(({ family }) => family !== 'first-order'));
const KRONECKER_NAMES = Object.keys(KRONECKER_OPTIONS);

/** Reads and checks an experiment in a JSON file. */
export function readExperiment(path: string, library: Library): Experiment {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    throw new ConfigError(`--config ${path}: ${(cause as Error).message}`, { cause });
  }
  checkExperiment(path, value, library);
  return value;
}

/** Where two values of JSON differ, as `tuning.trials: 8, now 4`. */
export function differences(before: unknown, now: unknown, path = ''): string[] {
  if (isPlainObject(before) && isPlainObject(now)) {
    const names = [...new Set([...Object.keys(before), ...Object.keys(now)])];
    return names.flatMap(name => differences(before[name], now[name], path === '' ? name : `${path}.${name}`));
  }
  const show = (value: unknown) => (value === undefined ? 'nothing' : JSON.stringify(value));
  return show(before) === show(now) ? [] : [`${path}: ${show(before)}, now ${show(now)}`];
}
