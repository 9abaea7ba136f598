// What the defaults of KFAC, EKFAC and STEVE are for: small features and rounding noise, first steps, and the length of a step.
import assert from 'node:assert/strict';
import { concat, Generator, manualSeed, noGrad, ones, randint, randn, type Tensor, tensor, zeros } from '@otimes/core';
import { DataLoader, TensorDataset } from '@otimes/data';
import { eigh, qr } from '@otimes/linalg';
import { crossEntropy, Linear, type Module, mlp, mseLoss, Sequential, Tanh } from '@otimes/nn';
import {
  Adam,
  type Eigensolver,
  EKFAC,
  KFAC,
  type KroneckerOptions,
  type KroneckerPreconditioner,
  type Optimizer,
  STEVE,
} from '@otimes/optim';
import ndarray from 'ndarray';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { identitySolver } from './helpers/eigensolver.ts';
import { law } from './helpers/law.ts';

type Make = (m: Module, o?: KroneckerOptions) => KroneckerPreconditioner;

/** Trains on batches that `batch` makes; the last loss. */
function train(
  model: Module,
  optimizer: Optimizer,
  steps: number,
  batch: (step: number) => readonly [Tensor, Tensor],
  lossOf: typeof crossEntropy = crossEntropy,
): number {
  let last = Number.NaN;
  for (let step = 0; step < steps; step++) {
    const [x, y] = batch(step);
    optimizer.zeroGrad();
    const loss = lossOf(model.call(x) as Tensor, y);
    loss.backward();
    void optimizer.step();
    last = loss.item();
  }
  return last;
}

const valuesOf = (m: Module) => m.parameters().map(p => p.detach().clone());
const largest = (xs: readonly Tensor[]) => Math.max(...xs.map(x => x.abs().max().item()));

t.test('small features beside large ones, in float32', t => {
  const orthogonal: Record<string, { net: () => Linear; x: number[][]; y: number[][]; moves: (m: Linear) => Tensor }> =
    {
      'a bias beside inputs of ±5000': {
        net: () => new Linear(1, 1, { rng: new Generator(1) }),
        x: [[5000], [-5000]],
        y: [[3], [3]],
        moves: m => m.bias!,
      },
      'a feature of 1 beside one of 5000': {
        net: () => new Linear(2, 1, { rng: new Generator(1), bias: false }),
        x: [
          [1, 0],
          [0, 5000],
        ],
        y: [[10], [20]],
        moves: m => m.weight.narrow(1, 0, 1),
      },
      'an output of 2 beside one of 5000': {
        net: () => new Linear(2, 2, { rng: new Generator(1), bias: false }),
        x: [
          [1, 0],
          [0, 1],
        ],
        y: [
          [5000, 2],
          [5000, -2],
        ],
        moves: m => m.weight.narrow(0, 1, 1),
      },
    };
  for (const [name, { net, x, y, moves }] of Object.entries(orthogonal))
    law(t, `${name}: its weights move as far as Adam's, .1 a step`, () => {
      const model = net();
      const before = moves(model).detach().clone();
      train(model, new STEVE(model, { lr: 0.1 }), 10, () => [tensor(x), tensor(y)], mseLoss);
      for (const far of moves(model).detach().sub(before).abs().dataSync())
        assert.ok(far > 0.8 && far < 1.2, `${far} in 10 steps`);
    });

  for (const [mean, deviation] of [
    [300, 5],
    [1000, 5],
    [2000, 5],
    [0, 2000],
    [0, 5000],
  ] as const)
    law(
      t,
      `logistic regression beside a raw column of ${mean} ± ${deviation} learns what the other columns say`,
      () => {
        const rng = new Generator(3);
        const features = randn([512, 8], { rng });
        const x = concat([features, randn([512, 1], { rng }).mul(deviation).add(mean)], 1);
        const y = features.narrow(1, 0, 2).sum(1).gt(0).astype('int32');
        const right = [0.003, 0.01].map(lr => {
          const model = new Linear(9, 2, { rng: new Generator(1) });
          train(model, new STEVE(model, { lr }), 400, () => [x, y]);
          return noGrad(() => model.call(x).argmax(1).eq(y).astype('float32').mean().item());
        });
        assert.ok(Math.max(...right) >= 0.985, `${right}`);
      },
    );

  law(t, "the rule 'tolerance' leaves them where they are, as it says", () => {
    const { net, x, y } = orthogonal['a bias beside inputs of ±5000']!;
    const model = net();
    const before = model.bias!.item();
    train(model, new STEVE(model, { nullRule: 'tolerance' }), 5, () => [tensor(x), tensor(y)], mseLoss);
    assert.equal(model.bias!.item(), before);
  });
  t.end();
});

t.test('directions that no example has a part in', t => {
  // 60 inputs in a space of 20 dimensions, in no coordinates of their own: 40 directions are null, to rounding.
  const [dIn, rank] = [60, 20];
  const Q = tensor(qr(randn([dIn, dIn], { dtype: 'float64', rng: new Generator(5) }).ndarray()).q);
  const [inside, outside] = [Q.narrow(1, 0, rank), Q.narrow(1, rank, dIn - rank)];
  const run = (make: Make, o: KroneckerOptions = {}) => {
    const rng = new Generator(6);
    const model = new Sequential(new Linear(dIn, 12, { rng, bias: false }), new Tanh(), new Linear(12, 5, { rng }));
    const [before] = valuesOf(model);
    const optimizer = make(model, o);
    train(model, optimizer, 40, () => {
      const x = randn([16, rank], { rng, dtype: 'float64' }).matmul(inside.transpose());
      return [x.astype('float32'), randint(0, 5, [16], { rng })];
    });
    const change = model.parameters()[0]!.detach().sub(before!).astype('float64');
    return { optimizer, noise: change.matmul(outside).norm().item() / change.norm().item() };
  };
  const steve: Make = (m, o) => new STEVE(m, { lr: 0.01, ...o });
  for (const [name, make, o] of [
    ['STEVE', steve, {}],
    ["STEVE 'example'", (m, o) => new STEVE(m, { lr: 0.1, secondMoment: 'example', ...o }), {}],
    ['STEVE nesterov', (m, o) => new STEVE(m, { nesterov: true, ...o }), {}],
    ['STEVE, factors of single batches', steve, { factorDecay: 0 }],
    ['STEVE, statistics every 5 steps', steve, { factorEvery: 5, stagger: true }],
    ['STEVE in the background, 3 steps later', steve, { refresh: 'background', refreshLag: 3 }],
    ['STEVE in the background, 10 steps later', steve, { refresh: 'background', refreshLag: 10 }],
    ['STEVE resident', steve, { route: 'resident' }],
    ["STEVE, 'tolerance'", (m, o) => new STEVE(m, { nullRule: 'tolerance', ...o }), {}],
  ] as readonly [string, Make, KroneckerOptions][])
    law(t, `${name}: float32 rounding does not move the weights there`, () => {
      const { noise } = run(make, o);
      assert.ok(noise < 1e-5, `${noise} of the way`);
    });

  law(t, "with nullRule 'none' it does", () => {
    const { noise } = run((m, o) => new STEVE(m, { nullRule: 'none', ...o }));
    assert.ok(noise > 0.03, `${noise} of the way`);
  });

  law(t, 'report() counts them, and the coordinates that the last step left out', () => {
    // Of the second layer's G one direction is null: the gradients of a softmax sum to 0.
    const nulls = ({ optimizer }: ReturnType<typeof run>) => optimizer.report().blocks.map(block => block.nulls);
    assert.deepEqual(nulls(run(steve)), [
      { A: 40, G: 0, masked: 40 * 12 },
      { A: 0, G: 1, masked: 13 },
    ]);
    assert.deepEqual(nulls(run((m, o) => new STEVE(m, { nullRule: 'tolerance', ...o }))), [
      { A: 40, G: 0, masked: 40 * 12 },
      { A: 0, G: 1, masked: 13 },
    ]);
    assert.deepEqual(nulls(run((m, o) => new EKFAC(m, o))), [
      { A: 40, G: 0, masked: 0 },
      { A: 0, G: 1, masked: 0 },
    ]);
    for (const make of [
      (m: Module) => new KFAC(m),
      (m: Module) => new STEVE(m, { nullRule: 'none' }),
      (m: Module) => new EKFAC(m, { averageNull: false }),
    ])
      assert.deepEqual(nulls(run(make)), [null, null]);
  });

  law(t, 'what later batches bring into a null direction moves the weights at once', () => {
    const model = new Linear(6, 3, { rng: new Generator(1), bias: false });
    const optimizer = new STEVE(model, { lr: 0.01, refreshEvery: 100 });
    const batch = (columns: number) => {
      const x = randn([8, 6], { rng: new Generator(2) }).clone();
      noGrad(() => x.narrow(1, columns, 6 - columns).scale_(0));
      return [x, randint(0, 3, [8], { rng: new Generator(3) })] as const;
    };
    train(model, optimizer, 1, () => batch(4));
    assert.equal(optimizer.inspect('').kfe!.nullSpace!.counts.A, 2);
    const [before] = valuesOf(model);
    train(model, optimizer, 2, () => batch(6));
    const moved = model.weight.detach().sub(before!).narrow(1, 4, 2).norm().item();
    assert.ok(moved > 0.01, `${moved}`);
  });
  t.end();
});

t.test('the vectors that span a null space', t => {
  const cases: Record<string, Make> = {
    KFAC: (m, o) => new KFAC(m, { damping: 0.1, ...o }),
    EKFAC: (m, o) => new EKFAC(m, { damping: 0.1, ...o }),
    'EKFAC, defaults': (m, o) => new EKFAC(m, o),
    'EKFAC batch': (m, o) => new EKFAC(m, { damping: 0.1, secondMoment: 'batch', ...o }),
    STEVE: (m, o) => new STEVE(m, o),
    "STEVE 'example'": (m, o) => new STEVE(m, { secondMoment: 'example', ...o }),
    'STEVE zero, nesterov': (m, o) => new STEVE(m, { onRefresh: 'zero', nesterov: true, ...o }),
  };
  /** Batches of 8 examples for layers of 21 and 13 inputs; `nudge` of the first weights. */
  const play = (make: Make, o: KroneckerOptions, nudge = 0) => {
    const rng = new Generator(30);
    const float = { dtype: 'float64', rng } as const;
    const model = new Sequential(new Linear(20, 12, float), new Tanh(), new Linear(12, 10, float));
    const start = valuesOf(model);
    noGrad(() => model.parameters().map(p => p.scale_(1 + nudge)));
    const batch = () => [randn([8, 20], float), randint(0, 10, [8], { rng })] as const;
    train(model, make(model, { lr: 0.01, refreshEvery: 2, ...o }), 6, batch);
    return model.parameters().map((p, i) => p.detach().sub(start[i]!));
  };
  const apart = (a: readonly Tensor[], b: readonly Tensor[]) => largest(a.map((x, i) => x.sub(b[i]!))) / largest(a);
  /** Turns the eigenvectors of eigenvalues that are 0 to rounding, at random. */
  const turning: Eigensolver = matrix => {
    const { values, vectors } = eigh(matrix);
    const n = matrix.shape[0]!;
    const nulls = Array.from({ length: n }, (_, j) => j).filter(j => values.get(j) < 1e-13 * values.get(n - 1)).length;
    if (nulls < 2) return { values, vectors };
    const turn = tensor(qr(randn([nulls, nulls], { dtype: 'float64', rng: new Generator(n) }).ndarray()).q);
    const U = tensor(vectors);
    const turned = concat([U.narrow(1, 0, nulls).matmul(turn), U.narrow(1, nulls, n - nulls)], 1);
    return { values, vectors: ndarray(Float64Array.from(turned.dataSync()), [n, n]) };
  };
  for (const [name, make] of Object.entries(cases)) {
    law(t, `${name}: others take the same steps`, () => {
      for (const route of ['gradient', 'resident'] as const) {
        const off = apart(play(make, { route }), play(make, { route, eigensolver: turning }));
        assert.ok(off < 1e-8, `${off} of the way, ${route}`);
      }
    });

    law(t, `${name}: 4e-16 in the first weights stays small`, () => {
      const off = apart(play(make, {}), play(make, {}, 4e-16));
      assert.ok(off < 1e-9, `${off} of the way`);
    });
  }

  law(t, 'EKFAC without averageNull depends on them', () => {
    const make: Make = (m, o) => new EKFAC(m, { damping: 0.1, averageNull: false, ...o });
    assert.ok(apart(play(make, {}), play(make, { eigensolver: turning })) > 1e-3);
  });
  t.end();
});

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
      /KFAC: expected damping to be a number, got false/,
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
