/** Dropout of whole channels (Tompson et al. 2015), and dropout that keeps mean and variance (Klambauer et al. 2017). */

import { describe, type Generator, owningIntermediates, rand, ShapeError, type Tensor, where } from '@otimes/core';
import { aBoolean, aTensor, checkArgument, checkOptions } from '@otimes/core/extend';
import { aProbability, PLACEMENT, type Placement } from './check.ts';
import { Module } from './module.ts';

function checkCall(op: string, x: Tensor, p: number, training: boolean, rng: Generator | undefined): void {
  checkArgument(op, 'x', x, aTensor);
  checkArgument(op, 'p', p, aProbability);
  checkArgument(op, 'training', training, aBoolean);
  if (rng !== undefined) checkArgument(op, 'rng', rng, PLACEMENT.rng);
}

function dropChannels(op: string, rank: number, x: Tensor, p: number, training: boolean, rng?: Generator): Tensor {
  checkCall(op, x, p, training, rng);
  if (x.rank !== rank)
    throw new ShapeError(`${op}: expected an input [N, C, ${['L', 'H, W', 'D, H, W'][rank - 3]}], got ${describe(x)}`);
  if (!training || p === 0) return x;
  return owningIntermediates(() => {
    const channels = [x.shape[0]!, x.shape[1]!, ...x.shape.slice(2).fill(1)];
    const kept = rand(channels, { device: x.device, ...(rng && { rng }) }).ge(p);
    return x.mul(kept.astype(x.dtype).mul(1 / (1 - p)));
  });
}

/** Zeroes channels of x [N, C, L] with probability `p` and scales the rest by 1/(1−p), when `training`. */
export function dropout1d(x: Tensor, p: number, training: boolean, rng?: Generator): Tensor {
  return dropChannels('dropout1d', 3, x, p, training, rng);
}

/** Zeroes channels of x [N, C, H, W] with probability `p` and scales the rest by 1/(1−p), when `training`. */
export function dropout2d(x: Tensor, p: number, training: boolean, rng?: Generator): Tensor {
  return dropChannels('dropout2d', 4, x, p, training, rng);
}

/** Zeroes channels of x [N, C, D, H, W] with probability `p` and scales the rest by 1/(1−p), when `training`. */
export function dropout3d(x: Tensor, p: number, training: boolean, rng?: Generator): Tensor {
  return dropChannels('dropout3d', 5, x, p, training, rng);
}

/** λα of `selu`, whose value at −∞ it is, but for the sign. */
const FLOOR = 1.7580993408473766;

/** Puts the lowest value of `selu` in the place of elements with probability `p`, then restores mean 0 and variance 1, when `training`. */
export function alphaDropout(x: Tensor, p: number, training: boolean, rng?: Generator): Tensor {
  checkCall('alphaDropout', x, p, training, rng);
  if (!training || p === 0) return x;
  return owningIntermediates(() => {
    const a = 1 / Math.sqrt((FLOOR * FLOOR * p + 1) * (1 - p));
    const kept = rand(x.shape, { device: x.device, ...(rng && { rng }) }).ge(p);
    return where(kept, x, -FLOOR)
      .mul(a)
      .add(FLOOR * a * p);
  });
}

/** What the layers share: `p`, default 0.5, and of the options `rng`. */
abstract class Dropping extends Module {
  readonly p: number;
  protected readonly rng: () => Generator | undefined;

  constructor(name: string, p: number, o: Placement) {
    super();
    checkArgument(name, 'p', p, aProbability);
    checkOptions(name, o, PLACEMENT);
    this.p = p;
    this.rng = () => o.rng;
  }
}

/** In training, zeroes channels of x [N, C, L] with probability p (default 0.5) and scales the others by 1/(1−p); options as `Dropout`. */
export class Dropout1d extends Dropping {
  static readonly builtIn: string = 'Dropout1d';

  constructor(p = 0.5, o: Placement = {}) {
    super('Dropout1d', p, o);
  }

  override forward(x: Tensor): Tensor {
    return dropout1d(x, this.p, this.training, this.rng());
  }
}

/** In training, zeroes channels of x [N, C, H, W] with probability p (default 0.5) and scales the others by 1/(1−p); options as `Dropout`. */
export class Dropout2d extends Dropping {
  static readonly builtIn: string = 'Dropout2d';

  constructor(p = 0.5, o: Placement = {}) {
    super('Dropout2d', p, o);
  }

  override forward(x: Tensor): Tensor {
    return dropout2d(x, this.p, this.training, this.rng());
  }
}

/** In training, zeroes channels of x [N, C, D, H, W] with probability p (default 0.5) and scales the others by 1/(1−p); options as `Dropout`. */
export class Dropout3d extends Dropping {
  static readonly builtIn: string = 'Dropout3d';

  constructor(p = 0.5, o: Placement = {}) {
    super('Dropout3d', p, o);
  }

  override forward(x: Tensor): Tensor {
    return dropout3d(x, this.p, this.training, this.rng());
  }
}

/** `alphaDropout` in training, for networks of `SELU`; p is 0.5 by default, options as `Dropout`. */
export class AlphaDropout extends Dropping {
  static readonly builtIn: string = 'AlphaDropout';

  constructor(p = 0.5, o: Placement = {}) {
    super('AlphaDropout', p, o);
  }

  override forward(x: Tensor): Tensor {
    return alphaDropout(x, this.p, this.training, this.rng());
  }
}
