// Adaptive damping of KFAC and EKFAC: λ by the ratio of what the loss falls by and what the curvature predicts.

import assert from 'node:assert/strict';
import { Generator, noGrad, randn, type StateDict, type Tensor, tensor } from '@otimes/core';
import { Linear, type Module, mseLoss, Sequential, Tanh } from '@otimes/nn';
import { adaptiveDamping, EKFAC, KFAC, type KFACOptions } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { bitsOf, ROUTES } from './helpers/family.ts';
import { laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';

const dtype = 'float64';
const family = {
  KFAC: (m: Module, o: KFACOptions) => new KFAC(m, o),
  EKFAC: (m: Module, { dampingSplit: _, ...o }: KFACOptions) => new EKFAC(m, o),
};
/** The step as the curvature has it. */
const free = { trust: false, klClip: false, factorDecay: 0 } as const;

const net = () => {
  const o = { dtype, rng: new Generator(3) } as const;
  return new Sequential(new Linear(4, 6, o), new Tanh(), new Linear(6, 2, o));
};
const batchOf = (seed: number): readonly [Tensor, Tensor] => {
  const rng = new Generator(seed);
  return [randn([24, 4], { dtype, rng }), randn([24, 2], { dtype, rng })];
};

/** A step on a batch, whose losses are told where they are wanted: ρ, or null. */
function step(
  model: Module<readonly Tensor[], Tensor>,
  optimizer: KFAC,
  [x, y]: readonly [Tensor, Tensor],
): number | null {
  const lossOf = () => mseLoss(model.call(x), y);
  optimizer.zeroGrad();
  const loss = lossOf();
  loss.backward();
  void optimizer.step();
  if (!optimizer.wantsLoss) return null;
  void optimizer.observeLoss(
    loss.item(),
    noGrad(() => lossOf().item()),
  );
  return optimizer.reductionRatio;
}

t.test('the reduction ratio', t => {
  law(t, 'of a quadratic with an exact Fisher it is 1, whatever the learning rate is, and λ falls to its least', () => {
    for (const route of ROUTES)
      for (const lr of [1, 0.1])
        for (const dampingSplit of ['eigen', 'pi'] as const)
          for (const momentum of [0, 0.5]) {
            const model = new Linear(4, 2, { dtype, rng: new Generator(1) });
            const damping = adaptiveDamping({ start: 0.1, every: 2, decay: 0.5, min: 0.01 });
            // Linear regression with the GGN: A ⊗ G is the Hessian.
            const o: KFACOptions = { ...free, fisher: 'ggn', loss: 'mse', refreshEvery: 1, damping };
            const optimizer = new KFAC(model, { ...o, lr, momentum, dampingSplit, route });
            const lambdas: number[] = [];
            for (let i = 0; i < 6; i++) {
              const ratio = step(model, optimizer, batchOf(i));
              assert.equal(ratio === null, i % 2 === 1);
              const what = `${route}, lr ${lr}, ${dampingSplit}, momentum ${momentum}, step ${i}`;
              if (ratio !== null) mustBeClose(ratio, 1, { rtol: 1e-9 }, what);
              lambdas.push(optimizer.damping);
            }
            if (momentum === 0) assert.deepEqual(lambdas, [0.025, 0.025, 0.01, 0.01, 0.01, 0.01]);
          }
  });

  law(t, 'it is that of the step that was made: after trust and klClip, with momentum, of EKFAC with its S', () => {
    for (const [name, make] of Object.entries(family))
      for (const o of [free, {}, { trust: 0.01 }, { klClip: 1e-4, momentum: 0.9 }, { maxFactorDim: 4 }])
        for (const route of ROUTES) {
          const [model, batch] = [net(), batchOf(9)];
          const optimizer = make(model, {
            lr: 0.5,
            refreshEvery: 3,
            damping: adaptiveDamping({ every: 1 }),
            route,
            ...o,
          });
          for (let i = 0; i < 4; i++) {
            const before = model.parameters().map(p => p.detach().clone());
            const [x, y] = batch;
            optimizer.zeroGrad();
            const loss = mseLoss(model.call(x), y);
            loss.backward();
            const gradients = model.parameters().map(p => p.grad!.clone());
            void optimizer.step();
            const moves = model.parameters().map((p, j) => p.detach().sub(before[j]!));
            const sum = (x: Tensor) => x.sum().item();
            let predicted = 0;
            for (const [j, move] of moves.entries()) predicted += sum(move.mul(gradients[j]!));
            for (const [path, at] of [
              ['0', 0],
              ['2', 2],
            ] as const) {
              const state = optimizer.inspect(path);
              const { kfe, slots } = state;
              const D = noGrad(() => kfe!.project(tensor(joined(moves[at]!, moves[at + 1]!), { dtype })));
              predicted += sum(D.square().mul(slots.get('S') ?? kfe!.eigenvalues())) / 2;
            }
            const after = noGrad(() => mseLoss(model.call(x), y).item());
            if (!(predicted < 0)) {
              assert.ok(!optimizer.wantsLoss);
              continue;
            }
            assert.ok(optimizer.wantsLoss);
            void optimizer.observeLoss(loss.item(), after);
            const what = `${name}, ${route}, ${JSON.stringify(o)}, step ${i}`;
            mustBeClose(optimizer.reductionRatio!, (after - loss.item()) / predicted, { rtol: 1e-6 }, what);
          }
        }
  });

  law(
    t,
    'of a model that is too optimistic λ rises, up to its most, and a loss that is not finite counts so too',
    () => {
      for (const make of Object.values(family)) {
        const model = net();
        const damping = adaptiveDamping({ start: 1e-6, every: 1, decay: 0.5, max: 1e-5 });
        const optimizer = make(model, { ...free, lr: 1, refreshEvery: 100, damping });
        const batch = batchOf(2);
        const lambdas: number[] = [];
        // The curvature of one gradient, far from the minimum, soon predicts more than there is to win.
        for (const after of [Infinity, NaN, 1e9, 1e9, 1e9]) {
          optimizer.zeroGrad();
          mseLoss(model.call(batch[0]), batch[1]).backward();
          optimizer.lr = 1e-3;
          void optimizer.step();
          void optimizer.observeLoss(1, after);
          lambdas.push(optimizer.damping);
          assert.ok(optimizer.reductionRatio! < 1 / 4);
        }
        assert.deepEqual(lambdas, [2e-6, 4e-6, 8e-6, 1e-5, 1e-5]);
        assert.ok(optimizer.report().blocks.every(block => block.damping === 1e-5));
      }
    },
  );

  law(t, 'the empirical Fisher near a minimum is too optimistic: λ rises from a small start', () => {
    const model = new Linear(4, 2, { dtype, rng: new Generator(1) });
    const [x] = batchOf(1);
    const y = noGrad(() => model.call(x).add(randn([24, 2], { dtype, rng: new Generator(2) }).mul(1e-3)));
    const optimizer = new KFAC(model, { ...free, lr: 1, damping: adaptiveDamping({ start: 1e-8, every: 1 }) });
    for (let i = 0; i < 5; i++) step(model, optimizer, [x, y]);
    assert.ok(optimizer.damping > 1e-8 / 0.8, `${optimizer.damping}`);
  });

  law(t, 'between 1/4 and 3/4 λ stays; the edges are those of the paper', () => {
    const { next, start, every, decay } = adaptiveDamping();
    const omega = decay ** every;
    mustBeClose(omega, (19 / 20) ** 5, { rtol: 1e-15 });
    for (const [ratio, lambda] of [
      [0.24, start / omega],
      [0.25, start],
      [0.75, start],
      [0.76, start * omega],
      [-Infinity, start / omega],
    ] as const)
      assert.equal(next(start, ratio), lambda);
  });
  t.end();
});

const joined = (W: Tensor, b: Tensor): number[][] => {
  const [values, bias] = [W.dataSync(), b.dataSync()];
  const [rows, columns] = W.shape as [number, number];
  return Array.from({ length: rows }, (_, r) => [...values.subarray(r * columns, (r + 1) * columns), bias[r]!]);
};

t.test('runs', t => {
  const make = (name: keyof typeof family, model: Module, o: KFACOptions = {}) =>
    family[name](model, { lr: 0.3, refreshEvery: 3, damping: adaptiveDamping({ every: 2, decay: 0.7 }), ...o });

  for (const name of ['KFAC', 'EKFAC'] as const) {
    law(t, `${name}: save, load, go on = the uninterrupted run, bit for bit, between a step and its losses too`, () => {
      const play = (cut: number | null, between: boolean) => {
        let model = net();
        let optimizer = make(name, model);
        const resume = () => {
          const [weights, state]: StateDict[] = [model.stateDict(), optimizer.stateDict()];
          model = net();
          optimizer = make(name, model);
          model.loadStateDict(weights!);
          optimizer.loadStateDict(state!);
        };
        for (let i = 0; i < 9; i++) {
          const [x, y] = batchOf(i);
          optimizer.zeroGrad();
          const loss = mseLoss(model.call(x), y);
          loss.backward();
          void optimizer.step();
          if (i === cut && between) resume();
          assert.equal(optimizer.wantsLoss, i % 2 === 0);
          const after = noGrad(() => mseLoss(model.call(x), y).item());
          if (optimizer.wantsLoss) void optimizer.observeLoss(loss.item(), after);
          if (i === cut && !between) resume();
        }
        assert.notEqual(optimizer.damping, 3e-3);
        return bitsOf(model.stateDict()) + bitsOf(optimizer.stateDict());
      };
      const whole = play(null, false);
      for (const cut of [0, 1, 4, 5]) for (const between of [true, false]) assert.equal(play(cut, between), whole);
    });

    law(t, `${name}: a λ that stays gives the run with that number, to rounding`, () => {
      const ways = [0.05, { start: 0.05, every: 1, next: (damping: number) => damping }].map(damping => {
        const model = net();
        const optimizer = make(name, model, { damping });
        for (let i = 0; i < 6; i++) step(model, optimizer, batchOf(i));
        return model.parameters().flatMap(p => [...p.dataSync()]);
      });
      mustBeClose(ways[0]!, ways[1]!, { rtol: 1e-9, atol: 1e-12 });
    });
  }

  law(t, 'a state with λ and one without do not fit each other, by name', () => {
    const [adaptive, fixed] = [make('KFAC', net()), make('KFAC', net(), { damping: 0.01 })];
    assert.throws(() => fixed.loadStateDict(adaptive.stateDict()), /unexpected: rule\.damping/);
    assert.throws(() => adaptive.loadStateDict(fixed.stateDict()), /missing: rule\.damping/);
    const wrong = { ...adaptive.stateDict(), 'rule.damping': tensor(0, { dtype }) };
    assert.throws(() => adaptive.loadStateDict(wrong), /rule\.damping expects a number > 0, got 0/);
    const half = { ...adaptive.stateDict(), 'rule.measured': tensor(0.5, { dtype }) };
    assert.throws(() => adaptive.loadStateDict(half), /rule\.measured expects an integer, got 0\.5/);
    assert.equal(adaptive.damping, 3e-3);
  });
  t.end();
});

t.test('what is refused', t => {
  const stepped = (o: KFACOptions) => {
    const model = net();
    const optimizer = new KFAC(model, o);
    const again = () => {
      mseLoss(model.call(batchOf(1)[0]), batchOf(1)[1]).backward();
      void optimizer.step();
      optimizer.zeroGrad();
    };
    again();
    return { model, optimizer, again };
  };

  law(t, 'losses that nobody wants', () => {
    assert.throws(
      () => stepped({}).optimizer.observeLoss(1, 0.5),
      /KFAC\.observeLoss: damping is a number here, .* give damping: adaptiveDamping\(\)/,
    );
    const { optimizer, again } = stepped({ damping: adaptiveDamping({ every: 2 }) });
    void optimizer.observeLoss(1, 0.5);
    assert.throws(
      () => optimizer.observeLoss(1, 0.5),
      /no loss is wanted: call it once after a step for which wantsLoss/,
    );
    again();
    assert.throws(() => optimizer.observeLoss(1, 0.5), /no loss is wanted/);
  });

  law(t, 'a step that wants losses before those of another were told; it changes nothing', () => {
    const { model, optimizer, again } = stepped({ damping: adaptiveDamping({ every: 2 }) });
    again();
    const before = bitsOf(model.stateDict()) + bitsOf(optimizer.stateDict());
    assert.throws(
      again,
      /KFAC: step 2 wants losses, and nobody has told those of step 0: .*call observeLoss\(before, after\)/,
    );
    assert.equal(bitsOf(model.stateDict()) + bitsOf(optimizer.stateDict()), before);
    void optimizer.observeLoss(1, 0.5);
    again();
  });

  law(t, 'losses can be told again where the control threw, and start has to be a number', () => {
    let fails = true;
    const next = (lambda: number) => {
      if (fails) throw new Error('not yet');
      return lambda / 2;
    };
    const model = net();
    const optimizer = new KFAC(model, { damping: { start: 1, every: 1, next } });
    const [x, y] = batchOf(1);
    mseLoss(model.call(x), y).backward();
    void optimizer.step();
    assert.throws(() => optimizer.observeLoss(1, 0.5), { message: 'not yet' });
    assert.equal(optimizer.wantsLoss, true);
    assert.equal(optimizer.reductionRatio, null);
    fails = false;
    void optimizer.observeLoss(1, 0.5);
    assert.equal(optimizer.wantsLoss, false);
    assert.equal(optimizer.damping, 0.5);
    assert.throws(() => new KFAC(net(), { damping: { start: '1', every: 1, next } as never }), {
      message: /^KFAC: expected start of damping to be a number, got '1'/,
    });
  });

  law(t, 'wrong losses, and controls that make no λ', () => {
    const { optimizer } = stepped({ damping: adaptiveDamping() });
    assert.throws(
      () => optimizer.observeLoss(NaN, 1),
      /KFAC\.observeLoss: expected before to be finite|to be a number/,
    );
    assert.throws(() => optimizer.observeLoss(1, JSON.parse('"1"')), /expected after to be a number, got '1'/);
    assert.throws(() => optimizer.observeLoss(1, JSON.parse('null')), /expected after to be a number, got null/);
    assert.ok(optimizer.wantsLoss);
    const other = stepped({ damping: { start: 1, every: 1, next: () => 0 } }).optimizer;
    assert.throws(
      () => other.observeLoss(1, 0),
      /KFAC: expected next\(\) of damping to return a finite number > 0, got 0/,
    );
    assert.equal(other.damping, 1);
  });

  const refused: readonly [string, () => unknown, RegExp][] = [
    ['start below min', () => adaptiveDamping({ start: 1e-9 }), /adaptiveDamping: expected min ≤ start ≤ max/],
    ['no decay', () => adaptiveDamping({ decay: 1 }), /adaptiveDamping: expected decay in \[0, 1\), got 1/],
    ['decay 0', () => adaptiveDamping({ decay: 0 }), /adaptiveDamping: expected decay > 0, got 0/],
    ['min 0', () => adaptiveDamping({ min: 0 }), /adaptiveDamping: expected min > 0, got 0/],
    ['every 0', () => adaptiveDamping({ every: 0 }), /adaptiveDamping: expected every/],
    ['a start of 0', () => new KFAC(net(), { damping: { start: 0, every: 1, next: x => x } }), /start of damping > 0/],
    ['every 1.5', () => new EKFAC(net(), { damping: { start: 1, every: 1.5, next: x => x } }), /every of damping/],
    ['an object', () => new KFAC(net(), JSON.parse('{"damping":{}}')), /control such as adaptiveDamping\(\), got/],
  ];
  for (const [name, make, message] of refused) law(t, name, () => void assert.throws(make, message));
  t.end();
});

law(
  t,
  'where values are read with await, observeLoss is a promise, and λ, ρ and weights are those of a device that is read at once',
  async () => {
    const play = async (device: string) => {
      const model = net().to(device);
      const optimizer = new KFAC(model, { lr: 0.3, refreshEvery: 3, damping: adaptiveDamping({ every: 2 }) });
      const seen: (number | null)[] = [];
      for (let i = 0; i < 5; i++) {
        const [x, y] = batchOf(i).map(one => one.to(device)) as [Tensor, Tensor];
        optimizer.zeroGrad();
        const loss = mseLoss(model.call(x), y);
        loss.backward();
        await optimizer.step();
        if (!optimizer.wantsLoss) continue;
        const told = optimizer.observeLoss(await loss.number(), await noGrad(() => mseLoss(model.call(x), y)).number());
        assert.equal(told instanceof Promise, device !== 'cpu');
        await told;
        seen.push(optimizer.damping, optimizer.reductionRatio);
      }
      assert.equal(seen.length, 6);
      return [...(seen as number[]), ...(await model.parameters()[0]!.data())];
    };
    mustBeClose(await play(laterDevice().device), await play('cpu'), { rtol: 1e-7, atol: 1e-9 });
  },
);
