// What the defaults of KFAC, EKFAC and STEVE are for: first steps, the length of a step, and what is refused.

import assert from 'node:assert/strict';
import { Generator, manualSeed, noGrad, ones, randint, randn, type Tensor, tensor, zeros } from '@otimes/core';
import { DataLoader, TensorDataset } from '@otimes/data';
import { Linear, type Module, mlp, mseLoss, Sequential, Tanh } from '@otimes/nn';
import { Adam, EKFAC, KFAC, type KroneckerPreconditioner, type Optimizer, STEVE } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { train, valuesOf } from './helpers/defaults.ts';
import { identitySolver } from './helpers/eigensolver.ts';
import { law } from './helpers/law.ts';

t.test("the length of STEVE's step", t => {
  const net = (float: 'float32' | 'float64' = 'float64') => {
    const o = { dtype: float, rng: new Generator(4) } as const;
    return new Sequential(new Linear(7, 6, o), new Tanh(), new Linear(6, 3, o));
  };
  const batches = (float: 'float32' | 'float64' = 'float64') => {
    const rng = new Generator(5);
    return Array.from({ length: 20 }, () => [
      randn([12, 7], { dtype: float, rng }).mul(tensor([1, 2, 3, 4, 5, 6, 7], { dtype: float })),
      randint(0, 3, [12], { rng }),
    ]) as [Tensor, Tensor][];
  };

  law(t, 'γ is the ratio of the norms of both directions, by the definition', () => {
    for (const [steps, o] of [
      [1, {}],
      [2, {}],
      [8, {}],
      [8, { secondMoment: 'example' }],
      [8, { onRefresh: 'zero', refreshEvery: 4 }],
      [8, { maxFactorDim: 7 }],
    ] as const) {
      const model = net();
      const data = batches();
      const optimizer = new STEVE(model, o);
      train(model, optimizer, steps, i => data[i]!);
      for (const path of ['0', '2']) {
        const { kfe, slots, count, graft } = optimizer.inspect(path);
        const [m, v] = [slots.get('m')!.div(1 - 0.9 ** count), slots.get('v')!.div(1 - 0.999 ** count)];
        const side = (U: Tensor | null) => U ?? tensor(eyeOf(m.shape[1]!));
        const [UA, UG] = [side(kfe!.UA), kfe!.UG!];
        const length = (m: Tensor, v: Tensor) => m.div(v.sqrt().add(1e-8)).norm().item();
        const inWeights = length(
          UG.matmul(m).matmul(UA.transpose()),
          UG.square().matmul(v).matmul(UA.square().transpose()),
        );
        mustBeClose(graft, inWeights / length(m, v), { rtol: 1e-9 }, `${path} after ${steps}`);
      }
    }
  });

  law(t, 'a step is γ times that without graft, on every route', () => {
    for (const route of ['gradient', 'activations', 'resident'] as const) {
      const data = batches();
      const ways = [true, false].map(graft => {
        const model = net();
        // Steps of no length lead both to the same moments; the 9th measures nothing.
        const optimizer = new STEVE(model, { lr: 1e-13, graft, route });
        train(model, optimizer, 8, i => data[i]!);
        const before = valuesOf(model);
        optimizer.lr = 0.01;
        train(model, optimizer, 1, () => data[8]!);
        const { blocks } = optimizer.report();
        return { moves: model.parameters().map((p, i) => p.detach().sub(before[i]!)), blocks };
      });
      const [grafted, plain] = ways;
      for (const [i, move] of grafted!.moves.entries()) {
        const { graft } = grafted!.blocks[i < 2 ? 0 : 1]!;
        assert.ok(Math.abs(graft - 1) > 0.01);
        mustBeClose(move, plain!.moves[i]!.mul(graft), { rtol: 1e-6, atol: 1e-9 }, route);
      }
      assert.deepEqual(
        plain!.blocks.map(block => block.graft),
        [1, 1],
      );
    }
  });

  law(t, 'in the identity basis γ is 1 to the last bit', () => {
    for (const float of ['float32', 'float64'] as const) {
      const data = batches(float);
      const model = net(float);
      const optimizer = new STEVE(model, { eigensolver: identitySolver, refreshEvery: 3 });
      train(model, optimizer, 9, i => {
        assert.ok(optimizer.report().blocks.every(block => block.graft === 1));
        return data[i]!;
      });
    }
  });

  law(t, 'gradients of 0 leave γ and the weights as they are', () => {
    const model = net();
    const optimizer = new STEVE(model, { refreshEvery: 2 });
    const before = valuesOf(model);
    const nothing = (z: Tensor) => z.mul(0).sum();
    for (let i = 0; i < 5; i++) {
      optimizer.zeroGrad();
      nothing(model.call(batches()[0]![0])).backward();
      optimizer.step();
    }
    assert.ok(optimizer.report().blocks.every(block => block.graft === 1));
    for (const [i, p] of model.parameters().entries()) mustBeClose(p.detach(), before[i]!, { rtol: 1e-12 });
  });

  law(t, "README's network at README's learning rate: STEVE is ahead of Adam", () => {
    manualSeed(0);
    const points = randn([512, 2]);
    const inside = points.norm(1).lt(1.2).astype('int32');
    const right = (make: (m: Module) => Optimizer) => {
      manualSeed(1);
      const model = mlp([2, 32, 2], { activation: 'tanh' });
      const optimizer = make(model);
      const loader = new DataLoader(new TensorDataset(points, inside), { batchSize: 64, shuffle: true });
      for (let epoch = 0; epoch < 5; epoch++) for (const batch of loader) train(model, optimizer, 1, () => batch);
      return noGrad(() => (model.call(points) as Tensor).argmax(1).eq(inside).astype('float32').mean().item());
    };
    const [steve, adam] = [right(m => new STEVE(m, { lr: 0.01 })), right(m => new Adam(m.parameters(), { lr: 0.01 }))];
    assert.ok(steve >= adam && steve > 0.9, `${steve} and ${adam}`);
  });
  t.end();
});

t.test('the first steps of KFAC and EKFAC', t => {
  const problems: Record<string, () => Module> = {
    'tanh 1-32-32-1': () => mlp([1, 32, 32, 1], { activation: 'tanh', rng: new Generator(1) }),
    'tanh 1-64-1': () => mlp([1, 64, 1], { activation: 'tanh', rng: new Generator(2) }),
    'ReLU 1-32-32-1': () => mlp([1, 32, 32, 1], { rng: new Generator(3) }),
  };
  for (const [name, net] of Object.entries(problems))
    for (const [Kind, fisher] of [
      [KFAC, 'empirical'],
      [KFAC, 'ggn'],
      [EKFAC, 'empirical'],
    ] as const)
      law(t, `${Kind.name}, '${fisher}': the defaults learn sin 3x with a ${name}`, () => {
        const rng = new Generator(9);
        const x = randn([256, 1], { rng });
        const y = x.mul(3).sin();
        const model = net();
        const optimizer = new Kind(model, { fisher, loss: 'mse' });
        train(model, optimizer, 240, i => [x.narrow(0, (i % 4) * 64, 64), y.narrow(0, (i % 4) * 64, 64)], mseLoss);
        const loss = noGrad(() => mseLoss(model.call(x) as Tensor, y).item());
        assert.ok(loss < 0.2, `${loss}`); // of .5 at first
      });

  law(t, 'trust: no block moves by more than τ of the weights, and as KFAC says where that is less', () => {
    for (const route of ['gradient', 'resident'] as const)
      for (const [lr, tau] of [
        [1, 0.1],
        [1, 0.02],
        [0.02, 5],
      ] as const) {
        const rng = new Generator(4);
        const o = { dtype: 'float64', rng } as const;
        const make = () => new Sequential(new Linear(7, 6, o), new Tanh(), new Linear(6, 3, o));
        const [model, free] = [make(), make()];
        free.loadStateDict(model.stateDict());
        const [x, y] = [randn([12, 7], o), randint(0, 3, [12], { rng })];
        const optimizer = new KFAC(model, {
          lr,
          trust: tau,
          overrides: { '2': { lr: lr / 2 } },
          route,
          refreshEvery: 9,
        });
        const other = new KFAC(free, { lr, trust: false, overrides: { '2': { lr: lr / 2 } }, route, refreshEvery: 9 });
        for (let step = 0; step < 3; step++) {
          const before = valuesOf(model);
          train(free, other, 1, () => [x, y]);
          train(model, optimizer, 1, () => [x, y]);
          const [now, then] = [valuesOf(model), valuesOf(free)];
          for (const block of [0, 1]) {
            const norm = (xs: readonly Tensor[]) =>
              Math.hypot(...xs.slice(2 * block, 2 * block + 2).map(p => p.norm().item()));
            const limit = tau * Math.max(norm(before), 0.1 * Math.sqrt(block === 0 ? 6 : 3));
            const [moved, wanted] = [now, then].map(p => norm(p.map((x, i) => x.sub(before[i]!))));
            const what = `lr ${lr}, τ ${tau}, ${route}, block ${block}`;
            mustBeClose(moved!, Math.min(limit, wanted!), { rtol: 1e-9 }, what);
            mustBeClose(optimizer.report().blocks[block]!.trust!, Math.min(1, limit / wanted!), { rtol: 1e-9 }, what);
          }
          // Both go on from the same place.
          noGrad(() => free.parameters().map((p, i) => p.copy_(now[i]!)));
        }
      }
  });

  law(t, 'trust: weights of 0 move too', () => {
    const model = new Linear(4, 9, { rng: new Generator(1), bias: false, dtype: 'float64' });
    noGrad(() => model.weight.copy_(zeros([9, 4], { dtype: 'float64' })));
    const x = randn([8, 4], { rng: new Generator(2), dtype: 'float64' });
    train(model, new KFAC(model, { lr: 1 }), 1, () => [x, ones([8, 9], { dtype: 'float64' })], mseLoss);
    mustBeClose(model.weight.norm().item(), 0.1 * 0.1 * 3, { rtol: 1e-9 });
  });

  law(t, 'report() has what trust and klClip left of the last step, null where they are off', () => {
    const factors = (make: (m: Module) => KroneckerPreconditioner) => {
      const model = mlp([4, 5, 3], { rng: new Generator(1) });
      const optimizer = make(model);
      train(model, optimizer, 1, () => [randn([8, 4], { rng: new Generator(2) }), randint(0, 3, [8])]);
      const { trust, klClip } = optimizer.report().blocks[0]!;
      return { trust, klClip };
    };
    assert.equal(factors(m => new KFAC(m)).klClip, null);
    assert.equal(factors(m => new EKFAC(m)).trust, null);
    assert.deepEqual(
      factors(m => new STEVE(m)),
      { trust: null, klClip: null },
    );
    const { trust, klClip } = factors(m => new EKFAC(m, { lr: 1, trust: 0.01 }));
    assert.ok(trust! < 1 && klClip! <= 1);
    assert.ok(factors(m => new EKFAC(m, { lr: 1 })).klClip! < 1);
  });
  t.end();
});

t.test('what is refused', t => {
  const model = () => mlp([3, 4, 2], { rng: new Generator(1) });
  const wrong: readonly [string, () => unknown, RegExp][] = [
    [
      'nullTolerance alone',
      () => new STEVE(model(), { nullTolerance: 1e-6 }),
      /nullTolerance needs nullRule: 'tolerance', got the default, 'noise'/,
    ],
    [
      "nullTolerance beside 'none'",
      () => new STEVE(model(), { nullRule: 'none', nullTolerance: 0 }),
      /needs nullRule: 'tolerance', got 'none'/,
    ],
    [
      'an unknown rule',
      () => new STEVE(model(), JSON.parse('{"nullRule":"mask"}')),
      /nullRule to be 'noise' or 'tolerance' or 'none', got 'mask'/,
    ],
    [
      'graft that is a number',
      () => new STEVE(model(), JSON.parse('{"graft":2}')),
      /STEVE: expected graft to be true or false, got 2/,
    ],
    [
      'averageNull that is text',
      () => new EKFAC(model(), JSON.parse('{"averageNull":"no"}')),
      /EKFAC: expected averageNull to be true or false, got 'no'/,
    ],
    ['trust 0', () => new KFAC(model(), { trust: 0 }), /KFAC: expected trust > 0, got 0/],
    [
      'trust true',
      () => new KFAC(model(), JSON.parse('{"trust":true}')),
      /expected trust to be a number or false, got true/,
    ],
    ['klClip −1', () => new EKFAC(model(), { klClip: -1 }), /EKFAC: expected klClip > 0, got -1/],
    [
      'damping false',
      () => new KFAC(model(), JSON.parse('{"damping":false}')),
      /KFAC: expected damping to be a number, or a control such as adaptiveDamping\(\), got false/,
    ],
    [
      'the options of another',
      () => new KFAC(model(), JSON.parse('{"graft":true}')),
      /KFAC: there is no option 'graft'/,
    ],
    ['trust of STEVE', () => new STEVE(model(), JSON.parse('{"trust":0.1}')), /STEVE: there is no option 'trust'/],
  ];
  for (const [name, make, message] of wrong) law(t, name, () => void assert.throws(make, message));
  t.end();
});

function eyeOf(n: number): number[][] {
  return Array.from({ length: n }, (_, i) => Array.from({ length: n }, (_, j) => Number(i === j)));
}
