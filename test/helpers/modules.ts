// Modules as programs write them, and what is read from any.

import assert from 'node:assert/strict';
import { Generator, randn, type Tensor } from '@otimes/core';
import { Linear, Module } from '@otimes/nn';

export const x = (...shape: number[]) => randn(shape, { rng: new Generator(3) });
export const names = (model: Module) => [...model.namedParameters().keys()];
export const weights = (model: Module) => model.parameters().map(p => p.detach().clone());
export const same = (a: readonly Tensor[], b: readonly Tensor[]) =>
  assert.deepEqual(
    a.map(one => one.toArray()),
    b.map(one => one.toArray()),
  );

/** A module with a field, which it passes its input through if that has layers. */
export function holding(field: object): Module & { field: object } {
  class Holder extends Module {
    field = field;
    out = new Linear(3, 2);
    override forward(x: Tensor): Tensor {
      let y = x;
      for (const module of this.namedModules().values())
        if (module instanceof Linear && module !== this.out) y = module.call(y);
      return this.out.call(y);
    }
  }
  return new Holder();
}
