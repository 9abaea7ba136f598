// Several processes that train one model, each on its part of every batch.

import assert from 'node:assert/strict';
import { Generator, randn, type Tensor } from '@otimes/core';
import { eigh } from '@otimes/linalg';
import { crossEntropy, mseLoss, type Sequential } from '@otimes/nn';
import { EKFAC, KFAC, type KroneckerOptions, type KroneckerPreconditioner, STEVE } from '@otimes/optim';
import { alone, type Communicator } from '@otimes/optim/curvature';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { bitsOf, family, labels, type Make, nets, ROUTES } from './helpers/family.ts';
import { law } from './helpers/law.ts';
import { equalParts, partsOf, RanksRun } from './helpers/ranks.ts';

type Task = {
  net?: string;
  make: Make;
  options?: KroneckerOptions;
  sizes?: readonly number[];
  loss?: (z: Tensor, y: Tensor) => Tensor;
  /** Targets for a batch. */
  targets?: (rng: Generator) => Tensor;
  dtype?: 'float32' | 'float64';
};
const STEPS = 11;

const modelOf = ({ net = 'linear', dtype = 'float64' }: Task) => nets[net]!.make({ dtype, rng: new Generator(3) });

/** Batches of 12 examples. */
function* batches({ net = 'linear', targets = labels, dtype = 'float64' }: Task, steps = STEPS) {
  const rng = new Generator(9);
  for (let step = 0; step < steps; step++) yield { x: randn(nets[net]!.shape, { dtype, rng }), y: targets(rng) };
}

const runOf = (task: Task, size: number) =>
  new RanksRun(
    size,
    () => modelOf(task),
    (model, communicator) => task.make(model, { refreshEvery: 4, ...task.options, communicator }),
  );
type Run = ReturnType<typeof runOf>;

/** Trains all processes on parts of these batches. */
async function train(run: Run, { loss = crossEntropy, sizes, ...task }: Task, steps = STEPS): Promise<void> {
  const parts = sizes ?? equalParts(12, run.processes.length);
  for (const { x, y } of batches(task, steps)) {
    const [xs, ys] = [partsOf(x, parts), partsOf(y, parts)];
    const errors = await run.step((model, rank) => loss(model.call(xs[rank]!), ys[rank]!).backward());
    assert.deepEqual(errors, []);
  }
}

/** The run of one process on whole batches. */
function whole(task: Task): Sequential {
  const { loss = crossEntropy } = task;
  const model = modelOf(task);
  const optimizer = task.make(model, { refreshEvery: 4, ...task.options });
  for (const { x, y } of batches(task)) {
    optimizer.zeroGrad();
    loss(model.call(x), y).backward();
    optimizer.step();
  }
  return model;
}

const bits = ({ model, optimizer }: { model: Sequential; optimizer: KroneckerPreconditioner }) =>
  `${bitsOf(model.stateDict())}\n${bitsOf(optimizer.stateDict())}`;

function mustBeAlike({ processes: [first, ...others] }: Run): void {
  for (const other of others)
    assert.ok(bits(other) === bits(first!), `process ${other.rank} is not process 0, to the bit`);
}

async function mustFollow(task: Task, counts = [2, 3]): Promise<Run[]> {
  const expected = whole(task).parameters();
  const runs: Run[] = [];
  for (const size of counts) {
    const run = runOf(task, size);
    await train(run, task);
    mustBeAlike(run);
    for (const [i, p] of run.processes[0]!.model.parameters().entries())
      mustBeClose(p, expected[i]!, { rtol: 1e-9, atol: 1e-9 }, `parameter ${i} of ${size} processes`);
    runs.push(run);
  }
  return runs;
}

const sumOfLoss = (z: Tensor, y: Tensor) => crossEntropy(z, y, { reduction: 'sum' });
const numbers = (rng: Generator) => randn([12, 3], { dtype: 'float64', rng });

for (const [name, make] of Object.entries(family)) {
  law(t, `${name}: processes on parts of a batch are one on the whole batch, and each other to the bit`, async () => {
    for (const route of ROUTES) {
      const runs = await mustFollow({ make, options: { route } });
      for (const { processes } of runs)
        assert.ok(
          processes.every(({ optimizer }) => optimizer.describe()[0]!.route === route),
          route,
        );
    }
    for (const net of ['convolution', 'attention']) await mustFollow({ net, make });
  });

  law(t, `${name}: so they are with every Fisher that draws nothing, and with a loss that is a sum`, async () => {
    await mustFollow({ make, options: { fisher: 'ggn', loss: 'crossEntropy' } });
    await mustFollow({ make, options: { fisher: 'ggn', loss: 'mse' }, loss: mseLoss, targets: numbers }, [3]);
    await mustFollow({ make, options: { lossReduction: 'sum' }, loss: sumOfLoss });
  });

  law(t, `${name}: parts of different sizes count by their examples`, async () => {
    for (const sizes of [
      [7, 5],
      [5, 1, 6],
    ]) {
      await mustFollow({ make, sizes }, [sizes.length]);
      await mustFollow({ make, sizes, net: 'attention' }, [sizes.length]);
      await mustFollow({ make, sizes, options: { lossReduction: 'sum' }, loss: sumOfLoss }, [sizes.length]);
    }
  });

  law(t, `${name}: so they are with other options, factors that are rare and bases that come apart`, async () => {
    const options: KroneckerOptions[] = [
      { factorEvery: 3, stagger: true },
      { maxFactorDim: 4 },
      { structure: 'blocks', blockDim: 3 },
      { factorDecay: 0.5, weightDecay: 0.1 },
      { overrides: { '0': { skip: true }, '3': { sharing: 'reduce' } } },
    ];
    for (const o of options) await mustFollow({ make, options: o });
    for (const structure of ['taps', 'channels'] as const)
      await mustFollow({ make, options: { structure }, net: 'convolution' }, [2]);
  });

  law(t, `${name}: with the communicator 'alone' a step is synchronous, and the default's to the bit`, () => {
    const states = [{}, { communicator: alone }, { communicator: { ...alone } }].map(o => {
      const model = modelOf({ make });
      const optimizer = make(model, { refreshEvery: 4, ...o });
      for (const { x, y } of batches({ make })) {
        optimizer.zeroGrad();
        crossEntropy(model.call(x), y).backward();
        assert.equal(optimizer.step(), undefined);
      }
      return bits({ model, optimizer });
    });
    assert.ok(states.every(state => state === states[0]));
  });

  law(t, `${name}: in float32 too all processes have the same bits`, async () => {
    for (const route of ROUTES) {
      const run = runOf({ make, dtype: 'float32', options: { route } }, 3);
      await train(run, { make, dtype: 'float32', sizes: [4, 3, 5] });
      mustBeAlike(run);
    }
  });

  law(t, `${name}: each basis is decomposed once, by the owner of its block`, async () => {
    const counts = [0, 0];
    const counting = (m: Sequential, communicator: Communicator) =>
      make(m, {
        communicator,
        refreshEvery: 4,
        eigensolver: a => {
          counts[communicator.rank]!++;
          return eigh(a);
        },
      });
    const run = new RanksRun(2, () => modelOf({ make }), counting);
    await train(run, { make });
    // Two blocks of two factors each, on steps 0, 4 and 8.
    assert.deepEqual(counts, [6, 6]);
    assert.deepEqual(
      run.processes.map(({ optimizer }) => optimizer.report().refreshes.done),
      [6, 6],
    );
  });

  law(t, `${name}: labels are drawn anew in each process, and what is saved is the same in all`, async () => {
    const task: Task = { make, options: { fisher: 'sampled', loss: 'crossEntropy' } };
    const run = runOf(task, 2);
    // The same part for both: labels tell them apart, and nothing else could.
    const own: number[] = [];
    for (const { x, y } of batches(task, 1)) {
      await run.step((model, rank) => {
        crossEntropy(model.call(x), y).backward();
        const { statistics } = run.processes[rank]!.optimizer.inspect('0');
        own.push(statistics!.factors(1)!.G.sum().item());
      });
    }
    assert.notEqual(own[0], own[1]);
    await train(run, task);
    mustBeAlike(run);
    const alike = new Set(run.processes.map(({ optimizer }) => String(optimizer.stateDict().rng!.toArray())));
    assert.equal(alike.size, 1);
  });

  law(t, `${name}: processes that are saved, loaded and go on are those that were not interrupted`, async () => {
    for (const fisher of ['empirical', 'sampled'] as const) {
      const task: Task = { make, options: { fisher, loss: 'crossEntropy', rng: new Generator(4) } };
      const fresh = (): Task => ({ ...task, options: { ...task.options, rng: new Generator(4) } });
      const runs = [0, 1].map(
        () =>
          new RanksRun(
            2,
            () => modelOf(task),
            (m, communicator) => make(m, { ...fresh().options, refreshEvery: 4, communicator }),
          ),
      );
      const [straight, resumed] = runs as [Run, Run];
      await train(straight, task, 5);
      // Every process loads what the first has saved.
      const { model, optimizer } = straight.processes[0]!;
      const saved = [model.stateDict(), optimizer.stateDict()] as const;
      for (const one of resumed.processes) {
        one.model.loadStateDict(saved[0]);
        one.optimizer.loadStateDict(saved[1]);
      }
      for (const run of runs) await train(run, task, 6);
      mustBeAlike(resumed);
      assert.ok(bits(resumed.processes[1]!) === bits(straight.processes[0]!), fisher);
    }
  });
}

law(t, 'a broadcast of detached parameters makes models alike, and training keeps them so', async () => {
  const run = new RanksRun(
    3,
    () => modelOf({ make: family.STEVE! }),
    (m, communicator) => {
      for (const p of m.parameters()) p.detach().scale_(1 + communicator.rank);
      return family.STEVE!(m, { communicator });
    },
  );
  await Promise.all(
    run.processes.map(({ model }, rank) =>
      run.ranks.communicators[rank]!.broadcast(
        model.parameters().map(p => p.detach()),
        1,
      ),
    ),
  );
  mustBeAlike(run);
  await train(run, { make: family.STEVE! });
  mustBeAlike(run);
});

const others: Record<string, Make> = {
  'KFAC with momentum, trust and klClip': (m, o) =>
    new KFAC(m, { lr: 0.05, momentum: 0.9, nesterov: true, trust: 0.05, klClip: 1e-3, dampingSplit: 'pi', ...o }),
  'EKFAC of the batch': (m, o) => new EKFAC(m, { lr: 0.05, secondMoment: 'batch', ...o }),
  'STEVE with nesterov': (m, o) => new STEVE(m, { lr: 0.05, nesterov: true, onRefresh: 'zero', ...o }),
};
for (const [name, make] of Object.entries(others))
  law(t, `${name}: processes on parts of a batch are one on the whole batch`, async () => {
    await mustFollow({ make, sizes: [5, 7] }, [2]);
    await mustFollow({ make, sizes: [2, 4, 6], options: { lossReduction: 'sum' }, loss: sumOfLoss }, [3]);
  });
