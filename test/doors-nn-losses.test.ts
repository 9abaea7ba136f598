/** The losses of @otimes/nn that `test/doors-nn.test.ts` does not have, called with wrong arguments. */

import { Generator, ones, randn, tensor } from '@otimes/core';
import * as nn from '@otimes/nn';
import t from 'tap';
import { checkDoors, type Door } from './helpers/doors.ts';

const x = (...shape: number[]) => randn(shape, { rng: new Generator(1) });
const labels = () => tensor([1, 0], { dtype: 'int32' });
const signs = () => tensor([1, -1], { dtype: 'float32' });
const reduction = 'sum';

const losses: Record<string, Door> = {
  bceLoss: { call: nn.bceLoss, args: () => [ones([2]), ones([2]), { reduction, weight: ones([2]) }] },
  cosineEmbeddingLoss: {
    call: nn.cosineEmbeddingLoss,
    args: () => [x(2, 3), x(2, 3), signs(), { reduction, margin: 0.5 }],
  },
  ctcLoss: {
    call: nn.ctcLoss,
    args: () => [
      x(3, 2, 4),
      tensor([[1], [2]], { dtype: 'int32' }),
      [3, 3],
      [1, 1],
      { reduction, blank: 0, zeroInfinity: true },
    ],
  },
  gaussianNllLoss: {
    call: nn.gaussianNllLoss,
    args: () => [x(2), x(2), ones([2]), { reduction, full: true, eps: 1e-6 }],
    says: ['gaussianNllLoss', 'sub'],
  },
  hingeEmbeddingLoss: {
    call: nn.hingeEmbeddingLoss,
    args: () => [x(2), signs(), { reduction, margin: 1 }],
  },
  hingeLoss: { call: nn.hingeLoss, args: () => [x(2), signs(), { reduction, margin: 1 }] },
  huberLoss: { call: nn.huberLoss, args: () => [x(2), x(2), { reduction, delta: 1 }] },
  klDivLoss: { call: nn.klDivLoss, args: () => [x(2), ones([2]), { reduction, logTarget: true }] },
  l1Loss: { call: nn.l1Loss, args: () => [x(2), x(2), { reduction }] },
  marginRankingLoss: {
    call: nn.marginRankingLoss,
    args: () => [x(2), x(2), signs(), { reduction, margin: 1 }],
  },
  multiMarginLoss: {
    call: nn.multiMarginLoss,
    args: () => [x(2, 3), labels(), { reduction, margin: 1, p: 2, weight: ones([3]) }],
  },
  nllLoss: { call: nn.nllLoss, args: () => [x(2, 3), labels(), { reduction, weight: ones([3]), ignoreIndex: 0 }] },
  poissonNllLoss: {
    call: nn.poissonNllLoss,
    args: () => [x(2), ones([2]), { reduction, logInput: true, full: true, eps: 1e-8 }],
  },
  smoothL1Loss: { call: nn.smoothL1Loss, args: () => [x(2), x(2), { reduction, beta: 1 }] },
  tripletMarginLoss: {
    call: nn.tripletMarginLoss,
    args: () => [x(2, 3), x(2, 3), x(2, 3), { reduction, margin: 1, p: 2, eps: 1e-6, swap: true }],
    says: ['tripletMarginLoss', 'pairwiseDistance'],
  },
};

checkDoors(t, 'nn', Object.keys(losses), losses);
