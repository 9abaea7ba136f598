// Steps of several processes that fail in one of them, and what several processes cannot do.

import assert from 'node:assert/strict';
import { Generator, randn, type Tensor } from '@otimes/core';
import { eigh } from '@otimes/linalg';
import { crossEntropy, Linear, type Sequential } from '@otimes/nn';
import { Adam, KFAC, type KroneckerOptions, type KroneckerPreconditioner } from '@otimes/optim';
import { alone, type Communicator } from '@otimes/optim/curvature';
import t from 'tap';
import { bitsOf, family, labels, type Make, nets } from './helpers/family.ts';
import { laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';
import { Ranks, RanksRun } from './helpers/ranks.ts';

const modelOf = () => nets.linear!.make({ dtype: 'float64', rng: new Generator(3) });
const SIZE = 2;

/** The parts of a step's batch. */
function partsAt(step: number): { x: Tensor; y: Tensor }[] {
  const rng = new Generator(100 + step);
  return Array.from({ length: SIZE }, () => ({ x: randn([6, 5], { dtype: 'float64', rng }), y: labels(rng, 6) }));
}

const runOf = (make: Make, o: (rank: number) => KroneckerOptions = () => ({})) =>
  new RanksRun(SIZE, modelOf, (m, communicator) => make(m, { refreshEvery: 3, ...o(communicator.rank), communicator }));
type Run = ReturnType<typeof runOf>;

/** What happens after the gradients of a process are there. */
type Spoil = (model: Sequential, rank: number) => void;

/** One step of all, and the messages of those that failed. */
const step = (run: Run, at: number, spoil?: Spoil) =>
  run.step((model, rank) => {
    const { x, y } = partsAt(at)[rank]!;
    crossEntropy(model.call(x), y).backward();
    spoil?.(model, rank);
  });

const bits = ({ model, optimizer }: { model: Sequential; optimizer: KroneckerPreconditioner }) =>
  `${bitsOf(model.stateDict())}\n${bitsOf(optimizer.stateDict())}`;
const bitsOfAll = (run: Run) => run.processes.map(bits);

/** Puts a number into the gradient of a parameter, in the last process. */
const put =
  (parameter: number, value: number): Spoil =>
  (model, rank) => {
    if (rank === SIZE - 1) model.parameters()[parameter]!.grad!.narrow(0, 0, 1).scale_(value);
  };

const spoilt: Record<string, Spoil> = {
  'NaN in a gradient of a block': put(0, NaN),
  'Infinity in a gradient of a block': put(4, Infinity),
  'NaN in a gradient of the rest': put(2, NaN),
};

for (const [name, make] of Object.entries(family)) {
  law(
    t,
    `${name}: a number in one process that is not finite is the same error in all, and changes nothing in any`,
    async () => {
      for (const [what, spoil] of Object.entries(spoilt))
        for (const at of [0, 2, 3]) {
          // At first, between refreshes, and on one.
          const [run, twin] = [runOf(make), runOf(make)];
          for (let i = 0; i < at; i++) for (const one of [run, twin]) assert.deepEqual(await step(one, i), []);
          const before = bitsOfAll(run);
          const errors = await step(run, 50, spoil);
          assert.equal(errors.length, SIZE, what);
          assert.match(
            errors[0]!,
            /^RangeError: (E?KFAC|STEVE): the gradient of .* has NaN or infinite elements; no parameter was changed/,
          );
          assert.equal(errors[1], errors[0]);
          assert.deepEqual(bitsOfAll(run), before, `${what} at ${at}`);
          for (let i = at; i < at + 3; i++) for (const one of [run, twin]) assert.deepEqual(await step(one, i), []);
          assert.deepEqual(bitsOfAll(run), bitsOfAll(twin), `${what} at ${at}: the steps after it`);
        }
    },
  );

  law(t, `${name}: inputs of one process that are not finite are the same error in all`, async () => {
    const run = runOf(make);
    assert.deepEqual(await step(run, 0), []);
    const before = bitsOfAll(run);
    const errors = await run.step((model, rank) => {
      const { x, y } = partsAt(1)[rank]!;
      crossEntropy(model.call(rank === 0 ? x.mul(NaN) : x), y).backward();
    });
    assert.match(errors[0]!, /the factor A of linear '0' has NaN/);
    assert.equal(errors[1], errors[0]);
    assert.deepEqual(bitsOfAll(run), before);
  });

  law(
    t,
    `${name}: an exchange that fails, whichever of a step, leaves all as it was, and the next step works`,
    async () => {
      for (const at of [0, 1, 3]) {
        const twin = runOf(make);
        for (let i = 0; i <= at; i++) await step(twin, i);
        const started = runOf(make);
        for (let i = 0; i < at; i++) await step(started, i);
        const first = started.ranks.exchanged.length;
        await step(started, at);
        const count = started.ranks.exchanged.length - first;
        assert.ok(count >= 2);
        for (let fails = 0; fails < count; fails++) {
          const run = runOf(make);
          for (let i = 0; i < at; i++) await step(run, i);
          const before = bitsOfAll(run);
          run.ranks.failsIn = fails;
          assert.deepEqual(await step(run, at), new Array(SIZE).fill('Error: the line is cut'));
          assert.deepEqual(bitsOfAll(run), before, `exchange ${fails} of step ${at}`);
          // The gradients are still there.
          await Promise.all(run.processes.map(({ optimizer }) => optimizer.step()));
          assert.deepEqual(bitsOfAll(run), bitsOfAll(twin), `exchange ${fails} of step ${at}, once more`);
        }
      }
    },
  );

  law(t, `${name}: a decomposition that fails in its owner is the same error in all, and changes nothing`, async () => {
    let fails = false;
    const run = runOf(make, rank => ({
      eigensolver: a => {
        if (fails && rank === 1) throw new RangeError('it did not converge');
        return eigh(a);
      },
    }));
    for (let i = 0; i < 3; i++) assert.deepEqual(await step(run, i), []);
    const before = bitsOfAll(run);
    fails = true;
    assert.deepEqual(await step(run, 3), new Array(SIZE).fill('RangeError: process 1 of 2: it did not converge'));
    assert.deepEqual(bitsOfAll(run), before);
    fails = false;
    assert.deepEqual(await step(run, 3), []);
    const [first, second] = bitsOfAll(run);
    assert.ok(first === second);
  });
}

/** What one process does otherwise than the other, and what both say. */
const differences: Record<string, [act: (run: Run) => Promise<string[]>, message: RegExp]> = {
  'no backward': [
    run =>
      run.step((model, rank) => rank === 1 && crossEntropy(model.call(partsAt(0)[0]!.x), partsAt(0)[0]!.y).backward()),
    /^Error: KFAC: linear '0' has a gradient in process 1 and none in process 0: all processes train the same parameters/,
  ],
  'a block that backward does not reach': [
    run =>
      step(run, 0, (model, rank) => {
        if (rank === 0) for (const p of model.parameters().slice(4)) p.grad = null;
      }),
    /^Error: KFAC: linear '3' has a gradient in process 1 and none in process 0/,
  ],
  'a gradient of the rest that is missing': [
    run =>
      step(run, 0, (model, rank) => {
        if (rank === 1) model.parameters()[2]!.grad = null;
      }),
    /^Error: KFAC: '1.weight' has a gradient in process 0 and none in process 1/,
  ],
  'half a gradient': [
    run =>
      step(run, 0, (model, rank) => {
        if (rank === 1) model.parameters()[1]!.grad = null;
      }),
    /^Error: process 1 of 2: KFAC: linear '0' has gradients for some of its parameters, but none for '0.bias'/,
  ],
  'an empty part': [
    run =>
      run.step((model, rank) => {
        const { x } = partsAt(0)[rank]!;
        model
          .call(x.narrow(0, 0, 6 * rank))
          .sum()
          .backward();
      }),
    /^RangeError: process 0 of 2: KFAC: the batch of linear '0' is empty/,
  ],
  'another parameter than at the start': [
    run => {
      Object.assign(run.processes[1]!.model.layers[3]!, { weight: modelOf().layers[3]!.parameters()[0]! });
      return step(run, 0);
    },
    /^Error: process 1 of 2: KFAC: '3.weight' is another parameter than when the optimizer was made/,
  ],
  'another rate': [
    run => {
      run.processes[1]!.optimizer.lr = 0.01;
      return step(run, 0);
    },
    /^Error: KFAC: processes must be alike, and lr is 0.05 in process 0 and 0.01 in process 1/,
  ],
  'another damping': [
    run => {
      Object.assign(run.processes[1]!.optimizer, { damping: 0.5 });
      return step(run, 0);
    },
    /^Error: KFAC: processes must be alike, and gain of the rule is 333\.3\d* in process 0 and 2 in process 1/,
  ],
  'a state that only one has loaded': [
    async run => {
      const saved = run.processes[0]!.optimizer.stateDict();
      assert.deepEqual(await step(run, 0), []);
      run.processes[0]!.optimizer.loadStateDict(saved);
      return step(run, 1);
    },
    /^Error: KFAC: processes must be alike, and step is 0 in process 0 and 1 in process 1: load the same state in all/,
  ],
  'a second call of the model': [
    run =>
      run.step((model, rank) => {
        const [{ x, y }] = partsAt(0) as [{ x: Tensor; y: Tensor }];
        crossEntropy(model.call(x), y).backward();
        if (rank === 1) model.layers[0]!.call(x).sum().backward();
      }),
    /^Error: KFAC: process 0 has 6 of 18 examples of linear '0' and 6 of 12 of linear '3': give all processes parts of the same size/,
  ],
};
for (const [what, [act, message]] of Object.entries(differences))
  law(t, `${what} in one process is the same error in all`, async () => {
    const run = runOf(family.KFAC!);
    const errors = await act(run);
    assert.equal(errors.length, SIZE);
    assert.match(errors[0]!, message);
    assert.equal(errors[1], errors[0]);
    const [first, second] = run.processes.map(({ model }) => bitsOf(model.stateDict()));
    assert.ok(first === second);
    if (what.startsWith('a state') || what.startsWith('another')) return;
    assert.deepEqual(await step(run, 0), [], 'the next step works');
  });

law(t, 'the error of a process has the original as its cause there', async () => {
  const ranks = new Ranks(SIZE);
  const steps = ranks.communicators.map(async communicator => {
    const model = modelOf();
    const eigensolver = () => {
      throw new SyntaxError('no');
    };
    const optimizer = new KFAC(model, communicator.rank === 1 ? { communicator, eigensolver } : { communicator });
    const { x, y } = partsAt(0)[communicator.rank]!;
    crossEntropy(model.call(x), y).backward();
    await optimizer.step();
  });
  const [first, second] = await Promise.all(steps.map(one => one.catch((error: Error) => error)));
  for (const error of [first, second]) assert.equal(String(error), 'Error: process 1 of 2: no');
  assert.equal(first!.cause, undefined);
  assert.ok(second!.cause instanceof SyntaxError);
});

law(t, 'while a step waits for other processes, nothing else of the optimizer runs', async () => {
  const ranks = new Ranks(SIZE);
  const models = [modelOf(), modelOf()] as const;
  const optimizers = ranks.communicators.map((communicator, i) => new KFAC(models[i]!, { communicator }));
  for (const [rank, { x, y }] of partsAt(0).entries()) crossEntropy(models[rank]!.call(x), y).backward();
  const [first, second] = optimizers as [KFAC, KFAC];
  const state = first.stateDict();
  const open = first.step();
  assert.ok(open instanceof Promise);
  for (const act of [
    () => models[0].call(partsAt(0)[0]!.x).sum().backward(),
    () => first.step(),
    () => first.zeroGrad(),
    () => first.loadStateDict(state),
    () => first.detach(),
    () => first.observe(),
    ...(['lr', 'weightDecay', 'refreshEvery', 'factorDecay', 'factorEvery', 'damping'] as const).map(name => () => {
      first[name] = name.endsWith('Every') ? 7 : 0.5;
    }),
  ])
    assert.throws(
      act,
      /^Error: KFAC: .* while a step waits for values, from the device or from other processes: await step\(\)/,
    );
  await Promise.all([open, second.step()]);
  first.lr = 0.01;
  assert.equal(bitsOf(models[0].stateDict()), bitsOf(models[1].stateDict()));
});

law(t, 'gradients that change while a step waits are no part of it', async () => {
  const [run, twin] = [runOf(family.STEVE!), runOf(family.STEVE!)];
  const open = step(run, 0);
  // Backward was synchronous, so all have entered the step.
  for (const { model } of run.processes) for (const p of model.parameters()) p.grad = null;
  assert.deepEqual(await open, []);
  await step(twin, 0);
  assert.deepEqual(bitsOfAll(run), bitsOfAll(twin));
});

law(t, 'an ndarray over the weights in one process changes no bit between them', async () => {
  for (const route of ['auto', 'resident', 'activations'] as const) {
    const run = runOf(family.STEVE!, () => ({ route }));
    for (let i = 0; i < 8; i++) {
      if (i === 4) run.processes[1]!.model.parameters()[0]!.ndarray();
      assert.deepEqual(await step(run, i), []);
      const [first, second] = bitsOfAll(run);
      assert.ok(first === second, `${route}, step ${i}`);
    }
  }
});

law(t, 'what is no communicator is refused, and what several processes cannot do', () => {
  const [several] = new Ranks(2).communicators as [Communicator];
  const make =
    (communicator: unknown, o: KroneckerOptions = {}) =>
    () =>
      new KFAC(modelOf(), { ...o, communicator: communicator as Communicator });
  const expected =
    'KFAC: expected communicator to be a communicator { rank, size, sum, broadcast } with integers 0 ≤ rank < size, got ';
  for (const [wrong, got] of [
    [null, 'null'],
    [2, '2'],
    [{ ...several, rank: 2 }, '{ rank, size, sum, broadcast }; its rank is 2 and its size 2'],
    [{ ...several, rank: -1 }, '{ rank, size, sum, broadcast }; its rank is -1 and its size 2'],
    [{ ...several, rank: 0.5 }, '{ rank, size, sum, broadcast }; its rank is 0.5 and its size 2'],
    [{ ...several, size: '2' }, '{ rank, size, sum, broadcast }; its rank is 0 and its size 2'],
    [{ rank: 0, size: 2, sum() {} }, '{ rank, size, sum }; it has no function broadcast'],
    [{ rank: 0, size: 2 }, '{ rank, size }; it has no function sum and no broadcast'],
  ] as const)
    assert.throws(make(wrong), { name: 'TypeError', message: expected + got });
  assert.throws(
    make(several, { refresh: 'background' }),
    /^TypeError: KFAC: refresh: 'background' is for a process that trains alone/,
  );
  assert.throws(make(several, { refresh: 'background', refreshLag: 2 }), /refresh: 'background' is for a process/);
  make(alone, { refresh: 'background' })().detach();
  assert.throws(
    make(several, { collectors: [] }),
    /^Error: KFAC: a communicator of several processes needs a layer that a collector knows/,
  );
  const later = modelOf().to(laterDevice().device);
  assert.throws(
    () => new KFAC(later, { communicator: several }),
    /^TypeError: KFAC: a communicator of 2 processes needs a model on a device that is read at once, and 'later' is read with await/,
  );
  const model = new Linear(2, 2);
  assert.throws(
    () => new Adam(model.parameters(), { communicator: several } as never),
    /there is no option 'communicator'/,
  );
});

law(t, 'a refused optimizer leaves no hook behind', () => {
  const [several] = new Ranks(2).communicators as [Communicator];
  const model = modelOf();
  assert.throws(() => new KFAC(model, { communicator: several, refresh: 'background' }));
  assert.throws(() => new KFAC(model, { communicator: several, collectors: [] }));
  const optimizer = new KFAC(model);
  const { x, y } = partsAt(0)[0]!;
  crossEntropy(model.call(x), y).backward();
  assert.equal(optimizer.step(), undefined);
});

law(t, 'a state with decompositions under way is for a process that trains alone', () => {
  const model = modelOf();
  const optimizer = new KFAC(model, { refresh: 'background', refreshEvery: 2, refreshLag: 2 });
  for (let i = 0; i < 3; i++) {
    optimizer.zeroGrad();
    const { x, y } = partsAt(i)[0]!;
    crossEntropy(model.call(x), y).backward();
    optimizer.step();
  }
  const saved = optimizer.stateDict();
  assert.ok('blocks.0.job.step' in saved);
  const [several] = new Ranks(2).communicators as [Communicator];
  const other = new KFAC(modelOf(), { communicator: several });
  const before = bitsOf(other.stateDict());
  assert.throws(() => other.loadStateDict(saved), /decompositions are under way in it, of refresh: 'background'/);
  assert.equal(bitsOf(other.stateDict()), before);
});

law(t, 'a communicator that is synchronous makes steps that are', async () => {
  // What the first process had after each exchange is played to a second one like it.
  for (const [name, make] of Object.entries(family)) {
    const run = runOf(make);
    for (let i = 0; i < 5; i++) assert.deepEqual(await step(run, i), []);
    const { exchanged } = run.ranks;
    let next = 0;
    const play = (tensors: readonly Tensor[]): void => {
      const all = exchanged[next++]!;
      for (const [i, x] of tensors.entries()) x.copy_(all[i]!);
    };
    const model = modelOf();
    const optimizer = make(model, { refreshEvery: 3, communicator: { rank: 0, size: 2, sum: play, broadcast: play } });
    for (let i = 0; i < 5; i++) {
      optimizer.zeroGrad();
      const { x, y } = partsAt(i)[0]!;
      crossEntropy(model.call(x), y).backward();
      assert.equal(optimizer.step(), undefined, name);
    }
    assert.equal(next, exchanged.length);
    assert.ok(bits({ model, optimizer }) === bits(run.processes[0]!), name);
    const before = bits({ model, optimizer });
    const { x, y } = partsAt(5)[0]!;
    crossEntropy(model.call(x), y).backward();
    assert.throws(() => optimizer.step(), TypeError, 'nothing is left to play');
    assert.ok(bits({ model, optimizer }) === before);
  }
});
