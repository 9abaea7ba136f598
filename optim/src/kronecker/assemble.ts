/** The blocks of a model with the options that a user has set for them, and what no block claims. */

import type { AnyModule, Parameter } from '@otimes/nn';
import type { FixedBasis } from '../curvature/basis.ts';
import { checkClaims } from '../curvature/claims.ts';
import { collectBlocks, defaultCollectors } from '../curvature/collector.ts';
import { trainableOf } from '../curvature/model.ts';
import { chooseSides } from '../curvature/structure.ts';
import type { KroneckerOptions } from './options.ts';
import { checkPaths, lrRatioOf, optionsAt } from './overrides.ts';
import { BlockState } from './state.ts';

type Assembly = {
  readonly states: readonly BlockState[];
  /** The trainable parameters of the model and their paths. */
  readonly paths: ReadonlyMap<Parameter, string>;
  /** Those that no block has. */
  readonly unclaimed: readonly Parameter[];
  /** Whether no collector of the program made any block, whose methods are code of the program. */
  readonly areOurs: boolean;
  /** Whether 'auto' has structured a factor. */
  readonly isStructured: boolean;
};

/**
 * Throws for overrides that fit no block, where there is none for a kind with a basis of its own, for a weight that two layers share, and for factors that are too large.
 *
 * @param name the optimizer's, for messages
 * @param lr the optimizer's
 * @param consequence what the line about structures ends with
 * @param fixedBasis what blocks have in the place of eigenbases
 */
export function assemble(
  name: string,
  model: AnyModule,
  o: KroneckerOptions,
  lr: number,
  consequence: string,
  fixedBasis: FixedBasis | undefined,
): Assembly {
  const paths = trainableOf(name, model);
  const { overrides = {}, collectors = defaultCollectors, maxFactorDim = Infinity, refreshBudget = 2 } = o;
  const all = collectBlocks(name, model, collectors, { sharing: o.sharing });
  checkPaths(name, overrides, all);
  const blocks = all.filter(({ path }) => !optionsAt(overrides, path).skip);
  // KFAC and its kin are their rest there, as they were.
  if (blocks.length === 0 && fixedBasis !== undefined)
    throw new Error(
      `${name}: ${all.length === 0 ? 'the model has no layer that a collector knows' : 'overrides skip all'}, so the rest ` +
        'optimizer would train everything: use that alone',
    );
  checkClaims(name, model, blocks);
  const claimed = new Set(blocks.flatMap(block => block.parameters));
  for (const { path, parameters } of all)
    if (optionsAt(overrides, path).skip && parameters.some(p => claimed.has(p)))
      throw new Error(
        `${name}: overrides: '${path}' cannot be skipped alone, because other blocks share its parameters: skip the layer`,
      );
  const wanted = blocks.map(block => {
    const own = optionsAt(overrides, block.path);
    const structure = own.structure ?? o.structure ?? 'auto';
    const blockDim = own.blockDim ?? o.blockDim ?? 512;
    return { block, label: `${block.collector} '${block.path}'`, structure, blockDim, maxFactorDim };
  });
  let isStructured = false;
  const sides = chooseSides(wanted, refreshBudget, text => {
    isStructured = true;
    console.warn(`${name}: ${text}${consequence}`);
  });
  const states = blocks.map((block, i) => {
    const { lr: own, sharing } = optionsAt(overrides, block.path);
    const lrRatio = lrRatioOf(name, own, lr);
    const state = new BlockState(block, { sharing, lrRatio, sides: sides[i], fixedBasis });
    state.checkSizes(name);
    return state;
  });
  const areOurs = collectors.every(one => defaultCollectors.includes(one));
  return { states, paths, unclaimed: [...paths.keys()].filter(p => !claimed.has(p)), areOurs, isStructured };
}
