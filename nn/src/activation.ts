/** Activation functions as modules. */

import type { Tensor } from '@otimes/core';
import { Module } from './module.ts';

/** max(x, 0) */
export class ReLU extends Module {
  override forward(x: Tensor): Tensor {
    return x.relu();
  }
}

/** x Φ(x); see `Tensor.gelu`. */
export class GELU extends Module {
  readonly #approximate: 'none' | 'tanh';

  /** @param o approximate: 'none' (default, exact) or 'tanh' */
  constructor(o: { approximate?: 'none' | 'tanh' } = {}) {
    super();
    this.#approximate = o.approximate ?? 'none';
  }

  override forward(x: Tensor): Tensor {
    return x.gelu({ approximate: this.#approximate });
  }
}

export class Tanh extends Module {
  override forward(x: Tensor): Tensor {
    return x.tanh();
  }
}

/** 1 / (1 + e^−x) */
export class Sigmoid extends Module {
  override forward(x: Tensor): Tensor {
    return x.sigmoid();
  }
}
