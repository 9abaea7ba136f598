/** One list of all losses of @otimes/nn, and how to call each of them on a device. */

import { ones, randint, randn, type Shape, type Tensor } from '@otimes/core';
import {
  bceLoss,
  bceWithLogits,
  cosineEmbeddingLoss,
  crossEntropy,
  ctcLoss,
  gaussianNllLoss,
  hingeEmbeddingLoss,
  hingeLoss,
  huberLoss,
  klDivLoss,
  l1Loss,
  marginRankingLoss,
  mseLoss,
  multiMarginLoss,
  nllLoss,
  poissonNllLoss,
  smoothL1Loss,
  tripletMarginLoss,
} from '@otimes/nn';
import type { At } from './modules.ts';

const integers = (count: number, shape: Shape, { device, rng }: At) => randint(0, count, shape, { device, rng });

export type LossCase = { loss: (z: Tensor, y: Tensor) => Tensor; target: (at: At) => Tensor };

const labels = (at: At) => integers(4, [3], at);
const probabilities = (at: At) => randn([3, 4], at).softmax(1);
const numbers = (at: At) => randn([3, 4], at);
const signs = (at: At) => integers(2, [3, 4], at).mul(2).sub(1);
const sum = { reduction: 'sum' } as const;

/** Losses of logits or predictions [3, 4]. */
export const lossCases: Record<string, LossCase> = {
  'crossEntropy with labels': { loss: crossEntropy, target: labels },
  'crossEntropy with labels, summed': { loss: (z, y) => crossEntropy(z, y, sum), target: labels },
  'crossEntropy with labels at each position': {
    loss: (z, y) => crossEntropy(z.unsqueeze(2).expand(3, 4, 2), y),
    target: at => integers(4, [3, 2], at),
  },
  'crossEntropy with label smoothing': { loss: (z, y) => crossEntropy(z, y, { labelSmoothing: 0.1 }), target: labels },
  'crossEntropy with probabilities': { loss: crossEntropy, target: probabilities },
  mseLoss: { loss: mseLoss, target: at => randn([3, 4], at) },
  'mseLoss, summed': { loss: (z, y) => mseLoss(z, y, sum), target: at => randn([3, 4], at) },
  'mseLoss with integers': { loss: mseLoss, target: at => integers(3, [3, 4], at) },
  bceWithLogits: { loss: bceWithLogits, target: probabilities },
  'bceWithLogits, summed': {
    loss: (z, y) => bceWithLogits(z, y, sum),
    target: at => ones([3, 4], { device: at.device, dtype: at.dtype }),
  },
  'crossEntropy, weighted, some ignored': {
    loss: (z, y) => crossEntropy(z, y, { weight: z.detach().narrow(0, 0, 1).squeeze(0).abs(), ignoreIndex: 1 }),
    target: labels,
  },
  'crossEntropy of each, smoothed and weighted': {
    loss: (z, y) =>
      crossEntropy(z, y, {
        weight: z.detach().narrow(0, 0, 1).squeeze(0).abs(),
        labelSmoothing: 0.1,
        reduction: 'none',
      })
        .square()
        .sum(),
    target: labels,
  },
  nllLoss: { loss: (z, y) => nllLoss(z.logSoftmax(1), y, { ignoreIndex: 0 }), target: labels },
  l1Loss: { loss: (z, y) => l1Loss(z.square(), y), target: numbers },
  smoothL1Loss: { loss: (z, y) => smoothL1Loss(z, y, { beta: 0.5 }), target: numbers },
  huberLoss: { loss: (z, y) => huberLoss(z, y, { delta: 0.5 }), target: numbers },
  bceLoss: { loss: (z, y) => bceLoss(z.sigmoid(), y), target: probabilities },
  'bceWithLogits, weighted': {
    loss: (z, y) => bceWithLogits(z, y, { posWeight: y.mul(3), weight: y }),
    target: probabilities,
  },
  klDivLoss: { loss: (z, y) => klDivLoss(z.logSoftmax(1), y, { reduction: 'batchmean' }), target: probabilities },
  poissonNllLoss: { loss: (z, y) => poissonNllLoss(z, y, { full: true }), target: at => integers(5, [3, 4], at) },
  gaussianNllLoss: { loss: (z, y) => gaussianNllLoss(z, y, z.square().add(0.1), { full: true }), target: numbers },
  hingeLoss: { loss: (z, y) => hingeLoss(z.square(), y), target: signs },
  hingeEmbeddingLoss: { loss: (z, y) => hingeEmbeddingLoss(z.square(), y), target: signs },
  marginRankingLoss: { loss: (z, y) => marginRankingLoss(z.square(), z, y, { margin: 1 }), target: signs },
  multiMarginLoss: { loss: (z, y) => multiMarginLoss(z, y, { p: 2 }), target: labels },
  cosineEmbeddingLoss: {
    loss: (z, y) => cosineEmbeddingLoss(z, z.square(), y),
    target: at => integers(2, [3], at).mul(2).sub(1),
  },
  tripletMarginLoss: { loss: (z, y) => tripletMarginLoss(z, y, z.mul(y), { margin: 9 }), target: numbers },
  ctcLoss: {
    loss: (z, y) => ctcLoss(z.unsqueeze(1).expand(3, 2, 4).logSoftmax(2), y, [3, 2], [2, 1]),
    target: at => integers(3, [2, 2], at).add(1),
  },
};
