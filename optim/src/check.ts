/** Checks of what optimizers are made from. */

import { describe, ReleasedError, sameShape, Tensor } from '@otimes/core';
import {
  aBoolean,
  aNumber,
  borrowGrad,
  checkArgument,
  checkRange,
  isPlainObject,
  type Kind,
  noteKnown,
  type OptionKinds,
  received,
} from '@otimes/core/extend';

const someParameters: Kind = {
  expected: 'an iterable of tensors, such as model.parameters()',
  is: v => typeof v === 'object' && v !== null && Symbol.iterator in v && !(v instanceof Tensor),
  hint: v =>
    v instanceof Tensor
      ? 'give a list: [w]'
      : typeof v === 'function' || (typeof v === 'object' && v !== null && 'parameters' in v)
        ? 'did you mean model.parameters()?'
        : '',
};

/** What `parameters` lists, or an error that says what it should be. */
export function listOf<T>(name: string, parameters: Iterable<T>): T[] {
  checkArgument(name, 'parameters', parameters, someParameters);
  return [...parameters];
}

/** Throws unless `p`, the `i`-th parameter, is a tensor. */
export function checkTensor(name: string, p: unknown, i: number): void {
  if (p instanceof Tensor) return;
  const hint = Array.isArray(p) && p[1] instanceof Tensor ? '; of a map of parameters give the values()' : '';
  throw new TypeError(`${name}: parameter ${i} is no tensor, but ${received(p)}${hint}`);
}

/** Throws unless there is at least one parameter, each is a leaf with a gradient, and none comes twice. They are known now. */
export function checkParameters(name: string, parameters: readonly Tensor[]): void {
  if (parameters.length === 0) throw new Error(`${name}: expected at least one parameter, got none`);
  const seen = new Set<Tensor>();
  parameters.forEach((p, i) => {
    checkTensor(name, p, i);
    if (!p.requiresGrad || !p.isLeaf)
      throw new Error(
        `${name}: parameter ${i}, ${describe(p)}, is not a leaf that requires a gradient` +
          (p.isLeaf ? '; leave frozen ones out: parameters().filter(p => p.requiresGrad)' : ''),
      );
    if (seen.has(p)) throw new Error(`${name}: parameter ${i}, ${describe(p)}, is given twice`);
    seen.add(p);
  });
  noteKnown(parameters);
}

/** The kinds of options, from their defaults. */
export function kindsOf<O extends object>(defaults: O): OptionKinds<O> {
  const kinds = Object.entries(defaults).map(([name, value]: [string, unknown]) => [name, kindOf(value)]);
  return Object.fromEntries(kinds) as OptionKinds<O>;
}

const anything: Kind = { expected: 'anything', is: () => true };

function kindOf(value: unknown): Kind {
  if (typeof value === 'number') return aNumber;
  if (typeof value === 'boolean') return aBoolean;
  if (!Array.isArray(value)) return anything;
  const is = (v: unknown) => Array.isArray(v) && v.length === value.length && v.every(one => typeof one === 'number');
  return { expected: `${value.length} numbers such as [${value.join(', ')}]`, is };
}

/** Throws unless `value` is in [0, 1]. */
export function checkShare(name: string, option: string, value: number): void {
  if (!(value >= 0 && value <= 1))
    throw new RangeError(`${name}: expected ${option} in [0, 1], got ${received(value)}`);
}

export function checkLr(name: string, lr: number): void {
  checkRange(name, 'lr', lr, 0, Infinity);
}

/** Throws unless `o` is an object of options, of which those that are known are of their kinds; others are not looked at. */
export function checkKnown<O extends object>(name: string, o: unknown, kinds: OptionKinds<O>): void {
  checkArgument(name, 'its options', o, { expected: 'an object of options, {} for none', is: isPlainObject });
  for (const [option, kind] of Object.entries<Kind>(kinds)) {
    const value: unknown = Reflect.get(o as object, option);
    if (value !== undefined) checkArgument(name, option, value, kind);
  }
}

/** A learning rate. */
export const aRate: Kind = { expected: 'a finite number ≥ 0', is: v => Number.isFinite(v) && Number(v) >= 0 };

/** Throws unless `value` is an object whose members are of these kinds. `what` it is, for messages. */
export function checkMembers<T>(
  name: string,
  what: string,
  value: unknown,
  kinds: { readonly [K in keyof T]?: Kind },
): T {
  const names = Object.keys(kinds);
  const shown = names.slice(0, 4).join(', ');
  const expected = `an object such as { ${shown}${names.length > 4 ? ', …' : ''} }`;
  checkArgument(name, what, value, { expected, is: v => typeof v === 'object' && v !== null && !Array.isArray(v) });
  for (const [key, kind] of Object.entries<Kind | undefined>(kinds))
    if (kind !== undefined) checkArgument(name, `${what}'s ${key}`, Reflect.get(value as object, key), kind);
  return value as T;
}

/** Throws unless `names` are distinct and can be parts of a key in a state dict. `taken` are those that stand for something else. */
export function checkNames(name: string, what: string, names: unknown, taken: readonly string[]): readonly string[] {
  const isName = (v: unknown) => typeof v === 'string' && v !== '' && !v.includes('.');
  const expected = "a list of names without dots, such as ['m']";
  checkArgument(name, what, names, { expected, is: v => Array.isArray(v) && v.every(isName) });
  const list = names as readonly string[];
  const twice = list.find((one, i) => list.indexOf(one) < i);
  if (twice !== undefined) throw new TypeError(`${name}: ${what} have '${twice}' twice`);
  const reserved = list.find(one => taken.includes(one));
  if (reserved !== undefined)
    throw new TypeError(
      `${name}: ${what} have '${reserved}', under which a state dict has something else; taken are ${taken.join(', ')}`,
    );
  return list;
}

/** As messages show it: `float32[2,3] on 'cpu'` for a tensor. */
export function showOn(x: unknown): string {
  const on = typeof x === 'object' && x !== null && 'dtype' in x && 'device' in x ? ` on '${String(x.device)}'` : '';
  return received(x) + on;
}

type Like = Pick<Tensor, 'shape' | 'dtype' | 'device'>;

/** Whether it is a tensor of this shape and dtype, on this device. */
export const isLike = (x: unknown, { shape, dtype, device }: Like): x is Tensor =>
  x instanceof Tensor && x.dtype === dtype && x.device === device && sameShape(x.shape, shape);

/**
 * Throws unless there are tensors of these names alone, each like `like`: a state dict of others could not be loaded.
 *
 * @param what begins the message; `source` says where the names stand
 */
export function checkSlots(
  what: string,
  source: string,
  names: readonly string[],
  slots: ReadonlyMap<string, unknown>,
  like: Like,
): void {
  const wrong = [
    ...names.filter(slot => !slots.has(slot)).map(slot => `no '${slot}'`),
    ...[...slots].flatMap(([slot, x]) =>
      !names.includes(slot) ? [`'${slot}'`] : isLike(x, like) ? [] : [`'${slot}' ${showOn(x)}`],
    ),
  ];
  if (wrong.length === 0) return;
  const list = names.length === 0 ? 'none' : `${names.map(slot => `'${slot}'`).join(', ')}, each ${showOn(like)}`;
  throw new TypeError(
    `${what} to have the slots that ${source} says, ${list}; got ${wrong.join(', ')}. A state dict of it could not be loaded`,
  );
}

/** Whether a parameter and its gradient have their elements. */
export const isHeld = (p: Tensor): boolean => !p.storage.released && !borrowGrad(p)?.storage.released;

/** The error for a parameter that is not held, or whose gradient is not. `where` names the parameter. */
export function goneError(name: string, where: string, p: Tensor): ReleasedError {
  const what = p.storage.released ? '' : 'the gradient of ';
  return new ReleasedError(`${name}: ${what}${where}, ${describe(p)}, was released; no parameter was changed`);
}
