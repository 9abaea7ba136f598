// The Kronecker family against its own recorded trajectories, what it claims, and bad input.

import assert from 'node:assert/strict';
import { Generator, noGrad, ones, randint, randn, type Tensor, tensor } from '@otimes/core';
import { crossEntropy, Flatten, Linear, Module, mseLoss, Sequential, Tanh } from '@otimes/nn';
import { EKFAC, KFAC, type Optimizer, SGD, STEVE } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { law } from './helpers/law.ts';
import { dtype, Mixed, smallNet } from './helpers/nets.ts';
import { type OptimizerCase, optimizerLaws } from './suites/optimizers.ts';
import { recordedTrajectories } from './suites/recorded.ts';

const family: readonly OptimizerCase[] = [
  { name: 'KFAC', make: m => new KFAC(m, { lr: 0.05, damping: 0.1, refreshEvery: 3 }) },
  {
    name: 'KFAC pi, momentum, klClip',
    make: m =>
      new KFAC(m, { lr: 0.05, refreshEvery: 3, factorEvery: 2, dampingSplit: 'pi', momentum: 0.9, klClip: 0.1 }),
  },
  {
    name: 'EKFAC',
    make: m => new EKFAC(m, { lr: 0.05, damping: 0.1, refreshEvery: 4, momentum: 0.5, nesterov: true }),
  },
  {
    name: 'EKFAC batch',
    make: m => new EKFAC(m, { lr: 0.05, damping: 0.1, refreshEvery: 4, secondMoment: 'batch', factorEvery: 3 }),
  },
  { name: 'STEVE', make: m => new STEVE(m, { lr: 0.05, refreshEvery: 4 }) },
  {
    name: 'STEVE zero, example',
    make: m => new STEVE(m, { lr: 0.05, refreshEvery: 4, onRefresh: 'zero', secondMoment: 'example', factorDecay: 0 }),
  },
  {
    name: 'STEVE nesterov, weight decay',
    make: m => new STEVE(m, { lr: 0.05, refreshEvery: 2, nesterov: true, weightDecay: 0.01 }),
  },
  {
    name: 'STEVE sampled',
    make: m => new STEVE(m, { lr: 0.05, refreshEvery: 4, fisher: 'sampled', loss: 'crossEntropy' }),
  },
];
for (const one of family)
  t.test(one.name, t => {
    optimizerLaws(t, one);
    t.end();
  });

recordedTrajectories(t, {
  name: 'mlp',
  runs: 11,
  model: () => new Sequential(new Linear(5, 4, { dtype }), new Tanh(), new Linear(4, 3, { dtype })),
});

t.test('what is claimed', t => {
  law(t, 'describe() names every parameter once: blocks with shapes, the others under rest', () => {
    const optimizer = new STEVE(new Mixed());
    assert.deepEqual(optimizer.describe(), [
      {
        path: 'embed',
        collector: 'embedding',
        shape: [4, 5],
        sharing: 'expand',
        parameters: ['embed.weight'],
        route: 'gradient',
        identity: [],
        structure: { A: 'diagonal', G: 'exact' },
      },
      {
        path: 'first',
        collector: 'linear',
        shape: [4, 5],
        sharing: 'expand',
        parameters: ['first.weight', 'first.bias'],
        route: 'gradient',
        identity: [],
        structure: { A: 'exact', G: 'exact' },
      },
      {
        path: 'second',
        collector: 'linear',
        shape: [3, 4],
        sharing: 'expand',
        parameters: ['second.weight'],
        route: 'gradient',
        identity: [],
        structure: { A: 'exact', G: 'exact' },
      },
      ...['norm.weight', 'norm.bias', 'scale'].map(path => ({
        path,
        collector: 'rest',
        shape: path === 'scale' ? [3] : [4],
        sharing: null,
        parameters: [path],
        route: null,
        identity: [],
        structure: null,
      })),
    ]);
  });

  const step = (model: Mixed, optimizer: Optimizer) => {
    optimizer.zeroGrad();
    const x = randint(0, 5, [6, 2], { rng: new Generator(9) });
    crossEntropy(model.call(x), randint(0, 3, [6], { rng: new Generator(8) })).backward();
    void optimizer.step();
  };

  law(t, 'the rest optimizer trains what no block claims, at the learning rate in proportion', () => {
    for (const make of [(m: Mixed) => new STEVE(m, { lr: 0.01 }), (m: Mixed) => new KFAC(m, { lr: 0.01 })]) {
      const model = new Mixed();
      const before = model.stateDict();
      const optimizer = make(model);
      step(model, optimizer);
      for (const [path, p] of model.namedParameters())
        assert.ok(p.detach().sub(before[path]!).abs().max().item() > 0, path);
    }
    const model = new Mixed();
    const seen: Optimizer[] = [];
    const optimizer = new KFAC(model, {
      lr: 0.1,
      rest: unclaimed => {
        seen.push(new SGD(unclaimed, { lr: 0.02 }));
        return seen[0]!;
      },
    });
    optimizer.lr = 0.05;
    assert.equal(seen[0]!.lr, 0.01);
  });

  law(t, 'a frozen weight is not claimed and not changed; a frozen bias leaves the homogeneous column', () => {
    const model = new Mixed();
    model.first.weight.requiresGrad = false;
    model.first.bias!.requiresGrad = false;
    const before = model.stateDict();
    const optimizer = new STEVE(model);
    assert.deepEqual(
      optimizer.describe().map(row => row.path),
      ['embed', 'second', 'norm.weight', 'norm.bias', 'scale'],
    );
    step(model, optimizer);
    for (const path of ['first.weight', 'first.bias'])
      mustBeClose(model.stateDict()[path]!, before[path]!, { rtol: 0, atol: 0 });

    const partly = new Mixed();
    partly.first.bias!.requiresGrad = false;
    assert.deepEqual(new STEVE(partly).describe()[1], {
      path: 'first',
      collector: 'linear',
      shape: [4, 4],
      sharing: 'expand',
      parameters: ['first.weight'],
      route: 'gradient',
      identity: [],
      structure: { A: 'exact', G: 'exact' },
    });
  });

  law(t, 'reduce falls back to expand for G where Σ_t g vanishes, and describe() says so', () => {
    // Adding one vector to all positions changes nothing that follows, so the gradients over positions sum to 0.
    class Centred extends Module {
      readonly layer = new Linear(3, 3, { dtype, rng: new Generator(2) });
      override forward(x: Tensor): Tensor {
        const y = this.layer.call(x);
        return y
          .sub(y.mean(1, { keepdim: true }))
          .square()
          .sum([1, 2])
          .unsqueeze(1);
      }
    }
    const model = new Centred();
    const optimizer = new KFAC(model, { sharing: 'reduce', lr: 0 });
    const x = randn([4, 5, 3], { dtype, rng: new Generator(1) });
    mseLoss(model.call(x), ones([4, 1], { dtype })).backward();
    optimizer.step();
    assert.equal(optimizer.describe()[0]!.sharing, 'reduce, G expanded');
    assert.ok(optimizer.inspect('layer').G!.abs().max().item() > 1e-6);
  });

  law(t, 'the model itself may be a layer', () => {
    const model = new Linear(4, 2, { dtype });
    const optimizer = new STEVE(model);
    assert.equal(optimizer.describe()[0]!.path, '');
    mseLoss(model.call(ones([3, 4], { dtype })), ones([3, 2], { dtype })).backward();
    optimizer.step();
    optimizer.loadStateDict(optimizer.stateDict());
  });

  law(t, 'evaluation under noGrad and forward passes without backward leave no trace', () => {
    const run = (disturb: boolean, make: (m: Mixed) => Optimizer) => {
      const model = new Mixed();
      const optimizer = make(model);
      for (let i = 0; i < 6; i++) {
        step(model, optimizer);
        if (!disturb) continue;
        const x = randint(0, 5, [3, 2], { rng: new Generator(1) });
        noGrad(() => model.call(x));
        model.call(x);
        model.first.call(ones([2, 4], { dtype }));
      }
      return model.parameters().flatMap(p => Array.from(p.dataSync()));
    };
    const ggn = { fisher: 'ggn', loss: 'crossEntropy', factorEvery: 5 } as const;
    for (const make of [
      (m: Mixed) => new STEVE(m),
      (m: Mixed) => new STEVE(m, { ...ggn, factorEvery: 1 }),
      (m: Mixed) => new EKFAC(m, { ...ggn, secondMoment: 'batch' }),
    ])
      assert.deepEqual(run(true, make), run(false, make));
  });
  t.end();
});

t.test('bad input', t => {
  const net = () => smallNet(2, { batch: 4, loss: 'crossEntropy' });
  const poison = (value: number) => {
    const { model, y } = net();
    const optimizer = new STEVE(model);
    const before = model.stateDict();
    const x = randn([4, 5], { dtype, rng: new Generator(1) });
    x.narrow(1, 0, 1).copy_(tensor(value, { dtype }));
    crossEntropy(model.call(x), y).backward();
    return { model, optimizer, before };
  };

  for (const value of [Number.NaN, Infinity])
    law(t, `${value} in a factor names the layer; no weight and no state is touched`, () => {
      const { model, optimizer, before } = poison(value);
      const state = optimizer.stateDict();
      assert.throws(() => optimizer.step(), /STEVE: the factor A of linear '0' has NaN or infinite elements/);
      for (const [path, p] of Object.entries(model.stateDict())) mustBeClose(p, before[path]!, { rtol: 0, atol: 0 });
      assert.deepEqual(Object.keys(optimizer.stateDict()), Object.keys(state));
      // Forgetting the batch is enough to go on.
      optimizer.zeroGrad();
      crossEntropy(model.call(randn([4, 5], { dtype })), tensor([0, 1, 2, 0], { dtype: 'int32' })).backward();
      optimizer.step();
    });

  law(t, 'a failing eigensolver leaves everything as it was', () => {
    const { model, x, y } = net();
    const optimizer = new KFAC(model, {
      eigensolver: () => {
        throw new Error('no basis today');
      },
    });
    const before = model.stateDict();
    crossEntropy(model.call(x), y).backward();
    assert.throws(() => optimizer.step(), /no basis today/);
    for (const [path, p] of Object.entries(model.stateDict())) mustBeClose(p, before[path]!, { rtol: 0, atol: 0 });
    assert.equal(optimizer.steps, 0);
  });

  law(t, 'a gradient without statistics: the optimizer came after the forward pass, or forward() was used', () => {
    const { model, x, y } = net();
    const loss = crossEntropy(model.call(x), y);
    const optimizer = new KFAC(model);
    loss.backward();
    assert.throws(() => optimizer.step(), /KFAC: linear '0' has a gradient but no statistics/);
  });

  law(t, 'detach() takes the hooks away: another optimizer may follow, and step() says what happened', () => {
    const { model, x, y } = net();
    const first = new KFAC(model);
    first.detach();
    const second = new STEVE(model);
    crossEntropy(model.call(x), y).backward();
    assert.equal(first.inspect('0').statistics, null);
    second.step();
    assert.throws(() => first.step(), /KFAC: step\(\) after detach\(\)/);
  });

  law(t, 'a weight shared by two layers is refused with both names', () => {
    const [a, b] = [new Linear(3, 3), new Linear(3, 3)];
    b.weight = a.weight;
    assert.throws(
      () => new STEVE(new Sequential(a, b)),
      /'0' and '1' share a weight.* overrides: \{ '0': \{ skip: true \}, '1': \{ skip: true \} \}$/,
    );
    new STEVE(new Sequential(a, b), { overrides: { '0': { skip: true }, '1': { skip: true } } });
  });

  const refusals: [string, () => unknown, RegExp][] = [
    ['lr < 0', () => new STEVE(net().model, { lr: -1 }), /expected lr in \[0, Infinity\), got -1/],
    [
      'refreshEvery 0',
      () => new STEVE(net().model, { refreshEvery: 0 }),
      /expected refreshEvery to be an integer ≥ 1, got 0/,
    ],
    ['factorEvery 1.5', () => new KFAC(net().model, { factorEvery: 1.5 }), /expected factorEvery to be an integer ≥ 1/],
    ['factorDecay 1', () => new KFAC(net().model, { factorDecay: 1 }), /expected factorDecay in \[0, 1\), got 1/],
    ['damping 0', () => new EKFAC(net().model, { damping: 0 }), /EKFAC: expected damping > 0, got 0/],
    ['nesterov without momentum', () => new KFAC(net().model, { nesterov: true }), /nesterov needs a momentum above 0/],
    ['klClip 0', () => new KFAC(net().model, { klClip: 0 }), /expected klClip > 0, got 0/],
    ['beta 1', () => new STEVE(net().model, { betas: [0.9, 1] }), /expected betas\[1\] in \[0, 1\), got 1/],
    ['ggn without a loss', () => new KFAC(net().model, { fisher: 'ggn' }), /fisher 'ggn' needs the option loss/],
    [
      'a misspelt option',
      () => new STEVE(net().model, JSON.parse('{"refresh_every":5}')),
      /STEVE: there is no option 'refresh_every'/,
    ],
    [
      'an option of another optimizer',
      () => new EKFAC(net().model, JSON.parse('{"dampingSplit":"pi"}')),
      /no option 'dampingSplit'/,
    ],
    [
      'an unknown fisher',
      () => new KFAC(net().model, JSON.parse('{"fisher":"true"}')),
      /expected fisher to be 'empirical' or/,
    ],
    ['no parameters', () => new KFAC(new Flatten()), /KFAC: expected at least one parameter, got none/],
    ['no such block', () => new KFAC(net().model).inspect('7'), /no block '7'; there are '0', '2'/],
  ];
  law(t, 'an optimizer that was refused leaves no hooks behind', () => {
    const { model, x, y } = net();
    assert.throws(() => new KFAC(model, { damping: -1 }));
    assert.throws(() => new STEVE(model, { fisher: 'sampled' }));
    for (let pass = 0; pass < 2; pass++) crossEntropy(model.call(x), y).backward();
  });

  for (const [title, run, message] of refusals) law(t, title, () => assert.throws(run, message));

  law(t, 'ggn of a model whose logits have no axis of classes', () => {
    const net = smallNet(1, { batch: 2, loss: 'crossEntropy' });
    const optimizer = new KFAC(net.model, { fisher: 'ggn', loss: 'crossEntropy' });
    const z = net.model.call(randn([5], { dtype }));
    assert.throws(
      () => z.sum().backward(),
      /cross-entropy needs logits \[batch, classes, …\], the model returned float64\[3\]/,
    );
    assert.equal(optimizer.steps, 0);
  });
  t.end();
});
