// What every optimizer promises. A new one is a new line in a list of cases, here or in its own test.
import assert from 'node:assert/strict';
import {
  Generator,
  loadSafetensors,
  randint,
  randn,
  type StateDict,
  saveSafetensors,
  scope,
  type Tensor,
  zeros,
} from '@otimes/core';
import { crossEntropy, Linear, type Module, Sequential, Tanh } from '@otimes/nn';
import { Adagrad, Adam, AdamW, NAdam, type Optimizer, RMSprop, SGD } from '@otimes/optim';
import type { Test } from 'tap';
import { law } from '../helpers/law.ts';

export type OptimizerCase = { name: string; make: (model: Module) => Optimizer };

export const firstOrder: readonly OptimizerCase[] = [
  { name: 'SGD', make: m => new SGD(m.parameters(), { lr: 0.1 }) },
  { name: 'SGD nesterov', make: m => new SGD(m.parameters(), { lr: 0.05, momentum: 0.9, nesterov: true }) },
  { name: 'Adagrad', make: m => new Adagrad(m.parameters(), { lr: 0.1, lrDecay: 0.1, initialAccumulatorValue: 0.1 }) },
  { name: 'RMSprop', make: m => new RMSprop(m.parameters(), { lr: 0.02 }) },
  { name: 'RMSprop centred', make: m => new RMSprop(m.parameters(), { lr: 0.005, centered: true, momentum: 0.5 }) },
  { name: 'Adam', make: m => new Adam(m.parameters(), { lr: 0.05, weightDecay: 0.01 }) },
  { name: 'Adam amsgrad', make: m => new Adam(m.parameters(), { lr: 0.05, amsgrad: true }) },
  { name: 'AdamW', make: m => new AdamW(m.parameters(), { lr: 0.05 }) },
  { name: 'NAdam', make: m => new NAdam(m.parameters(), { lr: 0.05 }) },
];

/** What is trained: a model that a seed makes, and labelled batches. */
export type Task<M extends Module = Module> = {
  model: (o: { dtype: 'float64'; rng: Generator }) => M;
  batches: readonly { x: Tensor; y: Tensor }[];
};

/** Batches of 6 examples of some shape, in 3 classes. */
export function labelled(shape: readonly number[], seed = 7): Task['batches'] {
  const rng = new Generator(seed);
  return Array.from({ length: 4 }, () => ({
    x: randn([6, ...shape], { dtype: 'float64', rng }),
    y: randint(0, 3, [6], { rng }),
  }));
}

const mlp: Task<Sequential> = {
  model: o => new Sequential(new Linear(5, 4, o), new Tanh(), new Linear(4, 3, o)),
  batches: labelled([5]),
};
const { batches } = mlp;

/** Steps `from` … `to`−1 of a training run; the loss before the last of them. */
async function train(model: Module, optimizer: Optimizer, from: number, to: number, on = batches): Promise<number> {
  let last = Number.NaN;
  for (let i = from; i < to; i++) {
    const { x, y } = on[i % on.length]!;
    optimizer.zeroGrad();
    const loss = crossEntropy(model.call(x), y);
    loss.backward();
    await optimizer.step();
    last = loss.item();
  }
  return last;
}

const plain = (state: StateDict) =>
  Object.fromEntries(
    Object.entries(state).map(([key, x]) => [key, { dtype: x.dtype, shape: [...x.shape], data: [...x.dataSync()] }]),
  );
const expectSame = (actual: StateDict, expected: StateDict): void =>
  assert.deepStrictEqual(plain(actual), plain(expected));
const throughFile = (state: StateDict): StateDict => loadSafetensors(saveSafetensors(state));

/** A model with its optimizer. */
function begin<M extends Module>({ model: build }: Task<M>, make: OptimizerCase['make'], seed = 1) {
  const model = build({ dtype: 'float64', rng: new Generator(seed) });
  return { model, optimizer: make(model) };
}

export function resumptionLaw<M extends Module>(t: Test, { name, make }: OptimizerCase, task: Task<M>): void {
  law(t, `${name}: save, load, go on = the uninterrupted run, bit for bit`, async () => {
    const whole = begin(task, make);
    await train(whole.model, whole.optimizer, 0, 9, task.batches);
    for (const cut of [0, 1, 4, 6]) {
      const first = begin(task, make);
      await train(first.model, first.optimizer, 0, cut, task.batches);
      const second = begin(task, make, 2);
      await train(second.model, second.optimizer, 0, 2, task.batches);
      second.model.loadStateDict(throughFile(first.model.stateDict()));
      second.optimizer.loadStateDict(throughFile(first.optimizer.stateDict()));
      await train(second.model, second.optimizer, cut, 9, task.batches);
      expectSame(second.model.stateDict(), whole.model.stateDict());
      expectSame(second.optimizer.stateDict(), whole.optimizer.stateDict());
    }
  });
}

export function optimizerLaws(t: Test, { name, make }: OptimizerCase): void {
  const start = () => begin(mlp, make);

  resumptionLaw(t, { name, make }, mlp);

  law(t, `${name}: a state dict is a copy, before and after loading`, async () => {
    const { model, optimizer } = start();
    await train(model, optimizer, 0, 3);
    const saved = optimizer.stateDict();
    const before = throughFile(saved);
    optimizer.loadStateDict(saved);
    await train(model, optimizer, 3, 6);
    expectSame(saved, before);
  });

  law(t, `${name}: the learning rate is part of the state`, () => {
    const [a, b] = [start(), start()];
    a.optimizer.lr = 0.375;
    b.optimizer.loadStateDict(a.optimizer.stateDict());
    assert.equal(b.optimizer.lr, 0.375);
  });

  law(t, `${name}: the loss goes down`, async () => {
    const { model, optimizer } = start();
    const before = await train(model, optimizer, 0, 1);
    const after = await train(model, optimizer, 1, 41);
    assert.ok(after < 0.8 * before, `${before} → ${after}`);
  });

  law(t, `${name}: lr = 0 changes nothing`, async () => {
    const { model, optimizer } = start();
    await train(model, optimizer, 0, 2);
    const before = model.stateDict();
    optimizer.lr = 0;
    await train(model, optimizer, 2, 6);
    expectSame(model.stateDict(), before);
  });

  law(t, `${name}: parameters without a gradient stay`, async () => {
    const { model, optimizer } = start();
    await train(model, optimizer, 0, 2);
    const before = plain(model.stateDict());
    optimizer.zeroGrad();
    assert.ok(model.parameters().every(p => p.grad === null));
    await optimizer.step();
    assert.deepStrictEqual(plain(model.stateDict()), before);
    // The first layer alone gets a gradient.
    crossEntropy(model.call(batches[0]!.x), batches[0]!.y).backward();
    for (const p of model.layers[2]!.parameters()) p.grad = null;
    await optimizer.step();
    const after = plain(model.stateDict());
    for (const key of ['0.weight', '0.bias']) assert.notDeepEqual(after[key], before[key]);
    for (const key of ['2.weight', '2.bias']) assert.deepStrictEqual(after[key], before[key]);
  });

  law(t, `${name}: training inside scope() is the same, and the state survives it`, async () => {
    const [a, b] = [start(), start()];
    await train(a.model, a.optimizer, 0, 6);
    for (let i = 0; i < 6; i++) {
      const { x, y } = batches[i % batches.length]!;
      scope(() => {
        b.optimizer.zeroGrad();
        crossEntropy(b.model.call(x), y).backward();
        void b.optimizer.step();
        if (i === 3) b.optimizer.loadStateDict(b.optimizer.stateDict());
      });
    }
    expectSame(b.model.stateDict(), a.model.stateDict());
    expectSame(b.optimizer.stateDict(), a.optimizer.stateDict());
  });

  law(t, `${name}: a wrong state lists all that is wrong and loads nothing`, async () => {
    const { model, optimizer } = start();
    await train(model, optimizer, 0, 4);
    const good = optimizer.stateDict();
    const [missing, ...others] = Object.keys(good);
    const misshapen = others.at(-1)!;
    const bad: StateDict = { ...good, [misshapen]: zeros([2, 7, 3]), stranger: zeros([1]) };
    delete bad[missing!];
    assert.throws(
      () => optimizer.loadStateDict(bad),
      ({ message }: Error) =>
        message.includes(`missing: ${missing}`) &&
        message.includes(`does not fit: ${misshapen}`) &&
        message.includes('float32[2,7,3]') &&
        message.includes('unexpected: stranger'),
    );
    expectSame(optimizer.stateDict(), good);
  });

  law(t, `${name}: every entry of the state is needed`, async () => {
    const { model, optimizer } = start();
    await train(model, optimizer, 0, 4);
    const good = optimizer.stateDict();
    for (const key of Object.keys(good)) {
      const { [key]: _, ...without } = good;
      assert.throws(() => optimizer.loadStateDict(without), /nothing was loaded/, key);
    }
  });

  law(t, `${name}: a model without parameters is an error`, () => {
    assert.throws(() => make(new Sequential(new Tanh())), /expected at least one parameter, got none/);
  });
}
