// What every optimizer promises. A new one is a new line in a list of cases, here or in its own test.
import assert from 'node:assert/strict';
import {
  Generator,
  loadSafetensors,
  randint,
  randn,
  readStateDict,
  type StateDict,
  saveSafetensors,
  scope,
  type Tensor,
  zeros,
} from '@otimes/core';
import { readsLater } from '@otimes/core/extend';
import { crossEntropy, Linear, type Module, Sequential, Tanh } from '@otimes/nn';
import {
  Adadelta,
  Adagrad,
  Adam,
  Adamax,
  AdamW,
  EKFAC,
  KFAC,
  Lamb,
  Lion,
  NAdam,
  NAdamW,
  type Optimizer,
  RAdam,
  RMSprop,
  ScheduleFreeAdamW,
  SGD,
  STEVE,
} from '@otimes/optim';
import type { Test } from 'tap';
import { floatOf } from '../helpers/devices.ts';
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
  { name: 'NAdamW', make: m => new NAdamW(m.parameters(), { lr: 0.05, weightDecay: 0.1 }) },
  { name: 'Adadelta', make: m => new Adadelta(m.parameters(), { lr: 10 }) },
  { name: 'Adamax', make: m => new Adamax(m.parameters(), { lr: 0.05 }) },
  { name: 'RAdam', make: m => new RAdam(m.parameters(), { lr: 0.05, betas: [0.9, 0.9] }) },
  { name: 'Lion', make: m => new Lion(m.parameters(), { lr: 0.02, weightDecay: 0.1 }) },
  { name: 'Lamb', make: m => new Lamb(m.parameters(), { lr: 0.05 }) },
  { name: 'ScheduleFreeAdamW', make: m => new ScheduleFreeAdamW(m.parameters(), { lr: 0.05, weightDecay: 0.1 }) },
];

export const kronecker: readonly OptimizerCase[] = [
  { name: 'KFAC', make: m => new KFAC(m, { lr: 0.1, refreshEvery: 3, momentum: 0.5 }) },
  { name: 'EKFAC', make: m => new EKFAC(m, { lr: 0.1, refreshEvery: 3 }) },
  { name: 'STEVE', make: m => new STEVE(m, { lr: 0.05, refreshEvery: 3 }) },
];

/** What is trained: a model that a seed makes, and labelled batches. */
export type Task<M extends Module = Module> = {
  model: (o: { dtype: 'float32' | 'float64'; rng: Generator }) => M;
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
  let loss: Tensor | null = null;
  for (let i = from; i < to; i++) {
    optimizer.zeroGrad();
    loss = lossOf(model, on, i);
    loss.backward();
    await optimizer.step();
  }
  return loss === null ? Number.NaN : loss.number();
}

/** The loss of the model, where that is, on the batch of step i. */
function lossOf(model: Module, on: Task['batches'], i: number): Tensor {
  const { x, y } = on[i % on.length]!;
  const { device, dtype } = model.parameters()[0]!;
  return crossEntropy(model.call(x.astype(dtype).to(device)), y.to(device));
}

const plain = async (state: StateDict) =>
  Object.fromEntries(
    Object.entries(await readStateDict(state)).map(([key, x]) => [
      key,
      { dtype: x.dtype, shape: [...x.shape], data: [...x.dataSync()] },
    ]),
  );
const expectSame = async (actual: StateDict, expected: StateDict): Promise<void> =>
  assert.deepStrictEqual(await plain(actual), await plain(expected));
const throughFile = async (state: StateDict): Promise<StateDict> =>
  loadSafetensors(saveSafetensors(await readStateDict(state)));

/** A state dict that can be loaded: itself, but where it has to be read. */
const readable = async (state: StateDict): Promise<StateDict> =>
  Object.values(state).some(readsLater) ? readStateDict(state) : state;

/** A model with its optimizer. */
function begin<M extends Module>(
  { model: build }: Task<M>,
  make: OptimizerCase['make'],
  { seed = 1, device = 'cpu' } = {},
) {
  const state = build({ dtype: 'float64', rng: new Generator(seed) }).stateDict();
  const dtype = floatOf(device);
  const model = build({ dtype, rng: new Generator(seed) });
  // The same numbers in either dtype.
  model.loadStateDict(Object.fromEntries(Object.entries(state).map(([key, x]) => [key, x.astype(dtype)])));
  model.to(device);
  return { model, optimizer: make(model) };
}

export function resumptionLaw<M extends Module>(
  t: Test,
  { name, make }: OptimizerCase,
  task: Task<M>,
  device = 'cpu',
): void {
  law(t, `${name}: save, load, go on = the uninterrupted run, bit for bit`, async () => {
    const whole = begin(task, make, { device });
    await train(whole.model, whole.optimizer, 0, 9, task.batches);
    for (const cut of [0, 1, 4, 6]) {
      const first = begin(task, make, { device });
      await train(first.model, first.optimizer, 0, cut, task.batches);
      const second = begin(task, make, { device, seed: 2 });
      await train(second.model, second.optimizer, 0, 2, task.batches);
      second.model.loadStateDict(await throughFile(first.model.stateDict()));
      second.optimizer.loadStateDict(await throughFile(first.optimizer.stateDict()));
      await train(second.model, second.optimizer, cut, 9, task.batches);
      await expectSame(second.model.stateDict(), whole.model.stateDict());
      await expectSame(second.optimizer.stateDict(), whole.optimizer.stateDict());
    }
  });
}

/** Laws of an optimizer on a device. */
export function optimizerLaws(t: Test, one: OptimizerCase, device = 'cpu'): void {
  trainingLaws(t, one, device);
  stateLaws(t, one, device);
}

const titleOf = ({ name }: OptimizerCase, device: string) => (device === 'cpu' ? name : `${device}, ${name}`);

/** Those in which the device computes. */
export function trainingLaws(t: Test, one: OptimizerCase, device: string): void {
  const [name, { make }] = [titleOf(one, device), one];
  const start = () => begin(mlp, make, { device });

  resumptionLaw(t, { name, make }, mlp, device);

  law(t, `${name}: a state dict is a copy, before and after loading`, async () => {
    const { model, optimizer } = start();
    await train(model, optimizer, 0, 3);
    const saved = optimizer.stateDict();
    const before = await throughFile(saved);
    optimizer.loadStateDict(await readable(saved));
    await train(model, optimizer, 3, 6);
    await expectSame(saved, before);
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
    await expectSame(model.stateDict(), before);
  });

  law(t, `${name}: parameters without a gradient stay`, async () => {
    const { model, optimizer } = start();
    await train(model, optimizer, 0, 2);
    const before = await plain(model.stateDict());
    optimizer.zeroGrad();
    assert.ok(model.parameters().every(p => p.grad === null));
    await optimizer.step();
    assert.deepStrictEqual(await plain(model.stateDict()), before);
    // The first layer alone gets a gradient.
    lossOf(model, batches, 0).backward();
    for (const p of model.layers[2]!.parameters()) p.grad = null;
    await optimizer.step();
    const after = await plain(model.stateDict());
    for (const key of ['0.weight', '0.bias']) assert.notDeepEqual(after[key], before[key]);
    for (const key of ['2.weight', '2.bias']) assert.deepStrictEqual(after[key], before[key]);
  });

  law(t, `${name}: training inside scope() is the same, and the state survives it`, async () => {
    const [a, b] = [start(), start()];
    await train(a.model, a.optimizer, 0, 6);
    for (let i = 0; i < 6; i++) {
      const isLater = b.model.parameters().some(readsLater);
      let step: unknown;
      scope(() => {
        b.optimizer.zeroGrad();
        lossOf(b.model, batches, i).backward();
        step = b.optimizer.step();
        if (i === 3 && !isLater) b.optimizer.loadStateDict(b.optimizer.stateDict());
      });
      // Where values are read with await it may go on after the scope.
      await step;
      if (i === 3 && isLater) b.optimizer.loadStateDict(await readStateDict(b.optimizer.stateDict()));
    }
    await expectSame(b.model.stateDict(), a.model.stateDict());
    await expectSame(b.optimizer.stateDict(), a.optimizer.stateDict());
  });
}

/** Those of what the host keeps and checks. */
function stateLaws(t: Test, one: OptimizerCase, device: string): void {
  const [name, { make }] = [titleOf(one, device), one];
  const start = () => begin(mlp, make, { device });

  law(t, `${name}: the learning rate is part of the state`, async () => {
    const [a, b] = [start(), start()];
    a.optimizer.lr = 0.375;
    b.optimizer.loadStateDict(await readable(a.optimizer.stateDict()));
    assert.equal(b.optimizer.lr, 0.375);
  });

  law(t, `${name}: a wrong state lists all that is wrong and loads nothing`, async () => {
    const { model, optimizer } = start();
    await train(model, optimizer, 0, 4);
    const good = await readable(optimizer.stateDict());
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
    await expectSame(optimizer.stateDict(), good);
  });

  law(t, `${name}: every entry of the state is needed`, async () => {
    const { model, optimizer } = start();
    await train(model, optimizer, 0, 4);
    const good = await readable(optimizer.stateDict());
    for (const key of Object.keys(good)) {
      const { [key]: _, ...without } = good;
      assert.throws(() => optimizer.loadStateDict(without), /nothing was loaded/, key);
    }
  });

  law(t, `${name}: a model without parameters is an error`, () => {
    assert.throws(() => make(new Sequential(new Tanh())), /expected at least one parameter, got none/);
  });
}
