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
export function evaluated(
  model: Module,
  length: number,
  sums: (from: number, count: number) => Sums,
): Promise<Evaluation> {
  const parts = Array.from({ length: Math.ceil(length / PART) }, (_, i) => i * PART);
  return evaluatedBatches(model, parts, from => {
    const count = Math.min(PART, length - from);
    return { ...sums(from, count), count };
  });
}

/** The same over batches. */
export async function evaluatedBatches<B>(
  model: Module,
  batches: Iterable<B> | AsyncIterable<B>,
  sums: (batch: B) => Sums & { readonly count: number },
): Promise<Evaluation> {
  const modes = [...model.namedModules().values()].map(module => ({ module, training: module.training }));
  let [loss, metric, length] = [0, 0, 0];
  model.eval();
  try {
    for await (const batch of batches) {
      const part = noGrad(() =>
        scope(() => {
          const { loss, metric, count } = sums(batch);
          return { loss: loss.detach().keep(), metric: metric.detach().keep(), count };
        }),
      );
      loss += await part.loss.number();
      metric += await part.metric.number();
      length += part.count;
    }
  } finally {
    for (const { module, training } of modes) module.training = training;
  }
  return { loss: loss / length, metric: metric / length };
}
