/** Activation functions as modules. */

import type { Tensor } from '@otimes/core';
import { checkOptions, oneOf } from '@otimes/core/extend';
import { Module } from '../module.ts';

/** max(x, 0) */
export class ReLU extends Module {
  static readonly builtIn: string = 'ReLU';

  override forward(x: Tensor): Tensor {
    return x.relu();
  }
}

/** x Φ(x); see `Tensor.gelu`. */
export class GELU extends Module {
  static readonly builtIn: string = 'GELU';
  readonly approximate: 'none' | 'tanh';

  /** @param o approximate: 'none' (default, exact) or 'tanh' */
  constructor(o: { approximate?: 'none' | 'tanh' } = {}) {
    super();
    checkOptions('GELU', o, { approximate: oneOf('none', 'tanh') });
    this.approximate = o.approximate ?? 'none';
  }

  override forward(x: Tensor): Tensor {
    return x.gelu({ approximate: this.approximate });
  }
}

export class Tanh extends Module {
  static readonly builtIn: string = 'Tanh';

  override forward(x: Tensor): Tensor {
    return x.tanh();
  }
}

/** 1 / (1 + e^−x) */
export class Sigmoid extends Module {
  static readonly builtIn: string = 'Sigmoid';

  override forward(x: Tensor): Tensor {
    return x.sigmoid();
  }
}

const ACTIVATIONS = { relu: ReLU, gelu: GELU, tanh: Tanh, sigmoid: Sigmoid };

export type ActivationName = keyof typeof ACTIVATIONS;

/** The activation of that name; `where` is for the error. */
export function activationClass(where: string, name: ActivationName): new () => Module {
  if (!Object.hasOwn(ACTIVATIONS, name))
    throw new RangeError(`${where}: expected an activation of ${Object.keys(ACTIVATIONS).join(', ')}, got '${name}'`);
  return ACTIVATIONS[name];
}
