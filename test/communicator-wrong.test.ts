// Communicators that do not do what they must, and errors that have no text.

import assert from 'node:assert/strict';
import { Generator, randn, type Tensor } from '@otimes/core';
import { crossEntropy } from '@otimes/nn';
import { averageGradients, KFAC, STEVE } from '@otimes/optim';
import { type Communicator, CurvatureEstimate } from '@otimes/optim/curvature';
import t from 'tap';
import { bitsOf, labels, nets } from './helpers/family.ts';
import { law } from './helpers/law.ts';
import { Ranks } from './helpers/ranks.ts';

const modelOf = () => nets.linear!.make({ dtype: 'float64', rng: new Generator(3) });
type Model = ReturnType<typeof modelOf>;

/** What each user of a communicator does once with it. */
const uses: Record<string, (m: Model, communicator: Communicator) => () => void | Promise<void>> = {
  KFAC: (m, communicator) => {
    const optimizer = new KFAC(m, { communicator });
    return () => optimizer.step();
  },
  STEVE: (m, communicator) => {
    const optimizer = new STEVE(m, { communicator });
    return () => optimizer.step();
  },
  CurvatureEstimate: (m, communicator) => {
    const curvature = new CurvatureEstimate(m, { communicator });
    return () => curvature.add();
  },
  averageGradients: (m, communicator) => () => averageGradients(m.parameters(), communicator),
};

/** What two processes throw that do this with such communicators, and whether their models are what they were. */
async function outcome(use: (typeof uses)[string], wrong: (c: Communicator) => Communicator) {
  const ranks = new Ranks(2);
  const processes = ranks.communicators.map(communicator => {
    const model = modelOf();
    const run = use(model, wrong(communicator));
    const rng = new Generator(communicator.rank);
    crossEntropy(model.call(randn([6, 5], { dtype: 'float64', rng })), labels(rng, 6)).backward();
    return { model, run };
  });
  const all = await Promise.allSettled(processes.map(async ({ run }) => run()));
  const before = bitsOf(modelOf().stateDict());
  for (const { model } of processes) assert.equal(bitsOf(model.stateDict()), before);
  return all.map(one => (one.status === 'rejected' ? String(one.reason) : 'done'));
}

const wrongSums: Record<string, [wrong: (c: Communicator) => Communicator, message: RegExp]> = {
  'that averages': [
    c => ({
      ...c,
      sum: async (tensors: readonly Tensor[]) => {
        await c.sum(tensors);
        for (const x of tensors) x.scale_(0.5);
      },
    }),
    /^Error: \w+: sum\(\) of the communicator must add in place, .*: the row of process 0 came back as 0\.5 times what it told/,
  ],
  'that does nothing': [
    c => ({ ...c, sum: () => {} }),
    /^Error: \w+: sum\(\) of the communicator must add in place, .*: the row of process [01] came back as 0 times what it told/,
  ],
  'that returns new tensors': [
    c => ({
      ...c,
      sum: async (tensors: readonly Tensor[]) => {
        await c.sum(tensors.map(x => x.clone()));
      },
    }),
    /^Error: \w+: sum\(\) of the communicator must add in place, .*: the row of process [01] came back as 0 times what it told/,
  ],
};
for (const [what, [wrong, message]] of Object.entries(wrongSums))
  law(t, `a sum ${what} is an error, and changes nothing`, async () => {
    for (const [name, use] of Object.entries(uses))
      for (const error of await outcome(use, wrong)) assert.match(error, message, name);
  });

law(t, 'a sum that rounds tables is an error', async () => {
  const rounding = (c: Communicator): Communicator => ({
    ...c,
    sum: async tensors => {
      for (const x of tensors) x.copy_(x.astype('float32').astype(x.dtype));
      await c.sum(tensors);
    },
  });
  for (const [rank, error] of (await outcome(uses.KFAC!, rounding)).entries())
    assert.match(
      error,
      new RegExp(`of the row of process ${rank}, 0\\.01 came back as 0\\.00999\\d+\\. Tables are float64`),
    );
});

law(t, 'a broadcast that does nothing is an error in those that wait for a basis, or for an error', async () => {
  const silent = (c: Communicator): Communicator => ({ ...c, broadcast: () => {} });
  // Each has a block whose basis it wants from the other.
  const message = (from: number) =>
    `Error: broadcast() of the communicator must replace tensors in place: a mark of process ${from}, 1, came as 0`;
  assert.deepEqual(await outcome(uses.KFAC!, silent), [message(1), message(0)]);
  const failing = (m: Model, communicator: Communicator) => {
    const optimizer = new KFAC(m, { communicator });
    return () => {
      if (communicator.rank === 1) m.parameters()[1]!.grad = null;
      return optimizer.step();
    };
  };
  const [first, second] = await outcome(failing, silent);
  assert.equal(first, message(1));
  assert.match(second!, /^Error: process 1 of 2: KFAC: linear '0' has gradients for some/);
});

law(t, 'whatever is thrown in one process reaches all', async () => {
  const thrown: [unknown, string][] = [
    [undefined, 'Error: process 1 of 2: undefined'],
    [Symbol('s'), 'Error: process 1 of 2: Symbol(s)'],
    [Object.create(null), 'Error: process 1 of 2: it threw something that has no text'],
    [
      {
        toString() {
          throw new Error('no');
        },
      },
      'Error: process 1 of 2: it threw something that has no text',
    ],
    [Object.assign(new RangeError('x'), { message: 42 }), 'RangeError: process 1 of 2: 42'],
  ];
  for (const [value, message] of thrown) {
    const use = (m: Model, communicator: Communicator) => {
      const eigensolver = () => {
        throw value;
      };
      const optimizer = new KFAC(m, { communicator, ...(communicator.rank === 1 && { eigensolver }) });
      return () => optimizer.step();
    };
    assert.deepEqual(await outcome(use, c => c), [message, message]);
  }
});
