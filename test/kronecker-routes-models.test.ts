// Nobody sees which way a gradient took into the eigenbasis: evaluation, devices, inputs, frozen parameters, scopes, detaching.

import assert from 'node:assert/strict';
import {
  Generator,
  GraphError,
  loadSafetensors,
  noGrad,
  randn,
  type StateDict,
  saveSafetensors,
  scope,
  type Tensor,
  zeros,
} from '@otimes/core';
import { Parameter, type Sequential } from '@otimes/nn';
import { KFAC, type Route, SGD, STEVE } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { law } from './helpers/law.ts';
import { midway, ROUTES, sameEverywhere, TURNED, three } from './helpers/routes.ts';
import { linearAt, lossOf, newBatches, newNet, operationOf, train, valuesOf } from './suites/training.ts';

t.test('nobody sees which route ran', t => {
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
