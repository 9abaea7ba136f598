/** What evaluations share: they leave no trace in a model, and read in parts of a split. */

import { noGrad, scope, type Tensor } from '@otimes/core';
import type { Module } from '@otimes/nn';
import type { Evaluation } from '../experiment.ts';

/** Sums over some samples, scalars. */
export type Sums = { readonly loss: Tensor; readonly metric: Tensor };

/** Samples at once: between layers a whole split would need much memory. */
const PART = 500;

/**
 * Means over `length` samples in eval mode, without gradients; the model is then in the mode in which it was.
 *
 * @param sums of the loss and of the metric over the samples from `from` on, `count` of them
 */
export async function evaluated(
  model: Module,
  length: number,
  sums: (from: number, count: number) => Sums,
): Promise<Evaluation> {
  const modes = [...model.namedModules().values()].map(module => ({ module, training: module.training }));
  let [loss, metric] = [0, 0];
  model.eval();
  try {
    for (let from = 0; from < length; from += PART) {
      const part = noGrad(() =>
        scope(() => {
          const { loss, metric } = sums(from, Math.min(PART, length - from));
          return { loss: loss.detach().keep(), metric: metric.detach().keep() };
        }),
      );
      loss += await part.loss.number();
      metric += await part.metric.number();
    }
  } finally {
    for (const { module, training } of modes) module.training = training;
  }
  return { loss: loss / length, metric: metric / length };
}
