/** Checks of what optimizers are made from. */

import { describe, Tensor } from '@otimes/core';
import {
  aBoolean,
  aNumber,
  checkArgument,
  type Kind,
  noteKnown,
  type OptionKinds,
  received,
} from '@otimes/core/extend';

const someParameters: Kind = {
  expected: 'an iterable of tensors, such as model.parameters()',
  is: v => typeof v === 'object' && v !== null && Symbol.iterator in v,
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

export function checkLr(name: string, lr: number): void {
  checkRange(name, 'lr', lr, 0, Infinity);
}

/** Throws unless low ≤ value < high. */
export function checkRange(name: string, option: string, value: number, low: number, high: number): void {
  if (!(typeof value === 'number' && value >= low && value < high))
    throw new RangeError(`${name}: expected ${option} in [${low}, ${high}), got ${received(value)}`);
}

/** Throws unless no argument was given. */
export function checkNone(name: string, given: readonly unknown[], hint: string): void {
  if (given.length > 0) throw new TypeError(`${name}: takes no argument, got ${received(given[0])}; ${hint}`);
}
