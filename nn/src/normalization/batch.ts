/** Normalisation of each channel by the statistics of the batch, of which running averages are kept. */

import { describe, noGrad, ones, ShapeError, type Tensor, zeros } from '@otimes/core';
import { aNumber, checkOptions } from '@otimes/core/extend';
import { anEps, checkPositive, PLACEMENT, type Placement, withoutRng } from '../check.ts';
import { batchNorm, batchNormEval } from '../functional.ts';
import type { Member } from '../members.ts';
import { Module } from '../module.ts';
import { Buffer, Parameter } from '../parameter.ts';

const OPTIONS = { eps: anEps, ...PLACEMENT };

/** The names of the buffers in a state dict are PyTorch's. */
const STATE_NAMES: Record<string, string> = {
  runningMean: 'running_mean',
  runningVar: 'running_var',
  numBatchesTracked: 'num_batches_tracked',
};

/**
 * Over each channel of x [N, C, H, W] (Ioffe & Szegedy 2015). In training with the statistics of the batch, of which it keeps
 * running averages: running ← (1 − momentum) · running + momentum · batch, with the unbiased variance, as in PyTorch. In
 * evaluation with those averages. In a state dict they are `running_mean`, `running_var` and `num_batches_tracked`.
 */
export class BatchNorm2d extends Module {
  static readonly builtIn: string = 'BatchNorm2d';
  static override readonly tensors: readonly string[] = ['weight', 'bias', ...Object.values(STATE_NAMES)];
  /** [channels], initially ones */
  weight: Parameter;
  /** [channels], initially zeros */
  bias: Parameter;
  /** [channels], initially zeros */
  runningMean: Buffer;
  /** [channels], initially ones */
  runningVar: Buffer;
  /** int32 scalar: how many batches were seen in training. */
  numBatchesTracked: Buffer;
  readonly eps: number;
  readonly momentum: number;

  /** @param o eps: default 1e-5, added to the variance; momentum: weight of the new batch in the running averages, default 0.1 */
  constructor(channels: number, o: { eps?: number; momentum?: number } & Placement = {}) {
    super();
    checkOptions('BatchNorm2d', o, { momentum: aNumber, ...OPTIONS });
    checkPositive('BatchNorm2d', { channels });
    const momentum = o.momentum ?? 0.1;
    if (!(momentum >= 0 && momentum <= 1))
      throw new RangeError(`BatchNorm2d: expected a momentum 0 ≤ momentum ≤ 1, got ${momentum}`);
    const at = withoutRng(o);
    this.eps = o.eps ?? 1e-5;
    this.momentum = momentum;
    this.weight = new Parameter(ones([channels], at));
    this.bias = new Parameter(zeros([channels], at));
    this.runningMean = new Buffer(zeros([channels], at));
    this.runningVar = new Buffer(ones([channels], at));
    this.numBatchesTracked = new Buffer(zeros([], { ...at, dtype: 'int32' }));
  }

  override forward(x: Tensor): Tensor {
    if (x.rank !== 4) throw new ShapeError(`BatchNorm2d: expected an input [N, C, H, W], got ${describe(x)}`);
    if (!this.training) return batchNormEval(x, this.runningMean, this.runningVar, this.weight, this.bias, this.eps);
    const { y, mean, variance } = batchNorm(x, this.weight, this.bias, this.eps);
    const n = x.size / mean.size;
    const share = this.momentum;
    noGrad(() => {
      this.runningMean.scale_(1 - share).addScaled_(mean, share);
      this.runningVar.scale_(1 - share).addScaled_(variance, (share * n) / (n - 1));
      this.numBatchesTracked.copy_(this.numBatchesTracked.add(1));
    });
    return y;
  }

  protected override *members(): Iterable<Member> {
    for (const [name, value] of super.members()) yield [STATE_NAMES[name] ?? name, value];
  }
}
