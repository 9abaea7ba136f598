/** Stochastic gradient descent with momentum (Sutskever et al. 2013), as torch.optim.SGD. */

import { sgdStep, type Tensor } from '@otimes/core';
import { checkRange } from '@otimes/core/extend';
import { GradientOptimizer, type ParameterState, type Parameters, withL2 } from './optimizer.ts';

export type SGDOptions = {
  /** Default 1e-3. */
  lr?: number;
  /** μ, the share of the last direction that is kept; default 0. */
  momentum?: number;
  /** What the gradient is diminished by when it enters the momentum; default 0. */
  dampening?: number;
  /** Look ahead along the momentum; default false. */
  nesterov?: boolean;
  /** Of the L2 penalty added to the gradient; default 0. */
  weightDecay?: number;
};

type Options = Required<SGDOptions>;
const DEFAULTS: Options = { lr: 1e-3, momentum: 0, dampening: 0, nesterov: false, weightDecay: 0 };

function check(name: string, o: Options): void {
  checkRange(name, 'momentum', o.momentum, 0, Infinity);
  checkRange(name, 'dampening', o.dampening, 0, Infinity);
  checkRange(name, 'weightDecay', o.weightDecay, 0, Infinity);
  if (o.nesterov && (o.momentum === 0 || o.dampening !== 0))
    throw new RangeError(
      `${name}: nesterov needs a momentum above 0 and a dampening of 0, got ${o.momentum} and ${o.dampening}`,
    );
}

/** buf ← μ buf + (1 − dampening) g, at first g itself;  p ← p − lr · buf, or with `nesterov` p − lr (g + μ buf). */
export class SGD extends GradientOptimizer<Options> {
  static readonly builtIn: string = 'SGD';

  constructor(parameters: Parameters<Options>, options: SGDOptions = {}) {
    super(parameters, DEFAULTS, options, check);
  }

  protected override slotNames({ momentum }: Options): readonly string[] {
    return momentum === 0 ? [] : ['buf'];
  }

  protected override update(p: Tensor, gradient: Tensor, state: ParameterState, o: Options): void {
    const g = withL2(gradient, p, o.weightDecay);
    if (o.momentum === 0) {
      p.addScaled_(g, -o.lr);
      return;
    }
    const buf = state.slot('buf');
    const [momentum, gain] = state.step === 1 ? [0, 1] : [o.momentum, 1 - o.dampening];
    const [bufferWeight, gradientWeight] = o.nesterov ? [o.momentum, 1] : [1, 0];
    if (p.isContiguous) {
      sgdStep(p, buf, g, { lr: o.lr, momentum, gain, bufferWeight, gradientWeight });
      return;
    }
    if (state.step === 1) buf.copy_(g);
    else buf.scale_(o.momentum).addScaled_(g, 1 - o.dampening);
    p.addScaled_(o.nesterov ? g.add(buf.mul(o.momentum)) : buf, -o.lr);
  }
}
