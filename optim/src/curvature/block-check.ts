/** Checks of what collectors answer: those of a program come from plain JavaScript too. */

import { describe, Tensor } from '@otimes/core';
import {
  aBoolean,
  aCount,
  aFunction,
  anInstance,
  aString,
  checkArgument,
  isPlainObject,
  type Kind,
  oneOf,
  received,
} from '@otimes/core/extend';
import { type AnyModule, Module, Parameter } from '@otimes/nn';
import type { Canonical, LayerBlock } from './block.ts';
import type { Collector } from './collector.ts';

const aList: Kind = {
  expected: 'a list of blocks, or null for a module of another kind',
  is: v => Array.isArray(v),
  hint: v => (v === undefined ? 'is its return missing?' : ''),
};
const aBlock: Kind = { expected: 'a block', is: v => typeof v === 'object' && v !== null && !Array.isArray(v) };
const left = (kind: Kind): Kind => ({ ...kind, is: v => v === undefined || kind.is(v) });

const isWindow = (v: unknown): boolean =>
  v === undefined ||
  (isPlainObject(v) && ['kernel', 'stride', 'padding', 'dilation'].every(key => Array.isArray(v[key])));

/** What a block must have. */
const MEMBERS: { readonly [K in keyof Required<LayerBlock>]: Kind } = {
  path: aString,
  collector: aString,
  sharing: oneOf('expand', 'reduce'),
  tap: anInstance(Module, 'a module'),
  parameters: {
    expected: 'a list of one Parameter or more',
    is: v => Array.isArray(v) && v.length > 0 && v.every(p => p instanceof Parameter),
  },
  dOut: aCount,
  dIn: aCount,
  taps: left(aCount),
  hasBias: left(aBoolean),
  further: left({ expected: 'a list of uses { tap, canonical }', is: v => Array.isArray(v) }),
  oneHot: left(oneOf('A', 'G')),
  takesIndices: left(aBoolean),
  layer: left({
    expected:
      'a layer { module, weight, bias }, of a convolution with its window { kernel, stride, padding, dilation }',
    is: v =>
      typeof v === 'object' &&
      v !== null &&
      ['module', 'weight', 'bias'].every(key => key in v) &&
      Reflect.get(v, 'module') instanceof Module &&
      Reflect.get(v, 'weight') instanceof Parameter &&
      isWindow(Reflect.get(v, 'window')),
  }),
  canonical: aFunction,
  gradient: aFunction,
  add: aFunction,
  norm: left(aFunction),
  listen: left(aFunction),
};

/** Returns the check of the answers for one model. `name` is the optimizer's. */
export function blockCheck(name: string, model: AnyModule): (by: Collector, path: string, answer: unknown) => void {
  const trainable = new Set(model.parameters().filter(p => p.requiresGrad));
  const modules = new Set<unknown>(model.namedModules().values());
  const paths = new Set<string>();
  return (by, path, answer) => {
    const where = `${name}: collector '${by.name}' at '${path}'`;
    checkArgument(where, 'what collect() returns', answer, aList);
    for (const [i, block] of (answer as readonly unknown[]).entries()) {
      checkArgument(where, `block ${i}`, block, aBlock);
      const { parameters, tap, further = [], path: own } = checkMembers(where, i, block as LayerBlock);
      for (const one of [tap, ...further.map(use => use.tap)])
        if (!modules.has(one))
          throw new Error(`${where}: the tap of block ${i}, ${received(one)}, is no module of the model`);
      const foreign = parameters.find(p => !trainable.has(p));
      if (foreign !== undefined)
        throw new Error(
          `${where}: block ${i} has ${describe(foreign)}, which ${
            foreign.requiresGrad ? 'is no parameter of the model' : 'is frozen: leave it out'
          }`,
        );
      if (paths.has(own)) throw new Error(`${where}: block ${i} has the path '${own}', and so has another block`);
      paths.add(own);
    }
  };
}

function checkMembers(where: string, i: number, block: LayerBlock): LayerBlock {
  let key: keyof LayerBlock;
  for (key in MEMBERS) checkArgument(where, `block ${i}'s ${key}`, block[key], MEMBERS[key]);
  const { dIn, taps = 1, hasBias = false } = block;
  if ((dIn - Number(hasBias)) % taps !== 0 || dIn - Number(hasBias) < taps)
    throw new RangeError(
      `${where}: expected block ${i}'s dIn to count channels of ${taps} taps each${hasBias ? ', and a bias' : ''}, got ${dIn}`,
    );
  return block;
}

/** What a block's `canonical` returned. Throws a TypeError unless it is a [batch, shared, dIn] and g [batch, shared, dOut]. */
export function checkedCanonical({ collector, path, dOut, dIn }: LayerBlock, answer: unknown): Canonical {
  if (isCanonical(answer, dOut, dIn)) return answer;
  const isPair = typeof answer === 'object' && answer !== null && 'a' in answer && 'g' in answer;
  throw new TypeError(
    `${collector} collector: expected canonical() of '${path}' to return { a, g } with a [batch, shared, ${dIn}] and ` +
      `g [batch, shared, ${dOut}], got ${isPair ? `a ${received(answer.a)}, g ${received(answer.g)}` : received(answer)}`,
  );
}

function isCanonical(v: unknown, dOut: number, dIn: number): v is Canonical {
  if (typeof v !== 'object' || v === null || !('g' in v && 'a' in v)) return false;
  const { g } = v;
  if (!(g instanceof Tensor) || g.rank !== 3 || g.shape[2] !== dOut) return false;
  // Where there is a Gram matrix `a` may be made when it is asked for.
  if ('gramA' in v && typeof v.gramA === 'function') return true;
  const { a } = v;
  return (
    a instanceof Tensor && a.rank === 3 && a.shape[2] === dIn && a.shape[0] === g.shape[0] && a.shape[1] === g.shape[1]
  );
}
