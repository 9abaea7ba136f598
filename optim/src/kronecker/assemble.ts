/** The blocks of a model with the options that a user has set for them, and what no block claims. */

import type { AnyModule, Parameter } from '@otimes/nn';
import { checkParameters } from '../check.ts';
import { checkClaims, isAtOrBelow } from '../curvature/claims.ts';
import { collectBlocks, defaultCollectors } from '../curvature/collector.ts';
import { checkFactorSize } from '../curvature/decompose/here.ts';
import { type KroneckerOptions, optionsAt } from './options.ts';
import { BlockState } from './state.ts';

export type Assembly = {
  readonly states: readonly BlockState[];
  /** The trainable parameters of the model and their paths. */
  readonly paths: ReadonlyMap<Parameter, string>;
  /** Those that no block has. */
  readonly unclaimed: readonly Parameter[];
};

/**
 * Throws for overrides that fit no block, for a weight that two layers share, and for factors that are too large.
 *
 * @param name the optimizer's, for messages
 * @param lr the optimizer's
 */
export function assemble(name: string, model: AnyModule, o: KroneckerOptions, lr: number): Assembly {
  const trainable = [...model.namedParameters()].filter(([, p]) => p.requiresGrad);
  checkParameters(
    name,
    trainable.map(([, p]) => p),
  );
  const { overrides = {}, collectors = defaultCollectors, maxFactorDim = Infinity } = o;
  const all = collectBlocks(name, model, collectors, { sharing: o.sharing });
  for (const key of Object.keys(overrides))
    if (!all.some(({ path }) => isAtOrBelow(path, key)))
      throw new Error(
        `${name}: overrides: there is no block at or below '${key}', only ${all.map(({ path }) => `'${path}'`).join(', ')}`,
      );
  const blocks = all.filter(({ path }) => !optionsAt(overrides, path).skip);
  checkClaims(name, model, blocks);
  const claimed = new Set(blocks.flatMap(block => block.parameters));
  for (const { path, parameters } of all)
    if (optionsAt(overrides, path).skip && parameters.some(p => claimed.has(p)))
      throw new Error(
        `${name}: overrides: '${path}' cannot be skipped alone, because other blocks share its parameters: skip the layer`,
      );
  const states = blocks.map(block => {
    const { lr: own, sharing } = optionsAt(overrides, block.path);
    if (own !== undefined && own !== 0 && lr === 0)
      throw new RangeError(`${name}: a block cannot have lr ${own} beside an optimizer's lr of 0`);
    const lrRatio = own === undefined || lr === 0 ? 1 : own / lr;
    const state = new BlockState(block, { sharing, lrRatio, maxFactorDim });
    if (!state.identityA) checkFactorSize(name, state.label, 'A', block.dIn);
    if (!state.identityG) checkFactorSize(name, state.label, 'G', block.dOut);
    return state;
  });
  const unclaimed = trainable.map(([, p]) => p).filter(p => !claimed.has(p));
  return { states, paths: new Map(trainable.map(([path, p]) => [p, path])), unclaimed };
}
