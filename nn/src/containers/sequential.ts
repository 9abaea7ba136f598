/** Modules one after the other. */

import type { Tensor } from '@otimes/core';
import { checkArgument, type Kind, nameOf } from '@otimes/core/extend';
import { insides, tensorFrom } from '../calls.ts';
import type { Member } from '../members.ts';
import { Module } from '../module.ts';

const aModule: Kind = {
  expected: 'a module',
  is: v => v instanceof Module,
  hint: v =>
    Array.isArray(v)
      ? 'give the modules as arguments: new Sequential(a, b)'
      : typeof v === 'function'
        ? 'give an instance, or a class of your own that extends Module'
        : '',
};

/** Calls its modules in order, each on the output of the one before. Their names are '0', '1', … */
export class Sequential extends Module {
  static readonly builtIn: string = 'Sequential';
  readonly layers: readonly Module[];

  constructor(...layers: Module[]) {
    super();
    layers.forEach((layer, i) => {
      checkArgument('Sequential', `layer ${i}`, layer, aModule);
    });
    this.layers = layers;
  }

  override forward(x: Tensor): Tensor {
    const named = (layer: Module, i: number) => () => `the output of layer ${i}, ${nameOf(layer)},`;
    return insides(this, () =>
      this.layers.reduce((y, layer, i) => tensorFrom(layer.call(y), this, named(layer, i)), x),
    );
  }

  protected override *members(): Iterable<Member> {
    for (const [name, value] of super.members()) yield [name.replace(/^layers\./, ''), value];
  }
}

/** [batch, …] → [batch, everything else]. */
export class Flatten extends Module {
  static readonly builtIn: string = 'Flatten';

  override forward(x: Tensor): Tensor {
    return x.flatten(1);
  }
}
