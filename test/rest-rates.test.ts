// The rest optimizer: its learning rate is in proportion to the whole optimizer's, also where that begins at 0, and it is not alone.

import assert from 'node:assert/strict';
import { Generator, randn } from '@otimes/core';
import {
  Conv2d,
  crossEntropy,
  Embedding,
  Flatten,
  LayerNorm,
  Linear,
  type Module,
  type Parameter,
  Sequential,
  Tanh,
} from '@otimes/nn';
import { AdamW, EKFAC, KBFGS, KFAC, KLShampoo, Muon, type Optimizer, Shampoo, SINGD, SOAP, STEVE } from '@otimes/optim';
import t from 'tap';
import { bitsOf, labels, nets } from './helpers/family.ts';
import { law } from './helpers/law.ts';
import { dtype } from './helpers/nets.ts';

type Rates = {
  lr?: number;
  overrides?: Record<string, { skip: boolean }>;
  rest?: (unclaimed: Parameter[]) => Optimizer;
};

const makes: Record<string, (m: Module, o: Rates) => Optimizer> = {
  KFAC: (m, o) => new KFAC(m, o),
  EKFAC: (m, o) => new EKFAC(m, o),
  STEVE: (m, o) => new STEVE(m, o),
  SINGD: (m, o) => new SINGD(m, o),
  KBFGS: (m, o) => new KBFGS(m, o),
  Muon: (m, o) => new Muon(m, o),
  SOAP: (m, o) => new SOAP(m, o),
  KLShampoo: (m, o) => new KLShampoo(m, o),
  Shampoo: (m, o) => new Shampoo(m, o),
  'Shampoo, grafted to SGD': (m, o) => new Shampoo(m, { ...o, grafting: 'sgd' }),
  'Shampoo without grafting': (m, o) => new Shampoo(m, { ...o, grafting: 'none' }),
};

/** A net with a rest, and its optimizer. */
function made(name: string, o: Rates) {
  const model = nets.linear!.make({ dtype, rng: new Generator(3) });
  return { model, optimizer: makes[name]!(model, o) };
}

type Made = ReturnType<typeof made>;

/** Some steps on the same batches. */
function step({ model, optimizer }: Made, steps = 2, seed = 5): void {
  const rng = new Generator(seed);
  for (let i = 0; i < steps; i++) {
    const [x, y] = [randn(nets.linear!.shape, { dtype, rng }), labels(rng)];
    const pass = () => {
      optimizer.zeroGrad();
      crossEntropy(model.call(x), y).backward();
    };
    pass();
    void optimizer.step();
    if (!(optimizer instanceof KBFGS)) continue;
    pass();
    optimizer.correct();
  }
}

const restLr = ({ optimizer }: Made): number => optimizer.stateDict()['rest.lr']!.item();

for (const name of Object.keys(makes)) {
  law(t, `${name}: with an lr of 0 from the start no parameter moves`, () => {
    const one = made(name, { lr: 0 });
    const before = bitsOf(one.model.stateDict());
    step(one);
    assert.equal(bitsOf(one.model.stateDict()), before);
    assert.equal(restLr(one), 0);
  });

  law(
    t,
    `${name}: made with an lr of 0 and set to another, it is as if made with that, and keeps that proportion`,
    () => {
      const [late, early] = [made(name, { lr: 0 }), made(name, { lr: 0.07 })];
      late.optimizer.lr = 0;
      late.optimizer.lr = 0.07;
      assert.equal(bitsOf(late.optimizer.stateDict()), bitsOf(early.optimizer.stateDict()));
      for (const one of [late, early]) step(one);
      assert.equal(bitsOf(late.model.stateDict()), bitsOf(early.model.stateDict()));
      for (const lr of [0, 0.2, 0.05]) {
        for (const one of [late, early]) one.optimizer.lr = lr;
        assert.equal(restLr(late), restLr(early));
      }
    },
  );

  law(t, `${name}: made with an lr of 0, it takes over the proportion of a state`, () => {
    const [late, early] = [made(name, { lr: 0 }), made(name, { lr: 0.25 })];
    step(early);
    late.optimizer.loadStateDict(early.optimizer.stateDict());
    const initial = restLr(early);
    for (const one of [late, early]) {
      one.optimizer.lr = 0.125;
      assert.equal(restLr(one), initial / 2);
    }
  });

  law(t, `${name}: a rest of the program's has no lr beside an lr of 0`, () => {
    assert.throws(
      () => made(name, { lr: 0, rest: p => new AdamW(p, { lr: 0.5 }) }),
      /^RangeError: \w+: a rest cannot have lr 0\.5 beside an optimizer's lr of 0/,
    );
    const still = made(name, { lr: 0, rest: p => new AdamW(p, { lr: 0 }) });
    still.optimizer.lr = 0.3;
    assert.equal(restLr(still), 0.3);
  });
}

for (const [name, make] of Object.entries(makes)) {
  // These are their rest there: `claims nothing` of test/kronecker-limits.test.ts.
  if (['KFAC', 'EKFAC', 'STEVE'].includes(name)) continue;
  law(t, `${name}: a model of which all would be left to the rest is refused, and no hook is left behind`, () => {
    const model = nets.linear!.make({ dtype, rng: new Generator(3) });
    const frozen = nets.linear!.make({ dtype, rng: new Generator(3) });
    for (const path of ['0.weight', '3.weight']) frozen.namedParameters().get(path)!.requiresGrad = false;
    for (const [one, o] of [
      [new Sequential(new LayerNorm(4), new Tanh()), {}],
      [frozen, {}],
      [model, { overrides: { '': { skip: true } } }],
    ] as const)
      assert.throws(() => make(one, o), /^Error: \w+: .*so the rest optimizer would train everything: use that alone/);
    // Two optimizers of this kind would not share the hooks of a model.
    make(model, {});
  });
}

law(t, 'KBFGS says which layers it trains where a model has none of them', () => {
  const message =
    /^Error: KBFGS: the model has no Linear, and no Conv2d in one group, whose weight and bias are trained/;
  for (const model of [
    new Embedding(3, 4),
    new Sequential(new Linear(3, 2, { bias: false })),
    new Sequential(new Conv2d(2, 2, 1, { groups: 2 }), new Flatten()),
  ])
    assert.throws(() => new KBFGS(model), message);
});
