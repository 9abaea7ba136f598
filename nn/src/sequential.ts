/** Modules one after the other. */

import { owningIntermediates, type Tensor } from '@otimes/core';
import { Module } from './module.ts';

/** Calls its modules in order, each on the output of the one before. Their names are '0', '1', … */
export class Sequential extends Module {
  static override readonly name: string = 'Sequential';
  readonly layers: readonly Module[];

  constructor(...layers: Module[]) {
    super();
    this.layers = layers;
  }

  override keepsTensors(): boolean {
    return this.layers.some(layer => layer.keepsTensors());
  }

  override forward(x: Tensor): Tensor {
    const run = () => this.layers.reduce((y, layer) => layer.call(y), x);
    // What lies between layers that keep nothing reaches nobody else, but through hooks, which mark what they see.
    return this.keepsTensors() ? run() : owningIntermediates(run);
  }

  protected override *members(): ReturnType<Module['members']> {
    for (const [name, value] of super.members()) yield [name.replace(/^layers\./, ''), value];
  }
}

/** [batch, …] → [batch, everything else]. */
export class Flatten extends Module {
  static override readonly name: string = 'Flatten';
  override keepsTensors(): boolean {
    return false;
  }

  override forward(x: Tensor): Tensor {
    return x.flatten(1);
  }
}
