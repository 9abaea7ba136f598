// Small nets for exact Fisher blocks and recorded runs.

import { Generator, ones, randint, randn, type Tensor } from '@otimes/core';
import { Embedding, LayerNorm, Linear, Module, Parameter, ReLU, Sequential, Sigmoid, Tanh } from '@otimes/nn';
import { type Loss, type Net, Pool } from '../suites/exactness.ts';

export const dtype = 'float64';

export const activations = [Tanh, Sigmoid, ReLU];

/** A small MLP with a batch; shared > 1 makes the input [batch, shared, 5] and pools before the loss. */
export function smallNet(
  seed: number,
  { batch, shared = 1, loss }: { batch: number; shared?: number; loss: Loss },
): Net {
  const rng = new Generator(seed);
  const o = { dtype, rng } as const;
  const layers: Module[] = [new Linear(5, 4, o), new activations[seed % 3]!(), new Linear(4, 3, o)];
  const model = new Sequential(...layers, ...(shared > 1 ? [new Tanh(), new Pool('mean')] : []));
  const x = randn(shared > 1 ? [batch, shared, 5] : [batch, 5], o);
  const y = loss === 'mse' ? randn([batch, 3], o) : randint(0, 3, [batch], { rng });
  return { model, x, y, loss };
}

/** A model with a Linear with bias, one without, a LayerNorm and a parameter of its own. */
export class Mixed extends Module {
  readonly embed = new Embedding(5, 4, { dtype, rng: new Generator(1) });
  readonly first = new Linear(4, 4, { dtype, rng: new Generator(2) });
  readonly norm = new LayerNorm(4, { dtype });
  readonly second = new Linear(4, 3, { dtype, bias: false, rng: new Generator(3) });
  readonly scale = new Parameter(ones([3], { dtype }));
  override forward(x: Tensor): Tensor {
    return this.second
      .call(this.norm.call(this.first.call(this.embed.call(x)).tanh()))
      .mean(1)
      .mul(this.scale);
  }
}
