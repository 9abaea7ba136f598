// SINGD trains models: on every device, in several processes, all of a step or nothing; and what it refuses.

import assert from 'node:assert/strict';
import { eye, full, Generator, ones, randn, scope, type Tensor } from '@otimes/core';
import { crossEntropy, Embedding, Linear, type Module, Sequential } from '@otimes/nn';
import {
  type BlockState,
  type FixedBasis,
  KFAC,
  Kfe,
  KroneckerPreconditioner,
  type Rule,
  SGD,
  SINGD,
  type SINGDOptions,
  type StepInfo,
} from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { DEVICES } from './helpers/devices.ts';
import { bitsOf, labels, nets, warningsOf } from './helpers/family.ts';
import { instantReadsIn } from './helpers/later.ts';
import { law } from './helpers/law.ts';
import { equalParts, partsOf, RanksRun } from './helpers/ranks.ts';
import { DeviceRun, deviceTasks } from './suites/device-runs.ts';
import { Pool } from './suites/exactness.ts';
import { labelled, resumptionLaw } from './suites/optimizers.ts';

const variants: Record<string, SINGDOptions> = {
  exact: { lr: 0.05, lrCov: 0.1, refreshEvery: 3 },
  'diagonal and blocks': {
    lr: 0.05,
    lrCov: 0.1,
    refreshEvery: 2,
    structure: { A: 'blocks', G: 'diagonal' },
    blockDim: 3,
  },
  'IKFAC, normalised, at the identity': {
    ...{ lr: 0.05, lrCov: 0.2, refreshEvery: 2, adaptive: false, alpha1: 0.5, normalizeLrCov: true },
    maxFactorDim: 4,
  },
};

for (const [name, o] of Object.entries(variants)) {
  law(t, `${name}: the same training on every device, without a read`, async () => {
    for (const [task, of] of Object.entries(deviceTasks)) {
      const make = (m: Module) => new SINGD(m, o);
      const expected = await new DeviceRun('cpu', of, make).steps(5);
      assert.ok(expected.losses.every(Number.isFinite));
      for (const device of DEVICES) {
        const run = new DeviceRun(device, of, make);
        // The losses alone are read, and with await.
        assert.equal(await instantReadsIn(() => run.steps(5)), 0);
        mustBeClose(
          await run.parameters(),
          await expected.parameters(),
          { rtol: 0, atol: 2e-5 },
          `${task} on ${device}`,
        );
      }
    }
  });

  for (const device of DEVICES.slice(1))
    resumptionLaw(
      t,
      { name: `${name} on '${device}'`, make: m => new SINGD(m, o) },
      { model: p => nets.linear!.make(p), batches: labelled([5]) },
      device,
    );

  law(t, `${name}: processes on parts of a batch are one on the whole batch, and each other to the bit`, async () => {
    for (const [net, { make, shape }] of Object.entries(nets)) {
      const model = () => make({ dtype: 'float64', rng: new Generator(3) });
      const alone = model();
      const one = new SINGD(alone, o);
      const runs = [2, 3].map(
        size => new RanksRun(size, model, (m, communicator) => new SINGD(m, { ...o, communicator })),
      );
      const rng = new Generator(9);
      for (let step = 0; step < 5; step++) {
        const [x, y] = [randn(shape, { dtype: 'float64', rng }), labels(rng)];
        one.zeroGrad();
        crossEntropy(alone.call(x), y).backward();
        one.step();
        for (const run of runs) {
          const sizes = equalParts(12, run.processes.length);
          const [xs, ys] = [partsOf(x, sizes), partsOf(y, sizes)];
          assert.deepEqual(await run.step((m, rank) => crossEntropy(m.call(xs[rank]!), ys[rank]!).backward()), []);
        }
      }
      for (const { processes } of runs) {
        for (const [i, p] of processes[0]!.model.parameters().entries())
          mustBeClose(p, alone.parameters()[i]!, { rtol: 1e-9, atol: 1e-9 }, `${net}, parameter ${i}`);
        const all = processes.map(({ model, optimizer }) => bitsOf({ ...model.stateDict(), ...optimizer.stateDict() }));
        assert.ok(all.every(bits => bits === all[0]));
      }
    }
  });
}

law(t, 'processes with another damping or lrCov are told so', async () => {
  for (const change of [{ damping: 0.5 }, { lrCov: 0.5 }]) {
    const run = new RanksRun(
      2,
      () => nets.linear!.make({ dtype: 'float64', rng: new Generator(3) }),
      (m, communicator) => new SINGD(m, { communicator, ...(communicator.rank === 1 ? change : {}) }),
    );
    const rng = new Generator(1);
    const errors = await run.step(m =>
      crossEntropy(m.call(randn([12, 5], { dtype: 'float64', rng })), labels(rng)).backward(),
    );
    assert.equal(errors.length, 2);
    for (const error of errors) assert.match(error, /SINGD: processes must be alike/);
  }
});

law(t, 'an embedding has a diagonal K, and the step is one on its rows', () => {
  const rng = new Generator(2);
  const model = new Sequential(new Embedding(6, 4, { rng }), new Pool('mean'));
  const optimizer = new SINGD(model, { refreshEvery: 1, lrCov: 0.1, lr: 0.1 });
  crossEntropy(model.call(labels(rng, 20).reshape([10, 2])), labels(rng, 10)).backward();
  optimizer.step();
  const { slots, A } = optimizer.inspect('0');
  assert.deepEqual([slots.get('K')!.shape, A!.shape], [[6], [6]]);
});

// --- failures ---------------------------------------------------------------------------------------------------------------

const everything = (model: Module, optimizer: SINGD) => bitsOf({ ...model.stateDict(), ...optimizer.stateDict() });

law(
  t,
  'what overflows is an error that names the block and changes nothing, and training goes on as if it had not been',
  () => {
    type Spoil = (model: Module, optimizer: SINGD) => () => void;
    const none = () => {};
    const gradient = (value: number) => (m: Module) => {
      const g = m.parameters()[0]!.grad!;
      g.copy_(full(g.shape, value));
      return none;
    };
    const spoilt: Record<string, [spoil: Spoil, message: RegExp]> = {
      'NaN in a gradient': [
        gradient(NaN),
        /SINGD: the gradient of linear '0' has NaN or infinite elements; no parameter was/,
      ],
      'an update that overflows': [
        gradient(3e38),
        /SINGD: the (new momentum|update of the weights) of linear '0' has NaN or/,
      ],
      'factors of the inverse that overflow': [
        (_, optimizer) => {
          optimizer.lrCov = 1e30;
          return () => {
            optimizer.lrCov = 0.1;
          };
        },
        /SINGD: the (new K|new C|new momentum|update of the weights) of linear '0' has NaN or infinite/,
      ],
      'K that somebody wrote to': [
        (_, optimizer) => {
          const K = optimizer.inspect('0').slots.get('K')!;
          const before = K.clone();
          scope(() => K.copy_(full(K.shape, 1e20)));
          return () => void K.copy_(before);
        },
        /SINGD: the (new m?[KC]|new momentum|update of the weights) of linear '0' has NaN or infinite/,
      ],
    };
    const mayPass = 'factors of the inverse that overflow'; // between two updates of K
    for (const at of [2, 3])
      for (const [what, [spoil, message]] of Object.entries(spoilt)) {
        const play = (fails: boolean) => {
          const rng = new Generator(5);
          const model = nets.linear!.make({ rng, dtype: 'float32' });
          const optimizer = new SINGD(model, { lr: 0.05, lrCov: 0.1, refreshEvery: 3 });
          for (let step = 0; step < 6; step++) {
            const [x, y] = [randn([12, 5], { rng }), labels(rng)];
            const backward = () => {
              optimizer.zeroGrad();
              crossEntropy(model.call(x), y).backward();
            };
            backward();
            if (fails && step === at && !(what === mayPass && at === 2)) {
              const clean = everything(model, optimizer);
              const undo = spoil(model, optimizer);
              const before = everything(model, optimizer);
              assert.throws(() => optimizer.step(), { name: 'RangeError', message }, `${what} at ${step}`);
              assert.ok(everything(model, optimizer) === before, `${what} at ${step}: nothing has changed`);
              undo();
              assert.ok(everything(model, optimizer) === clean);
              backward();
            }
            optimizer.step();
          }
          return everything(model, optimizer);
        };
        assert.ok(play(true) === play(false), `${what} at ${at}: the next batch is as if it had not been`);
      }
  },
);

law(
  t,
  'options that speak of decompositions, structures that are products, and numbers out of range are refused',
  () => {
    const model = () => nets.linear!.make({ dtype: 'float64', rng: new Generator(1) });
    const refused: [o: object, message: RegExp][] = [
      ...['refresh', 'refreshLag', 'refreshThreshold', 'refreshBudget', 'eigensolver', 'route'].map(
        (option): [object, RegExp] => [{ [option]: 1 }, new RegExp(`^SINGD: there is no option '${option}'`)],
      ),
      [{ lrCovs: 1 }, /^SINGD: there is no option 'lrCovs', .*lrCov/],
      [{ lrCov: -1 }, /^SINGD: expected lrCov in \[0, Infinity\), got -1/],
      [{ damping: -1 }, /^SINGD: expected damping in/],
      [{ alpha1: 1 }, /^SINGD: expected alpha1 in \[0, 1\), got 1/],
      [{ momentum: 1 }, /^SINGD: expected momentum in/],
      [{ adaptive: 1 }, /^SINGD: expected adaptive to be/],
      [{ structure: 'taps' }, /^SINGD: expected structure to be one of 'exact', 'blocks', 'diagonal', 'identity'/],
      [{ structure: 'auto' }, /^SINGD: expected structure/],
      [{ structure: { A: 'taps' } }, /^SINGD: expected structure/],
      [{ structure: { K: 'exact' } }, /^SINGD: expected structure/],
      [{ overrides: { 0: { structure: 'channels' } } }, /^SINGD: overrides\['0'\]: expected structure/],
    ];
    for (const [o, message] of refused) assert.throws(() => new SINGD(model(), o as SINGDOptions), { message });
    const own = model();
    const optimizer = new SINGD(own, { lrCov: 0.5 });
    for (const [property, value] of Object.entries({ lrCov: -1, damping: NaN }))
      assert.throws(() => Object.assign(optimizer, { [property]: value }), {
        message: new RegExp(`SINGD: expected ${property} in`),
      });
    Object.assign(optimizer, { lrCov: 0.25, damping: 0 });
    const { lrCov, damping, alpha1, momentum, adaptive, normalizeLrCov, lr, refreshEvery, factorDecay } = optimizer;
    assert.deepEqual(
      { lrCov, damping, alpha1, momentum, adaptive, normalizeLrCov, lr, refreshEvery, factorDecay },
      {
        ...{ lrCov: 0.25, damping: 0, alpha1: 0.5, momentum: 0.9, adaptive: true, normalizeLrCov: false, lr: 1e-3 },
        ...{ refreshEvery: 10, factorDecay: 0 },
      },
    );
    assert.equal(new SINGD(model(), { adaptive: false }).alpha1, 0);
  },
);

law(t, 'large factors stay whole, without a word: nothing decomposes them', () => {
  const model = new Linear(1300, 2);
  const structureOf = (make: () => KroneckerPreconditioner) => {
    let A: unknown;
    const said = warningsOf(() => {
      const optimizer = make();
      A = optimizer.describe()[0]!.structure!.A;
      optimizer.detach();
    });
    return { A, lines: said.length };
  };
  assert.deepEqual(
    structureOf(() => new SINGD(model)),
    { A: 'exact', lines: 0 },
  );
  assert.deepEqual(
    structureOf(() => new KFAC(model)),
    { A: 'blocks', lines: 1 },
  );
});

law(t, 'a rule of the program may have a basis that is given once and slots of other shapes, which are checked', () => {
  class Whitened implements Rule {
    readonly slots = ['inverse'];
    readonly gain = Infinity;
    shape: 'right' | 'wrong' = 'right';
    shapeOf(_: string, { sizes: [, dIn] }: BlockState) {
      return [dIn, dIn];
    }
    needs() {
      return 'nothing' as const;
    }
    refreshed() {}
    direction({ slots, A }: BlockState, D: Tensor, step: StepInfo) {
      const [n, o] = [A!.shape[0]!, { dtype: D.dtype, device: D.device } as const];
      if (!slots.has('inverse')) slots.set('inverse', this.shape === 'right' ? eye(n, o) : eye(n + 1, o));
      if (step.index > 0) slots.get('inverse')!.copy_(A!);
      return D;
    }
  }
  class Mine extends KroneckerPreconditioner {
    constructor(model: Module, rule: Rule) {
      const side = (n: number) => ({ U: null, s: ones([n], { dtype: 'float64' }), n: ones([n], { dtype: 'float64' }) });
      const fixedBasis: FixedBasis = ([dOut, dIn]) => new Kfe(side(dIn), side(dOut));
      super(model, {}, { rule, lr: 0.1, fixedBasis, rest: (p, lr) => new SGD(p, { lr }) });
    }
  }
  const started = (rule: Rule) => {
    const rng = new Generator(4);
    const model = nets.linear!.make({ dtype: 'float64', rng });
    const optimizer = new Mine(model, rule);
    const step = () => {
      optimizer.zeroGrad();
      crossEntropy(model.call(randn([12, 5], { dtype: 'float64', rng })), labels(rng)).backward();
      optimizer.step();
    };
    return { model, optimizer, step };
  };
  const { optimizer, step } = started(new Whitened());
  step();
  mustBeClose(optimizer.inspect('0').slots.get('inverse')!, eye(6, { dtype: 'float64' }));
  step();
  const { A } = optimizer.inspect('0');
  mustBeClose(optimizer.inspect('0').slots.get('inverse')!, A!);
  const other = started(new Whitened());
  other.optimizer.loadStateDict(optimizer.stateDict());
  assert.equal(bitsOf(other.optimizer.stateDict()), bitsOf(optimizer.stateDict()));
  const wrong = new Whitened();
  wrong.shape = 'wrong';
  assert.throws(
    () => started(wrong).step(),
    /'inverse', each float64\[6,6\] on 'cpu'; got 'inverse' float64\[7,7\] on 'cpu'/,
  );
});
