/** Parts of a model that backward computes again. */

import { checkpoint, describe, GraphError, type Tensor } from '@otimes/core';
import { nameOf, versionOf } from '@otimes/core/extend';
import type { AnyModule } from '../module.ts';

/**
 * run(x), which backward computes again (see `checkpoint` of `@otimes/core`) with the modules in the mode, of training or of evaluation, that
 * they have now, also if `eval()` or `train()` came in between. The second run throws a GraphError if a buffer that a module reads in
 * evaluation was changed since.
 *
 * @param parts the modules that `run` calls, with all below them
 */
export function recomputed(parts: readonly (AnyModule | null)[], run: (x: Tensor) => Tensor, x: Tensor): Tensor {
  const modules = parts.flatMap(part => (part === null ? [] : [...part.namedModules().values()]));
  const modes = modules.map(one => ({ one, training: one.training }));
  // Those of training are written by the first run, and so put back for the second.
  const read = modules.flatMap(one => (one.training ? [] : ownBuffers(one)));
  return checkpoint((y: Tensor) => {
    for (const { one, name, buffer, version } of read)
      if (versionOf(buffer) !== version)
        throw new GraphError(
          `checkpoint: '${name}' of ${nameOf(one)}, ${describe(buffer)}, which the forward pass read in evaluation, was changed before ` +
            'backward, which computes that again',
        );
    const others = modes.filter(({ one, training }) => one.training !== training);
    for (const { one, training } of others) one.training = training;
    try {
      return run(y);
    } finally {
      for (const { one, training } of others) one.training = !training;
    }
  }, x);
}

const ownBuffers = (one: AnyModule) =>
  Array.from(one.namedBuffers(), ([name, buffer]) => ({ one, name, buffer, version: versionOf(buffer) })).filter(
    ({ name }) => !name.includes('.'),
  );
