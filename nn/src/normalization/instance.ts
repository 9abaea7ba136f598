/** Normalisation of each channel of each example by itself. */

import { describe, noGrad, ShapeError, type Tensor } from '@otimes/core';
import { groupNorm } from '../functional.ts';
import { ChannelNorm, type ChannelNormOptions } from './channels.ts';

/** `affine` and `trackRunningStats` default to false, and `momentum` null keeps the averages as they are. */
export type InstanceNormOptions = ChannelNormOptions;

/** (Ulyanov et al. 2016) */
abstract class InstanceNorm extends ChannelNorm {
  readonly #name: string;
  readonly #rank: number;

  constructor(name: string, rank: number, channels: number, o: InstanceNormOptions) {
    super(name, channels, o, { affine: false, tracks: false });
    this.#name = name;
    this.#rank = rank;
  }

  override forward(x: Tensor): Tensor {
    this.checkInput(this.#name, x, this.#rank);
    const evaluated = this.byAverages(x);
    if (evaluated !== null) return evaluated;
    const positions = x.shape.slice(2).reduce((product, n) => product * n, 1);
    if (positions < 2)
      throw new ShapeError(`${this.#name}: expected more than one position in each channel, got ${describe(x)}`);
    const scale = this.scaleOf(x);
    const y = groupNorm(x, scale.size, scale, this.bias, this.eps);
    if (!this.training || this.runningMean === null) return y;
    noGrad(() => {
      const axes = x.shape.slice(2).map((_, i) => i + 2);
      this.track(x.mean(axes).mean(0), x.var(axes).mean(0), 1, this.momentum ?? 0);
    });
    return y;
  }
}

/**
 * Over each channel of each example of x [N, C, L] (Ulyanov et al. 2016). With `trackRunningStats` evaluation takes running averages
 * of the means and unbiased variances of examples, as in PyTorch, which does not count batches here.
 */
export class InstanceNorm1d extends InstanceNorm {
  static readonly builtIn: string = 'InstanceNorm1d';

  constructor(channels: number, o: InstanceNormOptions = {}) {
    super('InstanceNorm1d', 3, channels, o);
  }
}

/** Over each channel of each example of x [N, C, H, W]; see `InstanceNorm1d`. */
export class InstanceNorm2d extends InstanceNorm {
  static readonly builtIn: string = 'InstanceNorm2d';

  constructor(channels: number, o: InstanceNormOptions = {}) {
    super('InstanceNorm2d', 4, channels, o);
  }
}

/** Over each channel of each example of x [N, C, D, H, W]; see `InstanceNorm1d`. */
export class InstanceNorm3d extends InstanceNorm {
  static readonly builtIn: string = 'InstanceNorm3d';

  constructor(channels: number, o: InstanceNormOptions = {}) {
    super('InstanceNorm3d', 5, channels, o);
  }
}
