/** Checks of what collectors answer: those of a program come from plain JavaScript too. */

import { describe } from '@otimes/core';
import { aCount, aFunction, anInstance, aString, checkArgument, type Kind, oneOf, received } from '@otimes/core/extend';
import { type AnyModule, Module, Parameter } from '@otimes/nn';
import type { KroneckerBlock } from './block.ts';
import type { Collector } from './collector.ts';

const aList: Kind = {
  expected: 'a list of blocks, or null for a module of another kind',
  is: v => Array.isArray(v),
  hint: v => (v === undefined ? 'is its return missing?' : ''),
};
const aBlock: Kind = { expected: 'a block', is: v => typeof v === 'object' && v !== null && !Array.isArray(v) };
const left = (kind: Kind): Kind => ({ ...kind, is: v => v === undefined || kind.is(v) });

/** What a block must have. */
const MEMBERS: { readonly [K in keyof Required<KroneckerBlock>]: Kind } = {
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
  layer: left({
    expected: 'a layer { module, weight, bias }',
    is: v =>
      typeof v === 'object' &&
      v !== null &&
      ['module', 'weight', 'bias'].every(key => key in v) &&
      Reflect.get(v, 'module') instanceof Module &&
      Reflect.get(v, 'weight') instanceof Parameter,
  }),
  canonical: aFunction,
  gradient: aFunction,
  add: aFunction,
  norm: left(aFunction),
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
      const { parameters, tap, path: own } = checkMembers(where, i, block as KroneckerBlock);
      if (!modules.has(tap))
        throw new Error(`${where}: the tap of block ${i}, ${received(tap)}, is no module of the model`);
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

function checkMembers(where: string, i: number, block: KroneckerBlock): KroneckerBlock {
  let key: keyof KroneckerBlock;
  for (key in MEMBERS) checkArgument(where, `block ${i}'s ${key}`, block[key], MEMBERS[key]);
  return block;
}
