// The ways a gradient takes into the eigenbasis are one optimizer, and what they need in memory.

import assert from 'node:assert/strict';
import { Generator, getBackend, noGrad, type Tensor, WasmBackend, zeros } from '@otimes/core';
import { Linear, Sequential } from '@otimes/nn';
import { clipGradNorm, KFAC, type Route, STEVE } from '@otimes/optim';
import fc from 'fast-check';
import t from 'tap';
import { cheapestRoute, type RouteSizes, routeCosts } from '../optim/src/curvature/routes/route.ts';
import { Side } from '../optim/src/curvature/side.ts';
import { mustBeClose } from './helpers/allclose.ts';
import { law } from './helpers/law.ts';
import { type Act, family, type Make, ROUTES, TURNED, three } from './helpers/routes.ts';
import { gradientMatrix } from './suites/exactness.ts';
import { type DataOptions, linearAt, lossOf, newBatches, newNet, train } from './suites/training.ts';

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
    assert.equal(cheapestRoute(sizes(512, 785, 128, false)), 'resident');
    assert.equal(cheapestRoute(sizes(512, 785, 128)), 'resident');
    assert.equal(cheapestRoute(sizes(64, 577, 128 * 32 * 32)), 'gradient');
    assert.equal(cheapestRoute(sizes(16, 28, 64 * 14 * 14, false)), 'gradient');
  });

  law(t, 'activations lie halfway between the other two, so that auto takes one of those', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 4000 }), { minLength: 3, maxLength: 3 }), ([dOut, dIn, rows]) => {
        const o = sizes(dOut!, dIn!, rows!);
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
    assert.deepEqual(routeCosts(sizes(2, 3, 5)), {
      gradient: 2 * (2 * 2 * 3 * 5),
      activations: 2 * 5 * (4 + 9) + 2 * 2 * 3 * 5,
      resident: 2 * 5 * (2 * 4 + 2 * 9),
    });
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 2000 }), { minLength: 3, maxLength: 3 }), ([dOut, dIn, rows]) => {
        const o = sizes(dOut!, dIn!, rows!);
        const costs = routeCosts(o);
        const best = cheapestRoute(o);
        for (const route of ROUTES) assert.ok(costs[best] <= costs[route] / 0.9, `${best} and ${route}`);
        assert.ok(routeCosts({ ...o, needsInputGrad: false }).resident <= costs.resident);
      }),
      { seed: 42 },
    );
  });

  law(t, 'describe() tells the route from the first step on; identity sides are turned by nothing', () => {
    const o = { dtype: 'float64', rng: new Generator(1) } as const;
    const model = new Sequential(new Linear(6, 6, o), new Linear(6, 4, o), new Linear(4, 3, o));
    const optimizer = new STEVE(model, { route: 'resident', maxFactorDim: 6 });
    const routes = () => optimizer.describe().map(({ route }) => route);
    assert.deepEqual(routes(), ['gradient', 'gradient', 'gradient']);
    const { x, y } = newBatches({ sizes: [6, 3], steps: 1 })[0]!;
    for (let step = 0; step < 2; step++) {
      optimizer.zeroGrad();
      lossOf(model.call(x), y).backward();
      optimizer.step();
    }
    assert.deepEqual(routes(), ['resident', 'resident', 'resident']);
  });
  t.end();
});

/** Exact sides. */
const sizes = (dOut: number, dIn: number, rows: number, needsInputGrad = true): RouteSizes => ({
  A: Side.exact(dIn),
  G: Side.exact(dOut),
  rows,
  needsInputGrad,
});

/** Bytes of WebAssembly memory that tensors hold. */
const memoryInUse = (): number => {
  const backend = getBackend('cpu');
  assert.ok(backend instanceof WasmBackend);
  return backend.kernels.heap.stats.live;
};

/** Counts what is left to be computed later, and how much of it is computed after all, while `run` runs. */
function countingDeferred(run: () => void): { deferred: number; made: number } {
  const prototype: Pick<Tensor['storage'], 'defer'> = Object.getPrototypeOf(zeros([1]).storage);
  const { defer } = prototype;
  const count = { deferred: 0, made: 0 };
  prototype.defer = function (make, dispose) {
    count.deferred++;
    defer.call(
      this,
      () => {
        count.made++;
        return make();
      },
      dispose,
    );
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
