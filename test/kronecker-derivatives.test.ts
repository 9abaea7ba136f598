// Losses of derivatives of a model, as those of differential equations, under the Kronecker family.

import assert from 'node:assert/strict';
import { Generator, grad, noGrad, rand, randn, Tensor, tensor } from '@otimes/core';
import { Linear, Module, mseLoss, Sequential, Tanh } from '@otimes/nn';
import { KFAC, type KroneckerOptions } from '@otimes/optim';
import { CurvatureEstimate } from '@otimes/optim/curvature';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { family, type Make, ROUTES } from './helpers/family.ts';
import { law } from './helpers/law.ts';
import { valuesOf } from './suites/training.ts';

const dtype = 'float64';
const INSIDE = 9;
const LAYERS = ['0', '2', '4'] as const;

/** −u″ = π² sin πx on (0, 1), u = 0 at both ends. */
const newNet = (bias = true) => {
  const o = { dtype, rng: new Generator(4), bias } as const;
  return new Sequential(new Linear(1, 6, o), new Tanh(), new Linear(6, 5, o), new Tanh(), new Linear(5, 1, o));
};
const points = (seed: number): Tensor => {
  const x = rand([INSIDE, 1], { rng: new Generator(seed), dtype });
  x.requiresGrad = true;
  return x;
};
const ends = tensor([[0], [1]], { dtype });

function residual(model: Sequential, x: Tensor): Tensor {
  const [du] = grad(model.call(x).sum(), [x], { createGraph: true });
  const [ddu] = grad(du!.sum(), [x], { createGraph: true });
  return mseLoss(
    ddu!.neg(),
    x
      .detach()
      .mul(Math.PI)
      .sin()
      .mul(Math.PI ** 2),
  );
}
const boundary = (model: Sequential): Tensor => model.call(ends).square().mean();

t.test('the residual inside and the values at the boundary, in calls of their own', t => {
  law(t, 'every layer has the examples of both: A and G are those of the gradients at its outputs, by loops', () => {
    for (const apart of [false, true]) {
      const model = newNet();
      const optimizer = new KFAC(model);
      /** By layer, input rows [a, 1] and output gradients as backward leaves them, of what a gradient came to. */
      const seen = new Map(LAYERS.map(path => [path, [] as { a: number[]; g: number[] }[]]));
      let inPass = false;
      for (const path of LAYERS)
        model
          .namedModules()
          .get(path)!
          .onForward((_, [input], output) => {
            if (!(input instanceof Tensor && output instanceof Tensor && output.requiresGrad)) return;
            const rows = input.detach().clone();
            output.onGrad(g => {
              if (!inPass) return;
              for (let b = 0; b < g.shape[0]!; b++)
                seen.get(path)!.push({
                  a: [...rows.narrow(0, b, 1).dataSync(), 1],
                  g: [...g.narrow(0, b, 1).contiguous().dataSync()],
                });
            });
          });
      const backward = (loss: Tensor) => {
        inPass = true;
        loss.backward();
        inPass = false;
      };
      if (apart) {
        backward(residual(model, points(1)));
        backward(boundary(model));
      } else backward(residual(model, points(1)).add(boundary(model)));
      // The residual has no gradient at the last output: its rows are those at the boundary, and its examples all.
      assert.deepEqual(
        [...seen.values()].map(rows => rows.length),
        [INSIDE + 2, INSIDE + 2, 2],
      );
      const B = INSIDE + 2;
      for (const path of LAYERS) assert.equal(optimizer.inspect(path).statistics!.batch, B);
      optimizer.step();
      for (const [path, rows] of seen) {
        const { A, G } = optimizer.inspect(path);
        const outer = (x: readonly number[]) => x.flatMap(one => x.map(other => one * other));
        const sum = (xs: readonly number[][]) => xs[0]!.map((_, i) => xs.reduce((all, x) => all + x[i]!, 0));
        const what = `${path}, ${apart}`;
        mustBeClose(
          [...A!.dataSync()],
          sum(rows.map(({ a }) => outer(a))).map(x => x / rows.length),
          { rtol: 1e-10 },
          what,
        );
        mustBeClose(
          [...G!.dataSync()],
          sum(rows.map(({ g }) => outer(g))).map(x => x * B),
          { rtol: 1e-10 },
          what,
        );
      }
    }
  });

  for (const [name, make] of Object.entries(family))
    law(t, `${name}: in one backward pass or two, on every route, and gradients are those of the plain model`, () => {
      const play = (make: Make, o: KroneckerOptions, apart: boolean) => {
        const [model, plain] = [newNet(), newNet()];
        const optimizer = make(model, { refreshEvery: 3, ...o });
        for (let step = 0; step < 5; step++) {
          optimizer.zeroGrad();
          const losses = (m: Sequential) => [residual(m, points(step)), boundary(m)] as const;
          const [inside, outside] = losses(model);
          if (apart) {
            inside.backward();
            outside.backward();
          } else inside.add(outside).backward();
          noGrad(() => model.parameters().map((p, i) => plain.parameters()[i]!.copy_(p)));
          for (const p of plain.parameters()) p.grad = null;
          const [a, b] = losses(plain);
          a.add(b).backward();
          for (const [i, p] of model.parameters().entries())
            mustBeClose(p.grad!, plain.parameters()[i]!.grad!, { rtol: 1e-8, atol: 1e-9 }, `${step} ${i}`);
          optimizer.step();
        }
        return valuesOf(model);
      };
      const one = play(make, { route: 'gradient' }, false);
      for (const route of ROUTES)
        for (const apart of [false, true])
          mustBeClose(play(make, { route }, apart), one, { rtol: 1e-6, atol: 1e-8 }, `${route}, ${apart}`);
    });
  t.end();
});

t.test('a layer that the loss reaches through derivatives alone', t => {
  for (const [name, make] of Object.entries(family))
    law(t, `${name}: is an error that says what to do, and that is right`, () => {
      const o64 = { loss: 'mse' } as const;
      for (const [bias, message] of [
        [
          true,
          /linear '4' has gradients for some of its parameters, but none for '4\.bias'.* add a term of the output/,
        ],
        [false, /linear '4' has a gradient, but none came to its output: .*'4': \{ skip: true \}/],
      ] as const) {
        const model = newNet(bias);
        const optimizer = make(model, o64);
        const before = valuesOf(model);
        residual(model, points(1)).backward();
        assert.throws(() => optimizer.step(), message);
        assert.deepEqual(valuesOf(model), before);
        optimizer.zeroGrad();
        residual(model, points(1)).add(boundary(model)).backward();
        optimizer.step();
        optimizer.detach();
        const other = newNet(bias);
        const left = make(other, { ...o64, overrides: { '4': { skip: true } } });
        residual(other, points(1)).backward();
        left.step();
        assert.notDeepEqual(valuesOf(other), before);
      }
    });
  t.end();
});

t.test('a head that is computed and not used', t => {
  class Heads extends Module<[x: Tensor], Tensor[]> {
    readonly trunk = new Linear(3, 4, { dtype, rng: new Generator(1) });
    readonly a = new Linear(4, 2, { dtype, rng: new Generator(2) });
    readonly b = new Linear(4, 2, { dtype, rng: new Generator(3) });
    override forward(x: Tensor): Tensor[] {
      const h = this.trunk.call(x).tanh();
      return [this.a.call(h), this.b.call(h)];
    }
  }
  const x = randn([7, 3], { dtype, rng: new Generator(5) });

  for (const [name, make] of Object.entries(family))
    law(t, `${name}: keeps its weights and has no factors; the others step as without it`, () => {
      const model = new Heads();
      const optimizer = make(model, {});
      const before = valuesOf(model.b);
      for (let step = 0; step < 3; step++) {
        optimizer.zeroGrad();
        model.call(x)[0]!.square().mean().backward();
        optimizer.step();
      }
      assert.deepEqual(valuesOf(model.b), before);
      const { A, statistics } = optimizer.inspect('b');
      assert.deepEqual([A, statistics], [null, null]);
      assert.notEqual(optimizer.inspect('a').A, null);
    });

  law(t, 'an estimate adds the layers that were reached', () => {
    const model = new Heads();
    const curvature = new CurvatureEstimate(model);
    model.call(x)[1]!.square().mean().backward();
    void curvature.add();
    assert.equal(curvature.factors('b').A.shape[0], 5);
    assert.throws(() => curvature.factors('a'));
  });

  law(t, 'where both are used in passes of their own, each has the examples of both', () => {
    const model = new Heads();
    const optimizer = new KFAC(model);
    model.call(x)[0]!.square().mean().backward();
    model
      .call(x.narrow(0, 0, 3))[1]!
      .square()
      .mean()
      .backward();
    for (const path of ['trunk', 'a', 'b']) assert.equal(optimizer.inspect(path).statistics!.batch, 10);
    optimizer.step();
  });
  t.end();
});
