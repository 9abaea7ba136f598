// Nobody sees which way a gradient took into the eigenbasis: what is read, hooked, penalised and written while it runs.

import assert from 'node:assert/strict';
import { Generator, grad, noGrad, ones, randn, type Tensor, tensor } from '@otimes/core';
import { Parameter, type Sequential } from '@otimes/nn';
import { clipGradNorm, clipGradValue, STEVE } from '@otimes/optim';
import ndarray from 'ndarray';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { law } from './helpers/law.ts';
import { type Act, family, midway, ROUTES, sameEverywhere, TURNED, three } from './helpers/routes.ts';
import { type Acts, linearAt, lossOf, newNet, train } from './suites/training.ts';

t.test('nobody sees which route ran', t => {
  for (const route of ROUTES)
    for (const float of ['float64', 'float32'] as const)
      for (const shared of [undefined, 3])
        law(t, `${route}, ${float}, ${shared ?? 1} positions: gradients read as those of the plain model`, () => {
          const { model, optimizer, twin, x, y, loss } = midway(route, { float, shared });
          const leaf = (of: Tensor) => Object.assign(of.clone(), { requiresGrad: true });
          const [mine, theirs] = [leaf(x), leaf(x)];
          lossOf(model.call(mine), y).backward();
          lossOf(twin.call(theirs), y).backward();
          const tolerance = float === 'float32' ? { rtol: 1e-3, atol: 1e-5 } : { rtol: 1e-9, atol: 1e-12 };
          mustBeClose(mine.grad!, theirs.grad!, tolerance, 'the input');
          for (const [path, p] of model.namedParameters()) {
            const expected = twin.namedParameters().get(path)!.grad!;
            const g = p.grad!;
            assert.deepEqual([g.shape, g.dtype, g.device], [p.shape, p.dtype, p.device]);
            mustBeClose(g, expected, tolerance, path);
            mustBeClose(g.clone(), expected, tolerance, `clone of ${path}`);
            mustBeClose(tensor(g.ndarray()), expected, tolerance, `ndarray of ${path}`);
            mustBeClose(g.reshape([-1]).mul(2), expected.flatten().mul(2), tolerance, `view of ${path}`);
          }
          // They are the user's to keep.
          const kept = model.parameters().map(p => ({ g: p.grad!, values: p.grad!.clone() }));
          optimizer.step();
          optimizer.zeroGrad();
          loss().backward();
          for (const { g, values } of kept) mustBeClose(g, values, { rtol: 0, atol: 0 });
        });

  for (const route of TURNED)
    law(t, `${route}: a gradient that is read first after the step, and after zeroGrad, is still that gradient`, () => {
      const { model, optimizer, twin, loss } = midway(route);
      loss().backward();
      loss(twin).backward();
      const gradients = model.parameters().map(p => p.grad!);
      optimizer.step();
      optimizer.zeroGrad();
      loss().backward();
      optimizer.step();
      for (const [i, g] of gradients.entries()) mustBeClose(g, twin.parameters()[i]!.grad!, { atol: 1e-12 });
    });

  law(t, 'reading gradients, parameters and states between steps changes no bit of what follows', () => {
    for (const make of Object.values(three))
      for (const route of ROUTES) {
        const options = { route, refreshEvery: 5 };
        const quiet = train(m => make(m, options));
        const watched = train(m => make(m, options), {
          beforeStep: model => {
            for (const p of model.parameters()) p.grad!.toArray();
          },
          afterStep: (model, _, optimizer) => {
            model.stateDict();
            optimizer.stateDict();
            optimizer.report();
            for (const p of model.parameters()) p.toArray();
          },
        });
        assert.deepEqual(watched.values, quiet.values);
        assert.deepEqual(watched.routes, quiet.routes);
      }
  });

  for (const [what, clip] of Object.entries<Act>({
    'clipGradNorm below the norm': (m: Sequential) => void clipGradNorm(m.parameters(), 0.05),
    'clipGradNorm above the norm': (m: Sequential) => void clipGradNorm(m.parameters(), 1e3),
    clipGradValue: (m: Sequential) => clipGradValue(m.parameters(), 0.01),
    'a gradient replaced by twice itself': (m: Sequential) => {
      const { weight } = linearAt(m, '0');
      weight.grad = weight.grad!.mul(2);
    },
    'a gradient scaled in place': (m: Sequential) => void linearAt(m, '2').weight.grad!.scale_(0.5),
    'a gradient written to as an ndarray': (m: Sequential) => linearAt(m, '2').bias!.grad!.ndarray().set(0, 0.25),
    'a gradient replaced by a view of its own memory': (m: Sequential) => {
      const { weight } = linearAt(m, '2');
      weight.grad = weight.grad!.transpose();
    },
  }))
    law(t, `${what} has the effect that it has on the plain route`, () => {
      for (const make of Object.values(three)) {
        const options = { make, sizes: [6, 4, 4], refreshEvery: 3 };
        sameEverywhere({ beforeStep: (m, step) => step % 4 !== 0 && clip(m, step) }, options);
      }
    });

  law(t, 'clipGradNorm measures the norm of the plain model’s gradients on every route', async () => {
    for (const route of ROUTES) {
      const { model, twin, loss } = midway(route);
      loss().backward();
      loss(twin).backward();
      const [norm, expected] = [
        await clipGradNorm(model.parameters(), 1e3),
        await clipGradNorm(twin.parameters(), 1e3),
      ];
      mustBeClose(norm, expected, { rtol: 1e-10 });
    }
  });

  law(t, 'routes that do not pay are given up: gradients clipped on every step', () => {
    for (const route of TURNED) {
      const run = train(m => family['STEVE carry']!(m, { route, refreshEvery: 20 }), {
        beforeStep: m => void clipGradNorm(m.parameters(), 1e-3),
      });
      assert.deepEqual(run.routes, ['gradient', 'gradient']);
    }
  });

  law(t, 'grad(loss, [weight]) is dW, keeps the graph, and leaves nothing on the leaves', () => {
    for (const route of ROUTES) {
      const { model, twin, loss } = midway(route);
      const [mine, theirs] = [loss(), loss(twin)];
      const parametersOf = (m: Sequential) => [linearAt(m, '0').weight, linearAt(m, '2').bias!];
      const expected = grad(theirs, parametersOf(twin));
      for (let again = 0; again < 2; again++)
        for (const [i, g] of grad(mine, parametersOf(model)).entries()) mustBeClose(g, expected[i]!, { atol: 1e-13 });
      assert.ok(model.parameters().every(p => p.grad === null));
      mine.backward();
      theirs.backward();
      mustBeClose(linearAt(model, '0').weight.grad!, linearAt(twin, '0').weight.grad!, { atol: 1e-13 });
    }
  });

  for (const fisher of ['empirical', 'ggn'] as const)
    law(t, `grad() between forward and backward changes nothing of the step (${fisher})`, () => {
      for (const kind of Object.values(three))
        for (const route of ROUTES) {
          const make = (m: Sequential) => kind(m, { route, refreshEvery: 4, fisher, loss: 'crossEntropy' });
          const quiet = train(make);
          const looked = train(make, {
            beforeBackward: (m, loss) => {
              grad(loss, m.parameters());
              grad(loss, [linearAt(m, '0').weight], { createGraph: true });
            },
          });
          assert.deepEqual(looked.routes, quiet.routes);
          mustBeClose([...looked.values], [...quiet.values], { rtol: 1e-10, atol: 1e-12 }, route);
        }
    });

  law(t, 'the Hessian–vector product by grad of grad is that of the plain model', () => {
    for (const route of ROUTES)
      for (const shared of [undefined, 3]) {
        const { model, twin, loss } = midway(route, { shared });
        const hvp = (m: Sequential) => {
          const ps = m.parameters();
          const rng = new Generator(4);
          const gs = grad(loss(m), ps, { createGraph: true });
          const terms = gs.map(g => g.mul(randn(g.shape, { dtype: 'float64', rng })).sum());
          return grad(
            terms.reduce((sum, term) => sum.add(term)),
            ps,
          );
        };
        const expected = hvp(twin);
        for (const [i, g] of hvp(model).entries())
          mustBeClose(g, expected[i]!, { rtol: 1e-9, atol: 1e-12 }, `${route}, ${i}`);
      }
  });

  law(t, 'a penalty on a weight inside the loss, a gradient penalty too', () => {
    for (const make of Object.values(three)) {
      sameEverywhere(
        {
          loss: (m, { x, y }) => {
            const { weight, bias } = linearAt(m, '0');
            return lossOf(m.call(x), y).add(weight.square().sum().mul(0.05)).add(bias!.square().sum().mul(0.1));
          },
        },
        { make },
      );
      sameEverywhere(
        {
          loss: (m, { x, y }) => {
            const loss = lossOf(m.call(x), y);
            const [g] = grad(loss, [linearAt(m, '2').weight], { createGraph: true });
            return loss.add(g!.square().sum());
          },
        },
        { make, factorEvery: 20, refreshEvery: 20 },
      );
    }
  });

  law(t, 'hooks on a weight see dW, and what they return takes its place', () => {
    for (const route of ROUTES) {
      const { model, twin, loss } = midway(route);
      const seen: Tensor[] = [];
      linearAt(model, '0').weight.onGrad(g => void seen.push(g));
      linearAt(model, '2').bias!.onGrad(g => g.mul(3));
      loss().backward();
      loss(twin).backward();
      assert.equal(seen.length, 1);
      mustBeClose(seen[0]!, linearAt(twin, '0').weight.grad!, { atol: 1e-13 });
      mustBeClose(linearAt(model, '2').bias!.grad!, linearAt(twin, '2').bias!.grad!.mul(3), { atol: 1e-13 });
    }
    sameEverywhere({
      beforeBackward: (m, _, step) => {
        const { weight } = linearAt(m, '2');
        const handle = weight.onGrad(g => g.mul(1 + step));
        weight.onGrad(() => handle.remove());
      },
    });
  });

  const other = newNet({ seed: 9 }).stateDict();
  for (const [what, write] of Object.entries<Act>({
    'scale_ of a weight': (m: Sequential) => void linearAt(m, '0').weight.scale_(0.9),
    'copy_ to a bias': (m: Sequential) =>
      void linearAt(m, '2').bias!.copy_(tensor([1, 0, -1, 2], { dtype: 'float64' })),
    'addScaled_ to a row of a weight': (m: Sequential) =>
      void linearAt(m, '0')
        .weight.detach()
        .narrow(0, 1, 1)
        .addScaled_(ones([1, 6], { dtype: 'float64' }), 0.1),
    'loadStateDict of the model': (m: Sequential) => m.loadStateDict(other),
  }))
    law(t, `${what} between steps is honoured`, () => {
      for (const make of Object.values(three))
        sameEverywhere({ afterStep: (m, step) => step % 3 === 1 && noGrad(() => write(m, step)) }, { make });
    });

  law(t, 'weight.ndarray() shows every later update and takes writes; its block goes back to gradients', () => {
    for (const route of TURNED) {
      const views: ndarray.NdArray[] = [];
      const acts = (writes: boolean): Acts => ({
        afterStep: (m, step) => {
          const { weight } = linearAt(m, '0');
          if (step === 2 && writes) views.push(weight.ndarray());
          if (step < 4) return;
          if (writes) {
            assert.deepEqual(
              [...weight.dataSync()].slice(0, 6),
              Array.from({ length: 6 }, (_, j) => views[0]!.get(0, j)),
            );
            views[0]!.set(0, 1, views[0]!.get(0, 1) + 0.125);
          } else
            noGrad(() =>
              weight
                .detach()
                .narrow(0, 0, 1)
                .narrow(1, 1, 1)
                .addScaled_(ones([1, 1], { dtype: 'float64' }), 0.125),
            );
        },
      });
      const plain = train(m => new STEVE(m, { lr: 0.02, route: 'gradient', refreshEvery: 5 }), acts(false));
      const run = train(m => new STEVE(m, { lr: 0.02, route, refreshEvery: 5 }), acts(true));
      mustBeClose([...run.values], [...plain.values], { rtol: 1e-9, atol: 1e-9 });
      assert.deepEqual(run.routes, ['gradient', route]);
    }
  });

  law(t, 'a parameter over an ndarray of the user is never kept anywhere else', () => {
    const data = Float64Array.from({ length: 30 }, (_, i) => Math.sin(i));
    const run = train(
      m => {
        linearAt(m, '0').weight = new Parameter(tensor(ndarray(data, [5, 6])));
        return new STEVE(m, { route: 'resident' });
      },
      { steps: 4 },
    );
    assert.deepEqual(run.routes, ['gradient', 'resident']);
    assert.deepEqual([...linearAt(run.model, '0').weight.dataSync()], [...data]);
  });
  t.end();
});
