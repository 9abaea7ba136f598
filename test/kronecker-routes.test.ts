// The ways a gradient takes into the eigenbasis: they are one optimizer, nobody sees which of them ran, and a saved run
// goes on from the middle of any of them.
import assert from 'node:assert/strict';
import {
  type Deferred,
  Generator,
  GraphError,
  getBackend,
  grad,
  loadSafetensors,
  noGrad,
  ones,
  randn,
  type StateDict,
  saveSafetensors,
  scope,
  type Tensor,
  tensor,
  WasmBackend,
  zeros,
} from '@otimes/core';
import { Linear, Parameter, Sequential } from '@otimes/nn';
import {
  clipGradNorm,
  clipGradValue,
  EKFAC,
  KFAC,
  type KroneckerOptions,
  type KroneckerPreconditioner,
  type Route,
  SGD,
  STEVE,
} from '@otimes/optim';
import fc from 'fast-check';
import ndarray from 'ndarray';
import t from 'tap';
import { cheapestRoute, type RouteSizes, routeCosts } from '../optim/src/curvature/routes/route.ts';
import { mustBeClose } from './helpers/allclose.ts';
import { law } from './helpers/law.ts';
import { gradientMatrix } from './suites/exactness.ts';
import { optimizerLaws } from './suites/optimizers.ts';
import {
  type Acts,
  type DataOptions,
  linearAt,
  lossOf,
  newBatches,
  newNet,
  operationOf,
  train,
  valuesOf,
} from './suites/training.ts';

const ROUTES: readonly Route[] = ['gradient', 'activations', 'resident'];
const TURNED: readonly Route[] = ['activations', 'resident'];

/** Something done to a model between two parts of a step. */
type Act = (model: Sequential, step: number) => unknown;
type Make = (model: Sequential, o?: KroneckerOptions) => KroneckerPreconditioner;

const family: Record<string, Make> = {
  'KFAC eigen': (m, o) => new KFAC(m, { lr: 0.1, damping: 0.1, ...o }),
  'KFAC pi': (m, o) => new KFAC(m, { lr: 0.1, damping: 0.1, dampingSplit: 'pi', ...o }),
  'KFAC momentum': (m, o) => new KFAC(m, { lr: 0.05, damping: 0.1, momentum: 0.9, ...o }),
  'KFAC nesterov, weight decay': (m, o) =>
    new KFAC(m, { lr: 0.05, damping: 0.1, momentum: 0.8, nesterov: true, weightDecay: 0.1, ...o }),
  'KFAC klClip': (m, o) => new KFAC(m, { lr: 0.2, damping: 0.05, klClip: 1e-3, ...o }),
  'KFAC that trust bounds': (m, o) => new KFAC(m, { lr: 0.5, trust: 0.02, weightDecay: 0.1, ...o }),
  'EKFAC, defaults': (m, o) => new EKFAC(m, { lr: 0.1, ...o }),
  'EKFAC example': (m, o) => new EKFAC(m, { lr: 0.1, damping: 0.1, ...o }),
  'EKFAC batch, momentum': (m, o) =>
    new EKFAC(m, { lr: 0.1, damping: 0.1, secondMoment: 'batch', momentum: 0.5, ...o }),
  'STEVE carry': (m, o) => new STEVE(m, { lr: 0.02, ...o }),
  'STEVE zero': (m, o) => new STEVE(m, { lr: 0.02, onRefresh: 'zero', ...o }),
  'STEVE nesterov': (m, o) => new STEVE(m, { lr: 0.02, nesterov: true, ...o }),
  'STEVE example': (m, o) => new STEVE(m, { lr: 0.1, secondMoment: 'example', ...o }),
  'STEVE weight decay': (m, o) => new STEVE(m, { lr: 0.02, weightDecay: 0.1, ...o }),
};

/** The three optimizers, each with what it keeps between steps. */
const three: Record<string, Make> = {
  KFAC: (m, o) => family['KFAC momentum']!(m, o),
  EKFAC: (m, o) => family['EKFAC example']!(m, o),
  STEVE: (m, o) => family['STEVE carry']!(m, o),
};

t.test('one optimizer, whichever way the gradient takes', t => {
  const nets: Record<string, DataOptions> = {
    'an MLP': { sizes: [7, 6, 5, 4], batch: 12 },
    'an MLP without biases': { sizes: [7, 6, 5, 4], batch: 12, bias: false },
    'Linear layers over [batch, shared, inputs]': { sizes: [6, 5, 4], batch: 5, shared: 3 },
  };
  for (const [name, make] of Object.entries(family))
    for (const [where, data] of Object.entries(nets))
      law(t, `${name}, ${where}: the same trajectory on every route, through refreshes`, () => {
        for (const factorEvery of [1, 3]) {
          const along = (route: Route) =>
            train(m => make(m, { route, refreshEvery: 4, factorEvery }), { ...data, steps: 13 });
          const plain = along('gradient');
          assert.equal(plain.turned, 0);
          for (const route of TURNED) {
            const run = along(route);
            const layers = run.routes.length;
            assert.deepEqual(run.routes, new Array(layers).fill(route));
            // All but the first step's, which has no basis yet, and none was given up.
            assert.deepEqual([run.turned, run.plain], [12 * layers, layers]);
            for (const { path } of run.optimizer.describe()) assert.equal(run.optimizer.inspect(path).misses, 0);
            mustBeClose([...run.losses], [...plain.losses], { rtol: 1e-9, atol: 1e-10 }, `${route}: losses`);
            mustBeClose([...run.values], [...plain.values], { rtol: 1e-9, atol: 1e-9 }, `${route}: parameters`);
          }
        }
      });

  for (const [name, make] of Object.entries(family))
    law(t, `${name}: 'auto' mixes routes and is the same trajectory`, () => {
      const data = { sizes: [32, 32, 4], batch: 34, steps: 10 };
      const plain = train(m => make(m, { route: 'gradient', refreshEvery: 4 }), data);
      const auto = train(m => make(m, { refreshEvery: 4 }), data);
      assert.deepEqual(auto.routes, ['resident', 'gradient']);
      assert.deepEqual([auto.turned, auto.plain], [9, 11]);
      mustBeClose([...auto.values], [...plain.values], { rtol: 1e-9, atol: 1e-8 });
    });

  for (const [name, make] of Object.entries(three))
    law(t, `${name}, float32: the same trajectory within what rounding explains`, () => {
      const data = { sizes: [8, 6, 4], batch: 16, steps: 12, float: 'float32' } as const;
      const plain = train(m => make(m, { route: 'gradient', refreshEvery: 4 }), data);
      for (const route of TURNED) {
        const run = train(m => make(m, { route, refreshEvery: 4 }), data);
        assert.deepEqual(run.routes, [route, route]);
        mustBeClose([...run.values], [...plain.values], { rtol: 1e-3, atol: 1e-3 }, route);
      }
    });

  law(t, 'momentum is one matrix of parameters through refreshes: M ← μ M + (A ⊗ G + λ)⁻¹ D', () => {
    for (const route of ROUTES) {
      let before: Tensor | null = null;
      train(m => new KFAC(m, { lr: 0, damping: 0.1, momentum: 0.9, refreshEvery: 3, route }), {
        steps: 8,
        afterStep: (m, step, optimizer) => {
          const { kfe, slots } = optimizer.inspect('0');
          const D = gradientMatrix(
            linearAt(m, '0')
              .parameters()
              .map(p => p.grad!),
          );
          const update = kfe!.unproject(kfe!.project(D).div(kfe!.eigenvalues().add(0.1)));
          const now = noGrad(() => kfe!.unproject(slots.get('momentum')!));
          mustBeClose(
            now,
            before === null ? update : before.mul(0.9).add(update),
            { atol: 1e-11 },
            `${route}, ${step}`,
          );
          before = now;
        },
      });
    }
  });

  law(t, 'the cheapest route: resident for 784 × 512 and 128 rows, gradient for many rows and few features', () => {
    const sizes = (dOut: number, dIn: number, rows: number, needsInputGrad = true): RouteSizes => ({
      dOut,
      dIn,
      rows,
      needsInputGrad,
    });
    assert.equal(cheapestRoute(sizes(512, 785, 128, false)), 'resident');
    assert.equal(cheapestRoute(sizes(512, 785, 128)), 'resident');
    assert.equal(cheapestRoute(sizes(64, 577, 128 * 32 * 32)), 'gradient');
    assert.equal(cheapestRoute(sizes(16, 28, 64 * 14 * 14, false)), 'gradient');
  });

  law(t, 'activations lie halfway between the other two, so that auto takes one of those', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 4000 }), { minLength: 3, maxLength: 3 }), ([dOut, dIn, rows]) => {
        const o = { dOut: dOut!, dIn: dIn!, rows: rows!, needsInputGrad: true };
        const { gradient, activations, resident } = routeCosts(o);
        mustBeClose(activations, (gradient + resident) / 2, { rtol: 1e-12 });
        assert.notEqual(cheapestRoute(o), 'activations');
        assert.notEqual(cheapestRoute({ ...o, needsInputGrad: false }), 'activations');
      }),
      { seed: 42 },
    );
  });

  law(t, 'the costs are those of the products that each route makes', () => {
    // O I (O + I) for a projection, 2 operations each; two of them with the way back.
    assert.deepEqual(routeCosts({ dOut: 2, dIn: 3, rows: 5, needsInputGrad: true }), {
      gradient: 2 * (2 * 2 * 3 * 5),
      activations: 2 * 5 * (4 + 9) + 2 * 2 * 3 * 5,
      resident: 2 * 5 * (2 * 4 + 2 * 9),
    });
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 2000 }), { minLength: 3, maxLength: 3 }), ([dOut, dIn, rows]) => {
        const o = { dOut: dOut!, dIn: dIn!, rows: rows! };
        const costs = routeCosts({ ...o, needsInputGrad: true });
        const best = cheapestRoute({ ...o, needsInputGrad: true });
        for (const route of ROUTES) assert.ok(costs[best] <= costs[route] / 0.9, `${best} and ${route}`);
        assert.ok(routeCosts({ ...o, needsInputGrad: false }).resident <= costs.resident);
      }),
      { seed: 42 },
    );
  });

  law(t, 'describe() tells the route from the first step on; identity sides and other classes take gradients', () => {
    class Doubled extends Linear {
      override forward(x: Tensor): Tensor {
        return super.forward(x).mul(2);
      }
    }
    const o = { dtype: 'float64', rng: new Generator(1) } as const;
    const model = new Sequential(new Linear(6, 6, o), new Doubled(6, 4, o), new Linear(4, 3, o));
    const optimizer = new STEVE(model, { route: 'resident', maxFactorDim: 6 });
    const routes = () => optimizer.describe().map(({ route }) => route);
    assert.deepEqual(routes(), ['gradient', 'gradient', 'gradient']);
    const { x, y } = newBatches({ sizes: [6, 3], steps: 1 })[0]!;
    for (let step = 0; step < 2; step++) {
      optimizer.zeroGrad();
      lossOf(model.call(x), y).backward();
      optimizer.step();
    }
    assert.deepEqual(routes(), ['gradient', 'gradient', 'resident']);
    // What the class of its own computes is what runs.
    mustBeClose(
      model.layers[1]!.call(ones([1, 6], { dtype: o.dtype })),
      noGrad(() => model.layers[1]!.forward(ones([1, 6], { dtype: o.dtype }))),
    );
  });
  t.end();
});

/** A model in the middle of a refresh period on some route, its plain twin, and a batch. */
function midway(route: Route, o: DataOptions & { make?: Make; factorEvery?: number } = {}) {
  const { make = family['STEVE carry']!, factorEvery = 1, ...data } = o;
  const run = train(m => make(m, { refreshEvery: 8, factorEvery, route }), { ...data, steps: 3 });
  const { model, optimizer } = run;
  assert.ok(
    run.routes.every(one => one === route),
    `${run.routes} instead of ${route}`,
  );
  const twin = newNet(data);
  twin.loadStateDict(model.stateDict());
  const { x, y } = newBatches({ ...data, steps: 5 })[4]!;
  const loss = (of: Sequential = model) => lossOf(of.call(x), y);
  optimizer.zeroGrad();
  return { model, optimizer, twin, x, y, loss };
}

/** Runs with the same acts on every route end in the same place. */
function sameEverywhere(
  acts: Acts,
  o: DataOptions & { make?: Make; refreshEvery?: number; factorEvery?: number } = {},
): void {
  const { make = family['STEVE weight decay']!, refreshEvery = 5, factorEvery = 1, ...data } = o;
  const [plain, ...others] = ROUTES.map(route =>
    train(m => make(m, { route, refreshEvery, factorEvery }), { steps: 12, ...data, ...acts }),
  );
  for (const [i, run] of others.entries()) {
    assert.ok(run.turned > 0, TURNED[i]);
    mustBeClose([...run.losses], [...plain!.losses], { rtol: 1e-9, atol: 1e-9 }, `${TURNED[i]}: losses`);
    mustBeClose([...run.values], [...plain!.values], { rtol: 1e-9, atol: 1e-9 }, TURNED[i]);
  }
}

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

  law(t, 'clipGradNorm measures the norm of the plain model’s gradients on every route', () => {
    for (const route of ROUTES) {
      const { model, twin, loss } = midway(route);
      loss().backward();
      loss(twin).backward();
      mustBeClose(clipGradNorm(model.parameters(), 1e3), clipGradNorm(twin.parameters(), 1e3), { rtol: 1e-10 });
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

  law(t, 'evaluation, state dicts, safetensors, devices and both forward passes see the weight', () => {
    const expected = train(m => new STEVE(m, { lr: 0.02, route: 'gradient', refreshEvery: 5 }), { steps: 8 });
    const { x } = newBatches({ steps: 1 })[0]!;
    const z = noGrad(() => expected.model.call(x));
    for (const route of TURNED) {
      const runs = Array.from({ length: 9 }, () =>
        train(m => new STEVE(m, { lr: 0.02, route, refreshEvery: 5 }), { steps: 8 }),
      );
      // Each is looked at in one way only, since a look settles what was left to be computed.
      const fresh = () => runs.pop()!;
      const close = (y: Tensor, what: string) => mustBeClose(y, z, { rtol: 1e-9, atol: 1e-10 }, `${route}: ${what}`);
      const loaded = (state: StateDict) => {
        const model = newNet();
        model.loadStateDict(state);
        return model.call(x);
      };
      close(fresh().model.call(x), 'recorded');
      close(
        noGrad(() => fresh().model.call(x)),
        'noGrad',
      );
      close(fresh().model.eval().call(x), 'eval');
      close(fresh().model.forward(x), 'forward');
      close(loaded(fresh().model.stateDict()), 'stateDict');
      close(loaded(loadSafetensors(saveSafetensors(fresh().model.stateDict()))), 'safetensors');
      close(loaded(Object.fromEntries(fresh().model.namedParameters())), 'the parameters themselves');
      close(fresh().model.to('reference').call(x.to('reference')).to('cpu'), 'another device');
      const { weight, bias } = linearAt(fresh().model, '0');
      close(
        loaded({ ...expected.model.stateDict(), '0.weight': weight.clone(), '0.bias': bias!.mul(1) }),
        'operations',
      );
      close(loaded({ ...expected.model.stateDict(), '0.weight': weight.transpose().clone().transpose() }), 'views');
    }
  });

  law(t, 'a layer given another weight, or moved, computes with what it has', () => {
    for (const route of ROUTES) {
      const { model, x } = midway(route);
      linearAt(model, '0').weight = new Parameter(zeros([5, 6], { dtype: 'float64' }));
      linearAt(model, '2').bias = null;
      const z = model.call(x);
      mustBeClose(
        z,
        noGrad(() => model.call(x)),
        { rtol: 1e-10, atol: 1e-12 },
      );
      const moved = midway(route);
      moved.model.to('reference');
      assert.throws(() => moved.model.call(moved.x), /expected tensors on one device/);
    }
  });

  law(t, 'a graph from before a step is refused where it needs the weights of then', () => {
    for (const route of ROUTES) {
      const { optimizer, loss } = midway(route);
      const [stale, fresh] = [loss(), loss()];
      fresh.backward();
      optimizer.step();
      assert.throws(() => stale.backward(), GraphError, route);
    }
    // The gradient of a layer without a layer below needs no weight; so it is that of the plain model.
    for (const route of ROUTES) {
      const { model, optimizer, twin, loss } = midway(route, { sizes: [6, 4] });
      const [stale, theirs] = [loss(), loss(twin)];
      loss().backward();
      optimizer.step();
      optimizer.zeroGrad();
      stale.backward();
      theirs.backward();
      mustBeClose(linearAt(model, '0').weight.grad!, linearAt(twin, '0').weight.grad!, { atol: 1e-13 }, route);
    }
  });

  law(t, 'forward() without call() runs in parameter coordinates; without statistics to collect it trains', () => {
    sameEverywhere(
      { loss: (m, { x, y }) => lossOf(m.layers[2]!.forward(m.layers[1]!.call(m.layers[0]!.call(x))), y) },
      {
        make: (m, o) =>
          new STEVE(m, { ...o, overrides: { '2': { skip: true } }, rest: ps => new SGD(ps, { lr: 0.1 }) }),
        factorEvery: 3,
      },
    );
    for (const route of ROUTES) {
      const { model, optimizer, x, y } = midway(route, { factorEvery: 8 });
      const before = valuesOf(model);
      lossOf(
        model.layers.reduce((h, layer) => layer.forward(h), x),
        y,
      ).backward();
      optimizer.step();
      assert.ok(
        valuesOf(model).every((value, i) => value !== before[i]),
        route,
      );
    }
  });

  law(t, 'inputs of every kind: one row alone, several axes, views, another dtype, no rows at all', () => {
    const o = { dtype: 'float64', rng: new Generator(8) } as const;
    const inputs: Record<string, Tensor> = {
      'one row alone': randn([6], o),
      'several axes': randn([2, 3, 2, 6], o),
      'a transposed view': randn([6, 5], o).transpose(),
      'permuted axes': randn([6, 2, 3], o).permute(1, 2, 0),
      'repeated rows': randn([1, 6], o).expand([4, 6]),
      'a part': randn([9, 8], o).narrow(0, 2, 4).narrow(1, 1, 6),
      float32: randn([4, 6], { rng: o.rng }),
      'no rows': randn([0, 6], o),
    };
    for (const route of ROUTES)
      for (const [what, x] of Object.entries(inputs)) {
        const { model, twin } = midway(route, { factorEvery: 8 });
        const [mine, theirs] = [model, twin].map(of => {
          const leaf = Object.assign(x.detach(), { requiresGrad: true });
          const y = of.call(leaf);
          // A gradient that is no contiguous array either.
          y.transpose(0, -1).square().sum().backward();
          return [y, leaf.grad!, ...of.parameters().map(p => p.grad!)];
        });
        for (const [i, value] of mine!.entries())
          mustBeClose(value, theirs![i]!, { rtol: 1e-9, atol: 1e-11 }, `${route}, ${what}, ${i}`);
      }
  });

  law(t, 'a second step on the same gradients, and a state loaded between backward and step', () => {
    for (const make of [three.KFAC!, three.STEVE!])
      sameEverywhere(
        { afterStep: (_, step, optimizer) => step % 4 === 1 && optimizer.step() },
        { make, refreshEvery: 30, factorEvery: 30 },
      );
    for (const make of Object.values(three)) {
      const saved = new Map<Sequential, () => void>();
      sameEverywhere(
        {
          beforeStep: (m, step) => step % 4 === 1 && saved.get(m)?.(),
          afterStep: (m, _, optimizer) => saved.set(m, () => optimizer.loadStateDict(optimizer.stateDict())),
        },
        { make, refreshEvery: 30, factorEvery: 30 },
      );
    }
  });

  law(t, 'the reference device has the same routes', () => {
    for (const make of Object.values(three))
      for (const route of TURNED) {
        const model = newNet().to('reference');
        const optimizer = make(model, { route, refreshEvery: 4 });
        for (const { x, y } of newBatches({ steps: 10 })) {
          optimizer.zeroGrad();
          lossOf(model.call(x.to('reference')), y.to('reference')).backward();
          optimizer.step();
        }
        assert.deepEqual(
          optimizer.describe().map(row => row.route),
          [route, route],
        );
        const cpu = train(m => make(m, { route: 'gradient', refreshEvery: 4 }), { steps: 10 });
        mustBeClose(valuesOf(model), [...cpu.values], { rtol: 1e-9, atol: 1e-9 });
      }
  });

  law(t, 'frozen before the optimizer: a weight is not claimed, a bias leaves a block without its column', () => {
    for (const what of ['weight', 'bias'] as const) {
      const runs = ROUTES.map(route =>
        train(m => {
          linearAt(m, '0')[what]!.requiresGrad = false;
          return new STEVE(m, { lr: 0.02, route, refreshEvery: 5 });
        }),
      );
      for (const { model, optimizer, values } of runs) {
        mustBeClose([...values], [...runs[0]!.values], { rtol: 1e-9, atol: 1e-9 }, what);
        assert.deepEqual([...linearAt(model, '0')[what]!.dataSync()], [...linearAt(newNet(), '0')[what]!.dataSync()]);
        assert.notEqual(optimizer.describe()[0]!.parameters.join(), '0.weight,0.bias');
      }
    }
  });

  law(t, 'a layer frozen later rests, keeps its state, and goes on when it is thawed', () => {
    const still = new Map<Route, number[]>();
    const runs = ROUTES.map(route =>
      train(m => new STEVE(m, { lr: 0.02, route, refreshEvery: 5 }), {
        afterStep: (m, step, optimizer) => {
          const { weight, bias } = linearAt(m, '0');
          const now = [...weight.dataSync(), ...bias!.dataSync(), ...optimizer.inspect('0').slots.get('m')!.dataSync()];
          if (step === 3) still.set(route, now);
          if (step > 3 && step <= 8) assert.deepEqual(now, still.get(route));
          if (step > 8) assert.notDeepEqual(now, still.get(route));
          for (const p of [weight, bias!]) p.requiresGrad = step < 3 || step >= 8;
        },
      }),
    );
    for (const run of runs.slice(1)) mustBeClose([...run.values], [...runs[0]!.values], { rtol: 1e-9, atol: 1e-9 });
  });

  law(t, 'a part of a layer that is frozen later is an error that names it', () => {
    for (const route of ROUTES)
      for (const what of ['weight', 'bias'] as const) {
        const { model, optimizer, loss } = midway(route);
        linearAt(model, '2')[what]!.requiresGrad = false;
        const before = valuesOf(model);
        loss().backward();
        const message = new RegExp(
          `STEVE: linear '2' has gradients for some of its parameters, but none for '2.${what}'`,
        );
        assert.throws(() => optimizer.step(), message);
        assert.deepEqual(valuesOf(model), before);
      }
  });

  law(t, 'training inside scope() is the same on every route, bit for bit', () => {
    for (const make of Object.values(three))
      for (const route of ROUTES) {
        const plain = train(m => make(m, { route, refreshEvery: 3 }), { steps: 8 });
        const model = newNet();
        const optimizer = make(model, { route, refreshEvery: 3 });
        for (const { x, y } of newBatches({ steps: 8 }))
          scope(() => {
            optimizer.zeroGrad();
            lossOf(model.call(x), y).backward();
            optimizer.step();
          });
        assert.deepEqual(valuesOf(model), plain.values);
        assert.ok(model.parameters().every(p => Number.isFinite(p.grad!.sum().item())));
      }
  });

  law(t, 'detach() leaves parameters that are right, and layers as they were: another optimizer may follow', () => {
    for (const route of ROUTES) {
      const { model, optimizer, x, y } = midway(route);
      const before = optimizer.stateDict();
      optimizer.detach();
      const y0 = model.call(x);
      for (const path of ['0', '2'])
        assert.equal(
          operationOf(
            linearAt(model, path).call(
              linearAt(model, path) === model.layers[0] ? x : y0.mul(0).matmul(zeros([4, 5], { dtype: 'float64' })),
            ),
          ),
          'linear',
        );
      const second = new KFAC(model, { route, lr: 0.01 });
      for (let step = 0; step < 3; step++) {
        second.zeroGrad();
        lossOf(model.call(x), y).backward();
        second.step();
      }
      assert.deepEqual(
        second.describe().map(row => row.route),
        [route, route],
      );
      mustBeClose(optimizer.stateDict()['blocks.0.A']!, before['blocks.0.A']!, { rtol: 0, atol: 0 });
      second.detach();
    }
  });

  law(t, 'a second optimizer on a model that one has already is refused and leaves nothing behind', () => {
    const model = newNet();
    const first = new STEVE(model, { overrides: { '0': { skip: true } } });
    assert.throws(
      () => new KFAC(model),
      /Linear: its forward pass is substituted already; .*Kronecker optimizer has detach\(\)/,
    );
    const { x, y } = newBatches({ steps: 1 })[0]!;
    first.detach();
    const hooks = linearAt(model, '0');
    hooks.substitute(x => hooks.forward(x)).remove();
    const z = model.call(x);
    assert.ok(!z.hasGradHooks, 'no hook of the refused one waits for gradients');
    lossOf(z, y).backward();
  });
  t.end();
});

/** Bytes of WebAssembly memory that tensors hold. */
const memoryInUse = (): number => {
  const backend = getBackend('cpu');
  assert.ok(backend instanceof WasmBackend);
  return backend.kernels.heap.stats.live;
};

/** Counts what is left to be computed later, and how much of it is computed after all, while `run` runs. */
function countingDeferred(run: () => void): { deferred: number; made: number } {
  const prototype: { defer: (d: Deferred) => void } = Object.getPrototypeOf(zeros([1]).storage);
  const { defer } = prototype;
  const count = { deferred: 0, made: 0 };
  prototype.defer = function (d) {
    count.deferred++;
    const make = () => {
      count.made++;
      return d.make();
    };
    defer.call(this, { ...d, make });
  };
  try {
    run();
  } finally {
    prototype.defer = defer;
  }
  return count;
}

t.test('memory', t => {
  const data = { sizes: [64, 48, 16], batch: 32, steps: 6 };
  const [W0, z] = [64 * 48 * 8, 32 * 16 * 8];
  /** Steps without statistics, after some with a basis. */
  const start = (make: Make, route: Route) => {
    const model = newNet(data);
    const optimizer = make(model, { route, refreshEvery: 1000, factorEvery: 1000 });
    const batches = newBatches(data);
    const step = (i: number, between?: () => void) => {
      const { x, y } = batches[i % batches.length]!;
      optimizer.zeroGrad();
      lossOf(model.call(x), y).backward();
      between?.();
      optimizer.step();
    };
    for (let i = 0; i < 3; i++) step(i);
    return { model, optimizer, step };
  };

  for (const [name, make] of Object.entries(three).filter(([name]) => name !== 'EKFAC'))
    for (const route of ROUTES)
      for (const [how, between] of Object.entries<Act | undefined>({
        'gradients unread': undefined,
        'gradients clipped': (m: Sequential) => void clipGradNorm(m.parameters(), 1e6),
      }))
        law(t, `${name}, ${route}, ${how}: 300 steps leave nothing behind but the outputs that the user saw`, () => {
          const { model, step } = start(make, route);
          // Windows that are too short for a collection, which would hide what is left behind.
          const windows = Array.from({ length: 6 }, () => {
            const before = memoryInUse();
            for (let i = 0; i < 50; i++) step(i, between && (() => between(model, i)));
            return (memoryInUse() - before) / 50;
          });
          // The logits and a few numbers; one weight-sized leftover a step would be six times that.
          const most = Math.max(...windows);
          assert.ok(most < z + 4096 && most < W0 / 2, `${most} bytes a step`);
        });

  law(t, 'gradients and parameters that nobody reads are never computed', () => {
    for (const [route, each] of [
      ['activations', 4],
      ['resident', 8],
    ] as const) {
      const { model, step } = start(family['STEVE carry']!, route);
      // A gradient for each parameter, and where the weights are resident the parameters themselves.
      assert.deepEqual(
        countingDeferred(() => {
          for (let i = 0; i < 10; i++) step(i);
        }),
        { deferred: 10 * each, made: 0 },
      );
      const read = countingDeferred(() => step(0, () => void linearAt(model, '0').weight.grad!.toArray()));
      assert.deepEqual(read, { deferred: each, made: 1 });
    }
  });

  law(t, 'D̃ is given back with the last gradient that could need it, and not before', () => {
    for (const route of TURNED)
      for (const clipped of [false, true]) {
        const { model, optimizer, step } = start(family['STEVE carry']!, route);
        step(0, clipped ? () => void clipGradNorm(model.parameters(), 1e6) : undefined);
        const { weight, bias } = linearAt(model, '0');
        const { D } = weight.borrowGrad()!.storage.origin as { D: Tensor };
        assert.deepEqual(D.shape, [48, 65]);
        bias!.grad = null;
        assert.ok(!D.storage.released);
        weight.grad = null;
        assert.ok(D.storage.released, `${route}, clipped: ${clipped}`);
        step(1);
        const kept = weight.grad!;
        optimizer.zeroGrad();
        assert.ok(Number.isFinite(kept.sum().item()));
      }
  });
  t.end();
});

const throughFile = (state: StateDict): StateDict => loadSafetensors(saveSafetensors(state));
const bytesOf = (state: StateDict) =>
  Object.fromEntries(Object.entries(state).map(([key, x]) => [key, [x.dtype, ...x.shape, ...x.dataSync()]]));

t.test('saved in the middle of a refresh period', t => {
  for (const route of [...TURNED, 'auto'] as const)
    for (const [name, kind] of Object.entries(three))
      t.test(`${name}, ${route}`, t => {
        optimizerLaws(t, { name, make: m => kind(m as Sequential, { route, refreshEvery: 4, factorEvery: 3 }) });
        t.end();
      });

  for (const [what, beforeStep] of Object.entries<Act | undefined>({
    'nothing in between': undefined,
    'a norm that is only measured': (m: Sequential) => void clipGradNorm(m.parameters(), 1e6),
    'clipped on every step': (m: Sequential) => void clipGradNorm(m.parameters(), 0.01),
    'clipped on some steps': (m: Sequential, step: number) => step % 3 === 1 && void clipGradNorm(m.parameters(), 0.01),
  }))
    law(
      t,
      `${what}: a loaded run goes on bit for bit, whether the model is loaded before the optimizer or after`,
      () => {
        const sizes = [32, 32, 4];
        const data = { sizes, batch: 34, steps: 14 };
        const batches = newBatches(data);
        for (const make of Object.values(three))
          for (const route of ['auto', ...TURNED] as const) {
            const begin = (seed: number) => {
              const model = newNet({ sizes, seed });
              const optimizer = make(model, { route, refreshEvery: 5, factorEvery: 2 });
              return { model, optimizer };
            };
            type Pair = ReturnType<typeof begin>;
            const go = ({ model, optimizer }: Pair, from: number, to: number) => {
              for (let i = from; i < to; i++) {
                optimizer.zeroGrad();
                lossOf(model.call(batches[i]!.x), batches[i]!.y).backward();
                beforeStep?.(model, i);
                optimizer.step();
              }
            };
            const whole = begin(1);
            go(whole, 0, 14);
            for (const cut of [4, 8]) {
              const first = begin(1);
              go(first, 0, cut);
              const saved = {
                model: throughFile(first.model.stateDict()),
                optimizer: throughFile(first.optimizer.stateDict()),
              };
              for (const modelFirst of [true, false]) {
                const second = begin(2);
                go(second, 0, modelFirst ? 3 : 0);
                if (modelFirst) second.model.loadStateDict(saved.model);
                second.optimizer.loadStateDict(saved.optimizer);
                if (!modelFirst) second.model.loadStateDict(saved.model);
                // Saving again before anything ran is the same state.
                assert.deepEqual(bytesOf(second.optimizer.stateDict()), bytesOf(saved.optimizer));
                assert.deepEqual(bytesOf(second.model.stateDict()), bytesOf(saved.model));
                go(second, cut, 14);
                assert.deepEqual(bytesOf(second.optimizer.stateDict()), bytesOf(whole.optimizer.stateDict()));
                assert.deepEqual(valuesOf(second.model), valuesOf(whole.model));
              }
              // The run that was saved goes on undisturbed.
              go(first, cut, 14);
              assert.deepEqual(valuesOf(first.model), valuesOf(whole.model));
            }
          }
      },
    );

  law(t, 'a weight that was changed between saving and loading counts, not its image in the basis', () => {
    const resume = (make: Make, route: Route, modelFirst: boolean) => {
      const o = { route, refreshEvery: 5 };
      const first = train(m => make(m, o), { steps: 8 });
      const state = first.model.stateDict();
      state['0.weight'] = state['0.weight']!.mul(1.5);
      const model = newNet({ seed: 2 });
      const optimizer = make(model, o);
      if (modelFirst) model.loadStateDict(state);
      optimizer.loadStateDict(first.optimizer.stateDict());
      if (!modelFirst) model.loadStateDict(state);
      mustBeClose(linearAt(model, '0').weight, state['0.weight'], { rtol: 0, atol: 0 });
      for (const { x, y } of newBatches({ steps: 12 }).slice(8)) {
        optimizer.zeroGrad();
        lossOf(model.call(x), y).backward();
        optimizer.step();
      }
      return valuesOf(model);
    };
    for (const make of Object.values(three))
      for (const modelFirst of [true, false]) {
        const plain = resume(make, 'gradient', modelFirst);
        for (const route of TURNED)
          mustBeClose(resume(make, route, modelFirst), plain, { rtol: 1e-9, atol: 1e-9 }, route);
      }
  });

  law(t, 'a state goes from one route to another, and on from the next refresh', () => {
    for (const make of Object.values(three))
      for (const [from, to] of [
        ['resident', 'gradient'],
        ['gradient', 'resident'],
        ['activations', 'resident'],
      ] as const) {
        const first = train(m => make(m, { route: from, refreshEvery: 5 }), { steps: 7 });
        const model = newNet({ seed: 2 });
        const optimizer = make(model, { route: to, refreshEvery: 5 });
        model.loadStateDict(first.model.stateDict());
        optimizer.loadStateDict(first.optimizer.stateDict());
        for (const { x, y } of newBatches({ steps: 12 }).slice(7)) {
          optimizer.zeroGrad();
          lossOf(model.call(x), y).backward();
          optimizer.step();
        }
        assert.deepEqual(
          optimizer.describe().map(row => row.route),
          [to, to],
        );
        const plain = train(m => make(m, { route: 'gradient', refreshEvery: 5 }), { steps: 12 });
        mustBeClose(valuesOf(model), [...plain.values], { rtol: 1e-9, atol: 1e-9 });
      }
  });
  t.end();
});
