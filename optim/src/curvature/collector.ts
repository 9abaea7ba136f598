/** Collectors: the plugins that know how a kind of layer becomes Kronecker blocks. */

import type { AnyModule } from '@otimes/nn';
import type { LayerBlock, Sharing } from './block.ts';
import { blockCheck } from './block-check.ts';
import { attentionCollector } from './collectors/attention.ts';
import { convTransposeCollector } from './collectors/conv-transpose.ts';
import { conv1dCollector } from './collectors/conv1d.ts';
import { conv2dCollector } from './collectors/conv2d.ts';
import { conv3dCollector } from './collectors/conv3d.ts';
import { embeddingCollector } from './collectors/embedding.ts';
import { linearCollector } from './collectors/linear.ts';
import { recurrentCollector } from './collectors/recurrent.ts';
import { tiedCollector } from './collectors/tied.ts';

export type CollectorOptions = {
  /** What the user asked for; undefined leaves it to the collector. */
  readonly sharing: Sharing | undefined;
  /** The model, in which modules may share weights. */
  readonly model?: AnyModule | undefined;
};

/** Turns modules into blocks. A new kind of layer is one collector and its name in a list. */
export interface Collector {
  readonly name: string;
  /**
   * The blocks of `module`, or null if it is of another kind. Whoever answers first owns the module and all modules
   * below it; parameters that its blocks do not name go to the rest optimizer.
   */
  collect(module: AnyModule, path: string, options: CollectorOptions): LayerBlock[] | null;
}

/** The collectors that are asked unless the option `collectors` names others, in this order. */
export const defaultCollectors: readonly Collector[] = [
  attentionCollector,
  tiedCollector,
  recurrentCollector,
  conv1dCollector,
  conv2dCollector,
  conv3dCollector,
  convTransposeCollector,
  embeddingCollector,
  linearCollector,
];

/**
 * All blocks of a model, asking the collectors module by module from the root down. Throws a TypeError that names collector and
 * path for an answer that is no list of blocks; `name` is the optimizer's.
 */
export function collectBlocks(
  name: string,
  model: AnyModule,
  collectors: readonly Collector[],
  options: CollectorOptions,
): LayerBlock[] {
  const owned: string[] = [];
  const blocks: LayerBlock[] = [];
  const check = blockCheck(name, model);
  for (const [path, module] of model.namedModules()) {
    if (owned.some(owner => owner === '' || path.startsWith(`${owner}.`))) continue;
    for (const collector of collectors) {
      const answer = collector.collect(module, path, { ...options, model });
      if (answer === null) continue;
      check(collector, path, answer);
      owned.push(path);
      blocks.push(...answer);
      break;
    }
  }
  return blocks;
}
