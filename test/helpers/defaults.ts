// A short training run at the defaults.

import type { Tensor } from '@otimes/core';
import { crossEntropy, type Module } from '@otimes/nn';
import type { Optimizer } from '@otimes/optim';

/** Trains on batches that `batch` makes; the last loss. */
export function train(
  model: Module,
  optimizer: Optimizer,
  steps: number,
  batch: (step: number) => readonly [Tensor, Tensor],
  lossOf: typeof crossEntropy = crossEntropy,
): number {
  let last = Number.NaN;
  for (let step = 0; step < steps; step++) {
    const [x, y] = batch(step);
    optimizer.zeroGrad();
    const loss = lossOf(model.call(x) as Tensor, y);
    loss.backward();
    void optimizer.step();
    last = loss.item();
  }
  return last;
}

export const valuesOf = (m: Module) => m.parameters().map(p => p.detach().clone());
