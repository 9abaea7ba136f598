/** Whole training runs on every device: the recorded ones of Adam and SGD, and what a step reads on the way. */

import { Generator, randint, randn, scope, type Tensor } from '@otimes/core';
import {
  type AnyModule,
  BatchNorm2d,
  Conv2d,
  crossEntropy,
  Flatten,
  Linear,
  MaxPool2d,
  mlp,
  ReLU,
  Sequential,
  TransformerBlock,
} from '@otimes/nn';
import { Adam, SGD } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { DEVICES } from './helpers/devices.ts';
import { instantReadsIn, laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';
import { lossCases } from './suites/losses.ts';
import type { At } from './suites/modules.ts';
import { recordedModels, recordedTrajectories } from './suites/recorded.ts';

const others = DEVICES.filter(device => device !== 'cpu');
const later = laterDevice().device;

// --- recorded runs --------------------------------------------------------------------------------------------------

const recorded = { mlp: 2, conv: 1, attn: 1 };

for (const device of others)
  for (const [name, runs] of Object.entries(recorded)) {
    const model = recordedModels[name as keyof typeof recorded];
    recordedTrajectories(t, { name, runs, model, device, of: ['adam', 'sgd'] });
  }

// --- what a step reads ----------------------------------------------------------------------------------------------

type Net = { make: (at: At) => AnyModule; x: readonly number[] };

const nets: Record<string, Net> = {
  'an MLP': { make: at => mlp([6, 8, 8, 4], at), x: [5, 6] },
  'a CNN with batch norm, pooling': {
    make: at =>
      new Sequential(
        new Conv2d(1, 3, 3, { ...at, padding: 1 }),
        new BatchNorm2d(3, at),
        new ReLU(),
        new MaxPool2d(2),
        new Flatten(),
        new Linear(27, 4, at),
      ),
    x: [5, 1, 6, 6],
  },
  'a transformer with dropout': {
    make: at =>
      new Sequential(
        new TransformerBlock(4, 2, { ...at, dropout: 0.1 }),
        new TransformerBlock(4, 2, { ...at, dropout: 0.1, preNorm: false }),
        new Flatten(),
        new Linear(12, 4, at),
      ),
    x: [5, 3, 4],
  },
};

/** Steps of a run; the losses are still on the device. */
function train({ make, x }: Net, device: string, steps: number, optimizer: 'Adam' | 'SGD'): [AnyModule, Tensor[]] {
  const at: At = { device, dtype: 'float64', rng: new Generator(1) };
  const model = make(at);
  const parameters = model.parameters();
  const rule =
    optimizer === 'Adam' ? new Adam(parameters, { lr: 0.01 }) : new SGD(parameters, { lr: 0.1, momentum: 0.9 });
  const { dtype, ...place } = at;
  const losses = Array.from({ length: steps }, () =>
    scope(() => {
      const input = randn(x, at);
      const labels = randint(0, 4, [x[0]!], place);
      rule.zeroGrad();
      const loss = crossEntropy(model.call(input) as Tensor, labels);
      loss.backward();
      void rule.step();
      return loss.detach();
    }),
  );
  return [model, losses];
}

for (const [name, net] of Object.entries(nets))
  for (const optimizer of ['Adam', 'SGD'] as const)
    law(
      t,
      `${name} learns the same with ${optimizer} on every device, within scopes, read at the end alone`,
      async () => {
        const outcome = async (device: string) => {
          const [model, losses] = train(net, device, 6, optimizer);
          const weights = await Promise.all(model.parameters().map(p => p.data()));
          return [...(await Promise.all(losses.map(loss => loss.number()))), ...weights.flatMap(w => [...w])];
        };
        const expected = await outcome('cpu');
        for (const device of others) mustBeClose(await outcome(device), expected, { rtol: 1e-8, atol: 1e-10 }, device);
      },
    );

t.test('training on a device that is read with await reads nothing at once', async t => {
  const counts: Record<string, number> = {};
  for (const [name, net] of Object.entries(nets))
    for (const optimizer of ['Adam', 'SGD'] as const)
      counts[`${name}, ${optimizer}`] = await instantReadsIn(() => train(net, later, 2, optimizer));
  const at = { device: later, dtype: 'float64', rng: new Generator(1) } as const;
  for (const [name, { loss, target }] of Object.entries(lossCases)) {
    const z = randn([3, 4], { ...at, requiresGrad: true });
    counts[name] = await instantReadsIn(() => loss(z, target(at)).backward());
  }
  for (const [name, count] of Object.entries(counts)) t.comment(`instant reads of ${name}: ${count}`);
  t.same(
    Object.values(counts).filter(count => count !== 0),
    [],
  );
});
