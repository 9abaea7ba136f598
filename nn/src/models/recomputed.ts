/** Parts of models that backward computes again. */

import { checkpoint, type Tensor } from '@otimes/core';
import type { AnyModule } from '../module.ts';

/**
 * `checkpoint` of `run`, a part of `module`. Backward computes it in the modes of the forward pass, whatever `train` and `eval` did since:
 * dropout drops what it dropped, and batch norm takes the statistics that it took.
 */
export function recomputed(module: AnyModule, run: (x: Tensor) => Tensor, x: Tensor): Tensor {
  const modules = module.modules();
  const modes = modules.map(one => one.training);
  return checkpoint((y: Tensor) => {
    const now = modules.map(one => one.training);
    setModes(modules, modes);
    try {
      return run(y);
    } finally {
      setModes(modules, now);
    }
  }, x);
}

function setModes(modules: readonly AnyModule[], modes: readonly boolean[]): void {
  // One that is frozen by Object.freeze is left alone: its mode cannot have changed.
  for (const [i, one] of modules.entries()) if (one.training !== modes[i]) one.training = modes[i]!;
}
