// The defaults of KFAC, EKFAC and STEVE beside small features, null spaces and rounding noise.

import assert from 'node:assert/strict';
import { concat, Generator, noGrad, randint, randn, type Tensor, tensor } from '@otimes/core';
import { eigh, qr } from '@otimes/linalg';
import { Linear, type Module, mseLoss, Sequential, Tanh } from '@otimes/nn';
import {
  type Eigensolver,
  EKFAC,
  KFAC,
  type KroneckerOptions,
  type KroneckerPreconditioner,
  STEVE,
} from '@otimes/optim';
import ndarray from 'ndarray';
import t from 'tap';
import { train, valuesOf } from './helpers/defaults.ts';
import { law } from './helpers/law.ts';

type Make = (m: Module, o?: KroneckerOptions) => KroneckerPreconditioner;
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
