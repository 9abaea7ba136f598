// A small model with attention.

import { Generator, randint, randn, type Tensor } from '@otimes/core';
import { Linear, Module, MultiHeadAttention, mseLoss, Parameter } from '@otimes/nn';
import type { Optimizer } from '@otimes/optim';
import type { Net } from '../suites/exactness.ts';

export const dtype = 'float64';
export const random = (seed: number) => ({ dtype, rng: new Generator(seed) }) as const;

/** A step of `optimizer` on the mean squared error. */
export function step(model: Module, optimizer: Optimizer, { x, y }: { x: Tensor; y: Tensor }): void {
  optimizer.zeroGrad();
  mseLoss(model.call(x), y).backward();
  void optimizer.step();
}

/** Tokens with learned positions, attention with a residual, and a linear head on the mean: the model of attn.json. */
export class SmallAttention extends Module {
  readonly pos: Parameter;
  readonly attn: MultiHeadAttention;
  readonly head: Linear;
  constructor(o: { dtype: 'float64'; rng: Generator }, tokens = 4, classes = 6) {
    super();
    this.pos = new Parameter(randn([tokens, 4], o));
    this.attn = new MultiHeadAttention(4, 2, o);
    this.head = new Linear(4, classes, o);
  }
  override forward(x: Tensor): Tensor {
    const h = x.add(this.pos);
    return this.head.call(h.add(this.attn.call(h)).mean(1));
  }
}

export const attentionNet = (seed: number, batch: number, tokens = 4): Net & { model: SmallAttention } => {
  const o = random(seed);
  const model = new SmallAttention(o, tokens, 3);
  return { model, x: randn([batch, tokens, 4], o), y: randint(0, 3, [batch], { rng: o.rng }), loss: 'crossEntropy' };
};
