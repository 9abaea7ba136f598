/** The multilayer perceptron. */

import type { Tensor } from '@otimes/core';
import { aBoolean, aString, checkArgument, checkOptions, type Kind } from '@otimes/core/extend';
import { type ActivationName, activationClass } from '../activations/basic.ts';
import { aProbability, PLACEMENT, type Placement, placed } from '../check.ts';
import { Sequential } from '../containers/sequential.ts';
import { Dropout } from '../dropout.ts';
import { Linear } from '../linear.ts';
import { Module } from '../module.ts';

export type MlpOptions = Placement & {
  /** Between the layers; default 'relu'. */
  activation?: ActivationName;
  /** Of the linear layers; default true. */
  bias?: boolean;
  /** Probability after each activation; default 0, no dropout. */
  dropout?: number;
};

const sizesOf: Kind = { expected: 'an array of sizes such as [784, 128, 10]', is: v => Array.isArray(v) };
const OPTIONS = { activation: aString, bias: aBoolean, dropout: aProbability, ...PLACEMENT };

/** Linear layers with an activation between them. Further axes of the input are flattened. */
export class MLP extends Module {
  static readonly builtIn: string = 'MLP';
  readonly layers: Sequential;

  constructor(sizes: readonly number[], o: MlpOptions = {}) {
    super();
    checkArgument('mlp', 'sizes', sizes, sizesOf);
    checkOptions('mlp', o, OPTIONS);
    if (sizes.length < 2)
      throw new RangeError(`mlp: expected at least an input and an output size, got [${sizes.join(',')}]`);
    const Activation = activationClass('mlp', o.activation ?? 'relu');
    const layers: Module[] = [];
    for (let i = 1; i < sizes.length; i++) {
      layers.push(new Linear(sizes[i - 1]!, sizes[i]!, { bias: o.bias ?? true, ...placed(o) }));
      if (i === sizes.length - 1) continue;
      layers.push(new Activation());
      if ((o.dropout ?? 0) !== 0) layers.push(new Dropout(o.dropout, placed(o)));
    }
    this.layers = new Sequential(...layers);
  }

  override forward(x: Tensor): Tensor {
    return this.layers.call(x.rank > 2 ? x.flatten(1) : x);
  }
}

/** `mlp([784, 128, 10])`: see `MLP`. Its parameters are named `layers.0.weight`, `layers.0.bias`, `layers.2.weight`, … */
export function mlp(sizes: readonly number[], o?: MlpOptions): MLP {
  return new MLP(sizes, o);
}
