/** What batch and instance norm share: a scale and shift of each channel, and running averages of statistics. */

import { describe, ones, ShapeError, type Tensor, zeros } from '@otimes/core';
import { aBoolean, anEps, checkOptions, type Kind, orNull } from '@otimes/core/extend';
import { checkPositive, PLACEMENT, type Placement, withoutRng } from '../check.ts';
import { batchNormEval } from '../functional.ts';
import type { Member } from '../members.ts';
import { Module } from '../module.ts';
import { Buffer, Parameter } from '../parameter.ts';

const aShare: Kind = { expected: 'a number', is: v => typeof v === 'number' };
const OPTIONS = {
  eps: anEps,
  momentum: orNull(aShare),
  affine: aBoolean,
  trackRunningStats: aBoolean,
  ...PLACEMENT,
};

export type ChannelNormOptions = Placement & {
  /** Added to the variance; default 1e-5. */
  eps?: number;
  /** Weight of a new batch in the running averages, default 0.1. Null, of batch norms: the average of all batches seen. */
  momentum?: number | null;
  /** Whether there are a weight and a bias. */
  affine?: boolean;
  /** Whether there are running averages. Without them evaluation takes the statistics of its input, as training does. */
  trackRunningStats?: boolean;
};

/** The names of the buffers in a state dict are PyTorch's. */
const STATE_NAMES: Record<string, string> = {
  runningMean: 'running_mean',
  runningVar: 'running_var',
  numBatchesTracked: 'num_batches_tracked',
};

const AXES = ['', '', '', 'L', 'H, W', 'D, H, W'];

export abstract class ChannelNorm extends Module {
  static override readonly tensors: readonly string[] = ['weight', 'bias', ...Object.values(STATE_NAMES)];
  /** [channels], initially ones; null without `affine`. */
  weight: Parameter | null;
  /** [channels], initially zeros; null without `affine`. */
  bias: Parameter | null;
  /** [channels], initially zeros; null without `trackRunningStats`. */
  runningMean: Buffer | null;
  /** [channels], initially ones; null without `trackRunningStats`. */
  runningVar: Buffer | null;
  /** int32 scalar: how many batches a batch norm saw in training; null without `trackRunningStats`. */
  numBatchesTracked: Buffer | null;
  readonly eps: number;
  readonly momentum: number | null;
  readonly #channels: number;

  constructor(
    name: string,
    channels: number,
    o: ChannelNormOptions,
    { affine, tracks }: Record<'affine' | 'tracks', boolean>,
  ) {
    super();
    checkOptions<ChannelNormOptions>(name, o, OPTIONS);
    checkPositive(name, { channels });
    const momentum = o.momentum === undefined ? 0.1 : o.momentum;
    if (momentum !== null && !(momentum >= 0 && momentum <= 1))
      throw new RangeError(`${name}: expected a momentum 0 ≤ momentum ≤ 1, got ${momentum}`);
    const at = withoutRng(o);
    const [isAffine, isTracking] = [o.affine ?? affine, o.trackRunningStats ?? tracks];
    this.eps = o.eps ?? 1e-5;
    this.momentum = momentum;
    this.weight = isAffine ? new Parameter(ones([channels], at)) : null;
    this.bias = isAffine ? new Parameter(zeros([channels], at)) : null;
    this.runningMean = isTracking ? new Buffer(zeros([channels], at)) : null;
    this.runningVar = isTracking ? new Buffer(ones([channels], at)) : null;
    this.numBatchesTracked = isTracking ? new Buffer(zeros([], { ...at, dtype: 'int32' })) : null;
    this.#channels = channels;
  }

  /** Throws unless x is [N, C, …] with a rank of those. */
  protected checkInput(name: string, x: Tensor, ...ranks: number[]): void {
    if (ranks.includes(x.rank)) return;
    const shapes = ranks.map(rank => `[N, C${rank > 2 ? `, ${AXES[rank]}` : ''}]`).join(' or ');
    throw new ShapeError(`${name}: expected an input ${shapes}, got ${describe(x)}`);
  }

  /** The weight, or ones where there is none. */
  protected scaleOf(x: Tensor): Tensor {
    return this.weight ?? ones([this.#channels], { dtype: x.dtype, device: x.device });
  }

  /** x normalised by the running averages, in evaluation; null in training, and where there are none. */
  protected byAverages(x: Tensor): Tensor | null {
    const { runningMean, runningVar, bias, eps } = this;
    if (this.training || runningMean === null || runningVar === null) return null;
    return batchNormEval(x, runningMean, runningVar, this.scaleOf(x), bias, eps);
  }

  /** In training: running ← (1 − share) · running + share · new, with the unbiased variance · `unbias`. */
  protected track(mean: Tensor, variance: Tensor, unbias: number, share: number): void {
    this.runningMean!.scale_(1 - share).addScaled_(mean, share);
    this.runningVar!.scale_(1 - share).addScaled_(variance, share * unbias);
  }

  /** The average of all batches so far, of which this is the `count`-th: an int32 scalar. */
  protected trackAll(mean: Tensor, variance: Tensor, unbias: number, count: Tensor): void {
    const share = count.astype(mean.dtype).reciprocal();
    for (const [running, seen] of [
      [this.runningMean!, mean],
      [this.runningVar!, variance.mul(unbias)],
    ] as const)
      running.copy_(running.add(seen.sub(running).mul(share)));
  }

  protected override *members(): Iterable<Member> {
    for (const [name, value] of super.members()) yield [STATE_NAMES[name] ?? name, value];
  }
}
