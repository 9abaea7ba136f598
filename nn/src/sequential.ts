/** Modules one after the other. */

import type { Tensor } from '@otimes/core';
import { Module } from './module.ts';

/** Calls its modules in order, each on the output of the one before. Their names are '0', '1', … */
export class Sequential extends Module {
  readonly layers: readonly Module[];

  constructor(...layers: Module[]) {
    super();
    this.layers = layers;
  }

  override forward(x: Tensor): Tensor {
    return this.layers.reduce((y, layer) => layer.call(y), x);
  }

  protected override *members(): ReturnType<Module['members']> {
    for (const [name, value] of super.members()) yield [name.replace(/^layers\./, ''), value];
  }
}

/** [batch, …] → [batch, everything else]. */
export class Flatten extends Module {
  override forward(x: Tensor): Tensor {
    return x.flatten(1);
  }
}
