// averageGradients: gradients of several processes, for optimizers that need nothing else.

import assert from 'node:assert/strict';
import { Generator, randn, tensor, zeros } from '@otimes/core';
import { crossEntropy } from '@otimes/nn';
import { Adam, alone, averageGradients, clipGradNorm, KFAC, Muon, type Optimizer, SGD, Shampoo } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { bitsOf, labels, nets } from './helpers/family.ts';
import { law } from './helpers/law.ts';
import { partsOf, Ranks, RanksRun } from './helpers/ranks.ts';

const modelOf = () => nets.linear!.make({ dtype: 'float64', rng: new Generator(3) });
type Model = ReturnType<typeof modelOf>;
const batches = (steps: number) => {
  const rng = new Generator(9);
  return Array.from({ length: steps }, () => ({ x: randn([12, 5], { dtype: 'float64', rng }), y: labels(rng) }));
};

const optimizers: Record<string, (m: Model) => Optimizer> = {
  SGD: (m: Model) => new SGD(m.parameters(), { lr: 0.1, momentum: 0.9 }),
  Adam: (m: Model) => new Adam(m.parameters(), { lr: 0.02 }),
  Muon: (m: Model) => new Muon(m, { lr: 0.02 }),
  Shampoo: (m: Model) => new Shampoo(m, { lr: 0.02, refreshEvery: 3 }),
};
for (const [name, make] of Object.entries(optimizers))
  law(
    t,
    `${name}: processes that average their gradients are one on the whole batch, and each other to the bit`,
    async () => {
      for (const maxNorm of [null, 0.3])
        for (const sizes of [
          [6, 6],
          [3, 7, 2],
        ]) {
          const model = modelOf();
          const optimizer = make(model);
          const run = new RanksRun(sizes.length, modelOf, make);
          for (const { x, y } of batches(11)) {
            optimizer.zeroGrad();
            crossEntropy(model.call(x), y).backward();
            if (maxNorm !== null) clipGradNorm(model.parameters(), maxNorm);
            optimizer.step();
            const [xs, ys] = [partsOf(x, sizes), partsOf(y, sizes)];
            const errors = await run.step(async (m, rank) => {
              crossEntropy(m.call(xs[rank]!), ys[rank]!).backward();
              await averageGradients(m.parameters(), run.ranks.communicators[rank]!, { examples: sizes[rank]! });
              if (maxNorm !== null) clipGradNorm(m.parameters(), maxNorm);
            });
            assert.deepEqual(errors, []);
          }
          const [first, ...others] = run.processes;
          for (const other of others) assert.equal(bitsOf(other.model.stateDict()), bitsOf(first!.model.stateDict()));
          for (const [i, p] of model.parameters().entries())
            mustBeClose(first!.model.parameters()[i]!, p, { rtol: 1e-9, atol: 1e-9 });
        }
    },
  );

law(t, 'gradients that were averaged and clipped before are those of a step with a communicator', async () => {
  const model = modelOf();
  const optimizer = new KFAC(model, { lr: 0.05, refreshEvery: 4 });
  const run = new RanksRun(2, modelOf, (m, communicator) => new KFAC(m, { lr: 0.05, refreshEvery: 4, communicator }));
  for (const { x, y } of batches(11)) {
    optimizer.zeroGrad();
    crossEntropy(model.call(x), y).backward();
    clipGradNorm(model.parameters(), 0.3);
    optimizer.step();
    await run.step(async (m, rank) => {
      crossEntropy(m.call(partsOf(x, [6, 6])[rank]!), partsOf(y, [6, 6])[rank]!).backward();
      await averageGradients(m.parameters(), run.ranks.communicators[rank]!);
      clipGradNorm(m.parameters(), 0.3);
    });
  }
  for (const [i, p] of model.parameters().entries())
    mustBeClose(run.processes[1]!.model.parameters()[i]!, p, { rtol: 1e-9, atol: 1e-9 });
});

/** A parameter with a gradient. */
const weight = (...gradient: number[]) => {
  const p = zeros([gradient.length], { requiresGrad: true });
  p.grad = tensor(gradient);
  return p;
};

law(
  t,
  'parts weigh by their examples; NaN in one process is NaN in all; parameters without a gradient have none',
  async () => {
    const { communicators } = new Ranks(2);
    const parameters = [
      [weight(1, 2), weight(NaN), zeros([1], { requiresGrad: true })],
      [weight(5, 6), weight(1), zeros([1], { requiresGrad: true })],
    ];
    await Promise.all(communicators.map((c, i) => averageGradients(parameters[i]!, c, { examples: i === 0 ? 3 : 1 })));
    for (const [first, second, third] of parameters) {
      assert.deepEqual(first!.grad!.toArray(), [2, 3]);
      assert.ok(Number.isNaN(second!.grad!.item()));
      assert.equal(third!.grad, null);
    }
  },
);

law(t, 'what fails in one process fails in all, and leaves the gradients as they were', async () => {
  const ranks = new Ranks(2);
  const [p, q] = [weight(1, 2), weight(3, 4)];
  const average = (lists: (typeof p)[][]) =>
    Promise.allSettled(ranks.communicators.map((c, i) => averageGradients(lists[i]!, c))).then(all =>
      all.map(one => (one.status === 'rejected' ? String(one.reason) : 'done')),
    );
  const without = zeros([2], { requiresGrad: true });
  const message =
    'Error: averageGradients: parameter 0 has a gradient in process 0 and none in process 1: all processes train the same ' +
    'parameters in a step';
  assert.deepEqual(await average([[p], [without]]), [message, message]);
  for (const fails of [0, 1]) {
    ranks.failsIn = fails;
    assert.deepEqual(await average([[p], [q]]), new Array(2).fill('Error: the line is cut'));
    assert.deepEqual(
      [p.grad!.toArray(), q.grad!.toArray()],
      [
        [1, 2],
        [3, 4],
      ],
    );
  }
  assert.deepEqual(await average([[p], [q]]), ['done', 'done']);
  assert.deepEqual(
    [p.grad!.toArray(), q.grad!.toArray()],
    [
      [2, 3],
      [2, 3],
    ],
  );
});

law(t, 'alone it does nothing, and wrong arguments are errors', () => {
  const p = weight(1, 2);
  const { grad } = p;
  assert.equal(averageGradients([p], alone), undefined);
  assert.deepEqual(p.grad!.toArray(), grad!.toArray());
  const wrong = (run: () => unknown, message: RegExp) => assert.throws(run, message);
  wrong(
    () => averageGradients(p as never, alone),
    /averageGradients: expected parameters to be an iterable of tensors/,
  );
  wrong(() => averageGradients([1] as never, alone), /averageGradients: parameter 0 is no tensor, but 1/);
  wrong(() => averageGradients([p], {} as never), /averageGradients: expected communicator to be a communicator/);
  wrong(
    () => averageGradients([p], alone, { examples: 0 }),
    /averageGradients: expected examples to be a number > 0, got 0/,
  );
  wrong(() => averageGradients([p], alone, { batch: 3 } as never), /there is no option 'batch', only examples/);
});

law(t, 'gradients that change while it waits are an error, and are left as they are', async () => {
  const changes: ((p: ReturnType<typeof weight>) => void)[] = [
    p => {
      p.grad = null;
    },
    p => {
      p.grad = tensor([7, 7]);
    },
    p => p.grad!.scale_(3),
  ];
  for (const change of changes) {
    const { communicators } = new Ranks(2);
    const parameters = [weight(1, 2), weight(3, 4)];
    const open = communicators.map((c, i) => averageGradients([parameters[i]!], c));
    change(parameters[1]!);
    const after = parameters[1]!.grad?.toArray();
    for (const one of await Promise.allSettled(open))
      assert.match(
        one.status === 'rejected' ? String(one.reason) : 'done',
        /^Error: averageGradients: gradients of process 1 changed while it waited/,
      );
    assert.deepEqual(parameters[0]!.grad!.toArray(), [1, 2]);
    assert.deepEqual(parameters[1]!.grad?.toArray(), after);
  }
});

law(t, 'examples whose sum is not finite are an error in all, and no gradient changes', async () => {
  const { communicators } = new Ranks(2);
  const p = weight(1, 2);
  const all = await Promise.allSettled(communicators.map(c => averageGradients([p], c, { examples: 1e308 })));
  for (const one of all)
    assert.match(
      one.status === 'rejected' ? String(one.reason) : 'done',
      /^RangeError: averageGradients: expected a finite sum of the examples of all processes, got 1e\+308 \+ 1e\+308 = Infinity/,
    );
  assert.deepEqual(p.grad!.toArray(), [1, 2]);
});
