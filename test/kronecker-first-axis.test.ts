// The first axis of a layer is the batch: more rows than the model's output has are told once.

import assert from 'node:assert/strict';
import { Generator, noGrad, randn, type Tensor } from '@otimes/core';
import { type AnyModule, Conv2d, Linear, Module } from '@otimes/nn';
import type { KroneckerOptions } from '@otimes/optim';
import { CurvatureEstimate } from '@otimes/optim/curvature';
import t from 'tap';
import { family, warningsOf } from './helpers/family.ts';
import { law } from './helpers/law.ts';

const [B, T] = [8, 5];

/** Positions through `a`, then all of an example through `o`. */
class Net extends Module {
  readonly a = new Linear(6, 4, { rng: new Generator(1) });
  readonly o = new Linear(4 * T, 3, { rng: new Generator(2) });
  readonly flattens: boolean;
  constructor(flattens: boolean) {
    super();
    this.flattens = flattens;
  }
  override forward(x: Tensor): Tensor {
    const hidden = this.a.call(this.flattens ? x.reshape(-1, 6) : x).tanh();
    return this.o.call(hidden.reshape(-1, 4 * T));
  }
}

const x = randn([B, T, 6], { rng: new Generator(3) });
const lossOf = (model: AnyModule) => (model.call(x) as Tensor).square().mean();

type Step = () => void;
const collecting: Record<string, (model: AnyModule, o?: KroneckerOptions) => Step> = {
  ...Object.fromEntries(
    Object.entries(family).map(([name, make]) => [
      name,
      (model: AnyModule, o?: KroneckerOptions) => {
        const optimizer = make(model, o);
        return () => void optimizer.step();
      },
    ]),
  ),
  CurvatureEstimate: (model, o) => {
    const curvature = new CurvatureEstimate(model, o);
    return () => void curvature.add();
  },
};

/** What three steps warn. */
const warned = (model: AnyModule, make: (model: AnyModule, o?: KroneckerOptions) => Step, o?: KroneckerOptions) =>
  warningsOf(() => {
    const step = make(model, o);
    for (let i = 0; i < 3; i++) {
      lossOf(model).backward();
      step();
    }
  });

for (const [name, make] of Object.entries(collecting)) {
  law(t, `${name}: a layer with more rows than the output is told once, with both numbers and what to do`, () => {
    const said = warned(new Net(true), make);
    assert.equal(said.length, 1);
    const who = name.split(' ')[0]!;
    assert.match(
      said[0]!,
      new RegExp(
        `^${who}: linear 'a' has 40 rows on its first axis, and the model's output has 8\\. The first axis is the batch`,
      ),
    );
    assert.match(said[0]!, /too large, by 5 times if 8 is the batch: give the layer \[batch, positions, features\]/);
  });

  law(t, `${name}: positions on an axis of their own are not warned of`, () => {
    assert.deepEqual(warned(new Net(false), make), []);
  });
}

const estimate = collecting.CurvatureEstimate!;

law(t, 'ggn and sampled count rows of the output: only reduce is told of', () => {
  for (const fisher of ['ggn', 'sampled'] as const) {
    assert.deepEqual(warned(new Net(true), estimate, { fisher, loss: 'mse' }), []);
    const [said, ...more] = warned(new Net(true), estimate, { fisher, loss: 'mse', sharing: 'reduce' });
    assert.match(said!, /'a' has 40 rows .* sharing 'reduce' cannot join them: give the layer/);
    assert.deepEqual(more, []);
  }
});

law(t, 'of the groups of a convolution the first is told, since they have one input', () => {
  class Grouped extends Module {
    readonly conv = new Conv2d(6, 6, 1, { groups: 3, rng: new Generator(1) });
    override forward(x: Tensor): Tensor {
      return this.conv.call(x.reshape(B * T, 6, 1, 1)).reshape(B, -1);
    }
  }
  const [said, ...more] = warned(new Grouped(), estimate);
  assert.match(said!, /^CurvatureEstimate: conv2d 'conv\.groups\.0' has 40 rows/);
  assert.deepEqual(more, []);
});

/** A layer whose output takes the shape that `shaped` gives it. */
class Shaped extends Module {
  readonly h = new Linear(6, 3, { rng: new Generator(1) });
  readonly shaped: (z: Tensor) => unknown;
  constructor(shaped: (z: Tensor) => unknown) {
    super();
    this.shaped = shaped;
  }
  override forward(x: Tensor): Tensor {
    return this.shaped(this.h.call(x)) as Tensor;
  }
}

law(t, 'rows of the output that outnumber those of a layer, as after flattening positions, are not warned of', () => {
  assert.deepEqual(warned(new Shaped(z => z.reshape(-1, 3)), estimate), []);
});

law(t, 'an output that is no tensor, or a scalar, tells nothing', () => {
  assert.deepEqual(warned(new Shaped(z => z.sum()), estimate), []);
  const model = new Shaped(z => ({ z }));
  const said = warningsOf(() => {
    const step = estimate(model);
    (model.call(x) as unknown as { z: Tensor }).z.square().mean().backward();
    step();
  });
  assert.deepEqual(said, []);
});

law(t, 'passes under noGrad, and layers that are called on their own, tell nothing', () => {
  const model = new Net(true);
  const single = x.narrow(1, 0, 1);
  const said = warningsOf(() => {
    const step = estimate(model);
    noGrad(() => model.call(x));
    model.a.call(single.reshape(-1, 6)).sum().backward();
    step();
  });
  assert.deepEqual(said, []);
});
