/**
 * The collector of `MultiHeadAttention`: its projections q, k, v and o as four blocks, shared by the tokens.
 *
 * NOTE: softmax ignores what is added to all keys alike, so Σ_t ∂L/∂k_t = 0 and reduce's G of k is rounding noise. The
 * factors then take expand's G for that block, and `describe()` says so (docs/math.md, decision 6).
 */

import type { Collector } from '../collector.ts';
import { computesAs, isOurs } from './claim.ts';
import { linearBlocks } from './linear.ts';

/**
 * Claims every MultiHeadAttention; `sharing` defaults to 'reduce'. Whatever a class that extends it does in `forward`, each projection
 * is a Linear that sees its own input; one that has a `forward` of its own has no block.
 */
export const attentionCollector: Collector = {
  name: 'attention',
  collect(module, path, { sharing = 'reduce' }) {
    if (!isOurs(module, 'MultiHeadAttention')) return null;
    return (['q', 'k', 'v', 'o'] as const)
      .filter(name => computesAs(module[name], 'Linear'))
      .flatMap(name =>
        linearBlocks(module[name], { collector: 'attention', path: path === '' ? name : `${path}.${name}`, sharing }),
      );
  },
};
