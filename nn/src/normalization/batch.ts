/** Normalisation of each channel by the statistics of the batch, of which running averages are kept. */

import { noGrad, type Tensor } from '@otimes/core';
import { batchNorm } from '../functional.ts';
import { ChannelNorm, type ChannelNormOptions } from './channels.ts';

/** `affine` and `trackRunningStats` default to true. */
export type BatchNormOptions = ChannelNormOptions;

/** The base of BatchNorm1d, BatchNorm2d and BatchNorm3d. */
abstract class BatchNorm extends ChannelNorm {
  readonly #name: string;
  readonly #ranks: readonly number[];

  constructor(name: string, ranks: readonly number[], channels: number, o: BatchNormOptions) {
    super(name, channels, o, { affine: true, tracks: true });
    this.#name = name;
    this.#ranks = ranks;
  }

  override forward(x: Tensor): Tensor {
    this.checkInput(this.#name, x, ...this.#ranks);
    const evaluated = this.byAverages(x);
    if (evaluated !== null) return evaluated;
    const { y, mean, variance } = batchNorm(x, this.scaleOf(x), this.bias, this.eps);
    const { numBatchesTracked, momentum } = this;
    if (!this.training || numBatchesTracked === null) return y;
    const n = x.size / mean.size;
    noGrad(() => {
      const count = numBatchesTracked.add(1);
      if (momentum === null) this.trackAll(mean, variance, n / (n - 1), count);
      else this.track(mean, variance, n / (n - 1), momentum);
      numBatchesTracked.copy_(count);
    });
    return y;
  }
}

/** Over each channel of x [N, C] or [N, C, L]; see `BatchNorm2d`. */
export class BatchNorm1d extends BatchNorm {
  static readonly builtIn: string = 'BatchNorm1d';

  constructor(channels: number, o: BatchNormOptions = {}) {
    super('BatchNorm1d', [2, 3], channels, o);
  }
}

/**
 * Over each channel of x [N, C, H, W] (Ioffe & Szegedy 2015). In training with the statistics of the batch, of which it keeps
 * running averages: running ← (1 − momentum) · running + momentum · batch, with the unbiased variance, as in PyTorch. In
 * evaluation with those averages. In a state dict they are `running_mean`, `running_var` and `num_batches_tracked`.
 */
export class BatchNorm2d extends BatchNorm {
  static readonly builtIn: string = 'BatchNorm2d';

  constructor(channels: number, o: BatchNormOptions = {}) {
    super('BatchNorm2d', [4], channels, o);
  }
}

/** Over each channel of x [N, C, D, H, W]; see `BatchNorm2d`. */
export class BatchNorm3d extends BatchNorm {
  static readonly builtIn: string = 'BatchNorm3d';

  constructor(channels: number, o: BatchNormOptions = {}) {
    super('BatchNorm3d', [5], channels, o);
  }
}
