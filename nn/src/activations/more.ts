/** Activations as modules beside the four of `basic.ts`. The functions of the same names are in `nn.functional`. */

import { elu, full, leakyRelu, logSigmoid, mish, selu, silu, softplus, type Tensor } from '@otimes/core';
import { aNumber, anInteger, checkArgument, checkOptions } from '@otimes/core/extend';
import { checkPositive, PLACEMENT, type Placement, withoutRng } from '../check.ts';
import { Module } from '../module.ts';
import { Parameter } from '../parameter.ts';
import * as f from './functions.ts';

/** x where it is above 0, else negativeSlope · x. */
export class LeakyReLU extends Module {
  static readonly builtIn: string = 'LeakyReLU';
  readonly negativeSlope: number;

  constructor(negativeSlope = 0.01) {
    super();
    checkArgument('LeakyReLU', 'negativeSlope', negativeSlope, aNumber);
    this.negativeSlope = negativeSlope;
  }

  override forward(x: Tensor): Tensor {
    return leakyRelu(x, this.negativeSlope);
  }
}

/** `leakyRelu` with slopes that are trained, one, or one for each channel of x [N, channels, …]. They start at `init`, 0.25 by default. */
export class PReLU extends Module {
  static readonly builtIn: string = 'PReLU';
  static override readonly tensors: readonly string[] = ['weight'];
  /** [numParameters] */
  weight: Parameter;

  /** @param numParameters 1 (default) or the number of channels */
  constructor(numParameters = 1, o: { init?: number } & Placement = {}) {
    super();
    checkPositive('PReLU', { numParameters });
    checkOptions('PReLU', o, { init: aNumber, ...PLACEMENT });
    this.weight = new Parameter(full([numParameters], o.init ?? 0.25, withoutRng(o)));
  }

  override forward(x: Tensor): Tensor {
    return f.prelu(x, this.weight);
  }
}

/** x where it is above 0, else α (eˣ − 1). */
export class ELU extends Module {
  static readonly builtIn: string = 'ELU';
  readonly alpha: number;

  constructor(alpha = 1) {
    super();
    checkArgument('ELU', 'alpha', alpha, aNumber);
    this.alpha = alpha;
  }

  override forward(x: Tensor): Tensor {
    return elu(x, this.alpha);
  }
}

/** x where it is above 0, else α (e^(x/α) − 1). */
export class CELU extends Module {
  static readonly builtIn: string = 'CELU';
  readonly alpha: number;

  constructor(alpha = 1) {
    super();
    checkArgument('CELU', 'alpha', alpha, aNumber);
    this.alpha = alpha;
  }

  override forward(x: Tensor): Tensor {
    return f.celu(x, this.alpha);
  }
}

/** The ELU that keeps mean 0 and variance 1. */
export class SELU extends Module {
  static readonly builtIn: string = 'SELU';

  override forward(x: Tensor): Tensor {
    return selu(x);
  }
}

/** x σ(x). */
export class SiLU extends Module {
  static readonly builtIn: string = 'SiLU';

  override forward(x: Tensor): Tensor {
    return silu(x);
  }
}

/** x tanh(log(1 + eˣ)). */
export class Mish extends Module {
  static readonly builtIn: string = 'Mish';

  override forward(x: Tensor): Tensor {
    return mish(x);
  }
}

/** log(1 + e^βx) / β, and x itself where βx is above `threshold`. */
export class Softplus extends Module {
  static readonly builtIn: string = 'Softplus';
  readonly beta: number;
  readonly threshold: number;

  /** @param o beta: default 1; threshold: default 20 */
  constructor(o: { beta?: number; threshold?: number } = {}) {
    super();
    checkOptions('Softplus', o, { beta: aNumber, threshold: aNumber });
    this.beta = o.beta ?? 1;
    this.threshold = o.threshold ?? 20;
  }

  override forward(x: Tensor): Tensor {
    return softplus(x, { beta: this.beta, threshold: this.threshold });
  }
}

/** x limited to [minVal, maxVal]. */
export class Hardtanh extends Module {
  static readonly builtIn: string = 'Hardtanh';
  readonly minVal: number;
  readonly maxVal: number;

  /** @param o minVal: default −1; maxVal: default 1 */
  constructor(o: { minVal?: number; maxVal?: number } = {}) {
    super();
    checkOptions('Hardtanh', o, { minVal: aNumber, maxVal: aNumber });
    this.minVal = o.minVal ?? -1;
    this.maxVal = o.maxVal ?? 1;
  }

  override forward(x: Tensor): Tensor {
    return f.hardtanh(x, { minVal: this.minVal, maxVal: this.maxVal });
  }
}

/** min(max(x, 0), 6). */
export class ReLU6 extends Module {
  static readonly builtIn: string = 'ReLU6';

  override forward(x: Tensor): Tensor {
    return f.relu6(x);
  }
}

/** min(max(x + 3, 0), 6) / 6. */
export class Hardsigmoid extends Module {
  static readonly builtIn: string = 'Hardsigmoid';

  override forward(x: Tensor): Tensor {
    return f.hardsigmoid(x);
  }
}

/** x · hardsigmoid(x). */
export class Hardswish extends Module {
  static readonly builtIn: string = 'Hardswish';

  override forward(x: Tensor): Tensor {
    return f.hardswish(x);
  }
}

/** What works along an axis, the last by default. */
abstract class AlongAxis extends Module {
  readonly dim: number;

  constructor(name: string, dim = -1) {
    super();
    checkArgument(name, 'dim', dim, anInteger);
    this.dim = dim;
  }
}

/** eˣ / Σ eˣ along an axis, the last by default. */
export class Softmax extends AlongAxis {
  static readonly builtIn: string = 'Softmax';

  constructor(dim?: number) {
    super('Softmax', dim);
  }

  override forward(x: Tensor): Tensor {
    return f.softmax(x, this.dim);
  }
}

/** log softmax(x) along an axis, the last by default. */
export class LogSoftmax extends AlongAxis {
  static readonly builtIn: string = 'LogSoftmax';

  constructor(dim?: number) {
    super('LogSoftmax', dim);
  }

  override forward(x: Tensor): Tensor {
    return f.logSoftmax(x, this.dim);
  }
}

/** a σ(b) for the halves a and b of x along an axis, the last by default. */
export class GLU extends AlongAxis {
  static readonly builtIn: string = 'GLU';

  constructor(dim?: number) {
    super('GLU', dim);
  }

  override forward(x: Tensor): Tensor {
    return f.glu(x, this.dim);
  }
}

/** x / (1 + |x|). */
export class Softsign extends Module {
  static readonly builtIn: string = 'Softsign';

  override forward(x: Tensor): Tensor {
    return f.softsign(x);
  }
}

/** log σ(x). */
export class LogSigmoid extends Module {
  static readonly builtIn: string = 'LogSigmoid';

  override forward(x: Tensor): Tensor {
    return logSigmoid(x);
  }
}
