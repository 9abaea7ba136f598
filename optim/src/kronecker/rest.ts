/** The optimizer of the parameters that no block claims, as a program gives it. */

import { describe, type Tensor, unscoped } from '@otimes/core';
import { received } from '@otimes/core/extend';
import type { Parameter } from '@otimes/nn';
import { type Optimizer, trainedBy } from '../optimizer.ts';

const METHODS = ['step', 'zeroGrad', 'stateDict', 'loadStateDict'] as const;

/**
 * What the option `rest` returned. Throws unless it is an optimizer, and trains exactly the unclaimed parameters. Of an optimizer
 * that is no `GradientOptimizer` nobody knows which it trains. `paths` has the names of the model's parameters.
 */
export function checkRest(
  name: string,
  rest: unknown,
  unclaimed: readonly Parameter[],
  paths: ReadonlyMap<Tensor, string>,
): Optimizer {
  if (!isOptimizer(rest)) {
    const got = received(rest);
    const hint =
      rest === undefined ? '; is its return missing?' : got === 'a promise' ? '; the function must be synchronous' : '';
    throw new TypeError(
      `${name}: expected rest to return an optimizer, as unclaimed => new SGD(unclaimed) does, got ${got}${hint}`,
    );
  }
  const trained = trainedBy(rest);
  if (trained === undefined) return rest;
  const missing = unclaimed.filter(p => !trained.includes(p)).map(p => `'${paths.get(p)}'`);
  const foreign = trained.filter(p => !unclaimed.some(q => q === p));
  if (missing.length > 0)
    throw new Error(
      `${name}: the optimizer that rest returned does not train ${missing.join(', ')}; it must train all parameters that ` +
        'rest is given. Freeze those that are to stay as they are',
    );
  if (foreign.length > 0)
    throw new Error(
      `${name}: the optimizer that rest returned trains ${foreign.map(p => nameIn(paths, p)).join(', ')} too; it must train ` +
        'the parameters that rest is given and no others',
    );
  return rest;
}

const nameIn = (paths: ReadonlyMap<Tensor, string>, p: Tensor): string => {
  const path = paths.get(p);
  return path === undefined ? `${describe(p)}, which is no parameter of the model` : `'${path}', which a block updates`;
};

function isOptimizer(value: unknown): value is Optimizer {
  if (typeof value !== 'object' || value === null) return false;
  const lr: unknown = Reflect.get(value, 'lr');
  const isRate = typeof lr === 'number' && lr >= 0 && lr < Infinity;
  return isRate && METHODS.every(method => typeof Reflect.get(value, method) === 'function');
}

/** The rest's step, outside of every scope. Throws a TypeError if it returns a promise: what it does later, nobody could take back. */
export function stepSynchronously(name: string, rest: Optimizer): void {
  const returned: unknown = unscoped(() => rest.step());
  if (received(returned) !== 'a promise') return;
  // Its own failure would have nobody to catch it.
  Promise.resolve(returned).catch(() => {});
  throw new TypeError(`${name}: rest must be synchronous, and the step() of its optimizer returned a promise`);
}
