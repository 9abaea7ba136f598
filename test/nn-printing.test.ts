// How models, optimizers and data look, and the summary of a model.

import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import { defaultGenerator, Generator, ones, randn, type Tensor, zeros } from '@otimes/core';
import { DataLoader, TensorDataset } from '@otimes/data';
import {
  BatchNorm2d,
  Conv2d,
  Dropout,
  Embedding,
  Linear,
  Module,
  mlp,
  Parameter,
  Sequential,
  summary,
} from '@otimes/nn';
import { Adam, Schedule, stepLr } from '@otimes/optim';
import t from 'tap';
import { law } from './helpers/law.ts';
import { holding, same, x } from './helpers/modules.ts';

const float64 = { dtype: 'float64' } as const;

law(t, 'a model prints as its tree, in the console, in templates and in JSON', () => {
  const model = mlp([4, 3, 2], { dropout: 0.5 });
  const tree = `MLP(
  (layers): Sequential(
    (0): Linear(weight [3, 4], bias [3]) 15 parameters
    (1): ReLU()
    (2): Dropout(p 0.5)
    (3): Linear(weight [2, 3], bias [2]) 8 parameters
  )
) 23 parameters`;
  assert.equal(String(model), tree);
  assert.equal(inspect(model), tree);
  assert.equal(JSON.parse(JSON.stringify({ model })).model, tree);
  const shared = new Linear(2, 2);
  assert.match(String(new Sequential(shared, shared)), /\) 6 parameters$/);
  assert.equal(String(new Conv2d(1, 2, 3)), inspect(new Conv2d(1, 2, 3)));
  assert.match(String(new Conv2d(1, 2, 3)), /kernel \[3, 3\], stride \[1, 1\].* groups 1\) 20 parameters/);
  const child: { parent?: Module } & Module = new Sequential();
  const parent = holding({ child });
  child.parent = parent;
  assert.match(String(parent), /\(field\.child\): Sequential\(\n {4}\(parent\): …/);
  assert.match(String(new Parameter(ones([2]))), /^tensor\(\[1, 1\], float32\[2\], requiresGrad\)$/);
});

law(t, 'optimizers, schedules, datasets, loaders and generators print what they are', () => {
  const model = mlp([2, 1]);
  const adam = new Adam(model.parameters(), { lr: 0.01 });
  assert.equal(
    inspect(adam),
    'Adam(lr 0.01, betas [0.9, 0.999], eps 1e-8, weightDecay 0, amsgrad false)\n  3 numbers in 2 parameters',
  );
  assert.equal(inspect(new Schedule(adam, stepLr({ stepSize: 2 }))), 'Schedule(step 0, lr 0.01)');
  const dataset = new TensorDataset(x(5, 2), zeros([5], { dtype: 'int32' }));
  assert.equal(inspect(dataset), 'TensorDataset(5 samples [float32[2], int32[]])');
  assert.equal(
    `${new DataLoader(dataset, { batchSize: 2 })}`,
    'DataLoader(TensorDataset(5 samples [float32[2], int32[]]), batchSize 2, shuffle false: 3 batches)',
  );
  assert.match(inspect(new Generator(1)), /^Generator\(state -?\d+, /);
  assert.doesNotThrow(() => JSON.stringify({ adam, dataset, model }));
});

law(t, 'summary: a table of 100 columns, and nothing has changed after it', () => {
  class Noisy extends Module {
    norm = new BatchNorm2d(2);
    drop = new Dropout(0.5);
    seen = new Parameter(ones([2, 1, 1]), { requiresGrad: false });
    override forward(x: Tensor): Tensor {
      return this.drop.call(this.norm.call(x.mul(this.seen).add(randn([1]))));
    }
  }
  const model = new Noisy();
  model.drop.eval();
  let hooks = 0;
  model.norm.onForward(() => void hooks++);
  const [state, rng] = [model.stateDict(), defaultGenerator().getState()];
  assert.equal(
    summary(model, [3, 2, 4, 4]),
    `Path     Layer        Input         Output        Parameters  Trained
─────────────────────────────────────────────────────────────────────
(model)  Noisy        [3, 2, 4, 4]  [3, 2, 4, 4]           2  no
norm     BatchNorm2d  [3, 2, 4, 4]  [3, 2, 4, 4]           4  yes
drop     Dropout      [3, 2, 4, 4]  [3, 2, 4, 4]
─────────────────────────────────────────────────────────────────────
6 parameters, 4 of them trained, 24 bytes`,
  );
  assert.deepEqual([model.training, model.norm.training, model.drop.training, hooks], [true, true, false, 0]);
  assert.deepEqual(defaultGenerator().getState(), rng);
  same(Object.values(model.stateDict()), Object.values(state));
  assert.throws(() => summary(model, [3, 5, 4, 4]), /./);
  assert.deepEqual([model.training, model.norm.training, model.drop.training], [true, true, false]);
});

law(t, 'summary takes tensors, several inputs and lines that are too long', () => {
  class Pair extends Module<[a: Tensor, b: Tensor], Tensor[]> {
    aVeryLongNameOfAFieldThatIsHardToFitIntoATable = new Embedding(5, 2);
    unused = new Linear(1, 1);
    override forward(a: Tensor, b: Tensor): Tensor[] {
      return [this.aVeryLongNameOfAFieldThatIsHardToFitIntoATable.call(a), b, b, b, b, b];
    }
  }
  const text = summary(new Pair(), zeros([2], { dtype: 'int32' }), [1000, 1000]);
  assert.ok(
    text.split('\n').every(line => line.length <= 100),
    text,
  );
  assert.match(text, /aVeryLong.*… +Embedding +\[2\] +\[2, 2\] +10 +yes\n/);
  assert.match(text, /unused +Linear +not called +2 +yes\n/);
  assert.throws(() => summary(new Linear(1, 1)), /summary: expected an input/);
  assert.equal(
    summary(new Linear(1, 1, float64), [1, 1])
      .split('\n')
      .at(-1),
    '2 parameters, 16 bytes',
  );
});
