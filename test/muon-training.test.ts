// Muon trains models: on every device, all of a step or nothing, and which parameters are matrices.
import assert from 'node:assert/strict';
import { Generator, randint, randn, type StateDict, type Tensor, tensor, zeros } from '@otimes/core';
import {
  Conv2d,
  crossEntropy,
  Embedding,
  Flatten,
  Linear,
  Module,
  MultiHeadAttention,
  Sequential,
  Tanh,
} from '@otimes/nn';
import { type Direction, Muon, type MuonOptions, SGD } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { DEVICES } from './helpers/devices.ts';
import { instantReadsIn } from './helpers/later.ts';
import { law } from './helpers/law.ts';

const dtype = 'float64';

// --- devices ----------------------------------------------------------------------------------------------------------------

const net = (device: string, type: 'float32' | 'float64', seed = 1) => {
  const o = { dtype: type, rng: new Generator(seed) } as const;
  return new Sequential(new Conv2d(1, 3, 2, o), new Tanh(), new Flatten(), new Linear(12, 3, o)).to(device);
};

function batchOn(device: string, type: 'float32' | 'float64', i: number) {
  const rng = new Generator(100 + i);
  return { x: randn([5, 1, 3, 3], { dtype: type, rng }).to(device), y: randint(0, 3, [5], { rng }).to(device) };
}

async function train(model: Module, optimizer: Muon, from: number, to: number): Promise<void> {
  const { device, dtype } = model.parameters()[0]!;
  for (let i = from; i < to; i++) {
    const { x, y } = batchOn(device, dtype as 'float64', i);
    optimizer.zeroGrad();
    crossEntropy(model.call(x), y).backward();
    await optimizer.step();
  }
}

/** The elements of all entries. */
async function readAll(state: StateDict): Promise<Record<string, number[]>> {
  const all: Record<string, number[]> = {};
  for (const [key, x] of Object.entries(state)) all[key] = [...(await x.data())];
  return all;
}

/** A copy on 'cpu', for saving. */
async function saved(state: StateDict): Promise<StateDict> {
  const copy: StateDict = {};
  for (const [key, x] of Object.entries(state)) copy[key] = tensor(await x.data(), { dtype: x.dtype }).reshape(x.shape);
  return copy;
}

for (const type of ['float32', 'float64'] as const) {
  law(t, `${type}: the same training on every device, without a read`, async () => {
    const expected = net('cpu', type);
    await train(expected, new Muon(expected), 0, 4);
    for (const device of DEVICES) {
      const model = net(device, type);
      const optimizer = new Muon(model);
      const reads = await instantReadsIn(() => train(model, optimizer, 0, 4));
      assert.equal(reads, 0, device);
      const [found, wanted] = [await readAll(model.stateDict()), await readAll(expected.stateDict())];
      for (const [key, values] of Object.entries(wanted))
        mustBeClose(found[key]!, values, { rtol: 0, atol: type === 'float32' ? 1e-5 : 1e-13 }, `${key} on ${device}`);
    }
  });

  for (const device of DEVICES)
    law(t, `${type} on '${device}': save, load, go on = the uninterrupted run, bit for bit`, async () => {
      const whole = net(device, type);
      const wholeOptimizer = new Muon(whole);
      await train(whole, wholeOptimizer, 0, 5);
      const [first, second] = [net(device, type), net(device, type, 2)];
      const [before, after] = [new Muon(first), new Muon(second)];
      await train(first, before, 0, 2);
      second.loadStateDict(await saved(first.stateDict()));
      after.loadStateDict(await saved(before.stateDict()));
      await train(second, after, 2, 5);
      assert.deepEqual(await readAll(second.stateDict()), await readAll(whole.stateDict()));
      assert.deepEqual(await readAll(after.stateDict()), await readAll(wholeOptimizer.stateDict()));
    });
}

// --- all or nothing ---------------------------------------------------------------------------------------------------------

for (const device of DEVICES)
  for (const where of ['0.weight', '3.weight', '3.bias'])
    for (const bad of [Number.NaN, Infinity])
      law(t, `a gradient with ${bad} in ${where} is an error on '${device}', and nothing has changed`, async () => {
        const model = net(device, dtype);
        const optimizer = new Muon(model, { weightDecay: 0.1 });
        await train(model, optimizer, 0, 2);
        const before = { model: await readAll(model.stateDict()), optimizer: await readAll(optimizer.stateDict()) };
        const { x, y } = batchOn(device, dtype, 2);
        optimizer.zeroGrad();
        crossEntropy(model.call(x), y).backward();
        const p = model.namedParameters().get(where)!;
        const spoilt = zeros([p.size], { dtype, device });
        spoilt.narrow(0, p.size - 1, 1).copy_(tensor([bad], { dtype }).to(device));
        p.grad = p.grad!.add(spoilt.reshape(p.shape));
        const error = {
          name: 'RangeError',
          message:
            `Muon: the gradient of '${where}' has NaN or infinite elements; no parameter was changed. ` +
            `The first of them is ${bad}, at position ${p.size - 1}. ` +
            'Look for a diverging loss or bad input in the last batch',
        };
        await assert.rejects(async () => {
          optimizer.step();
          await p.data();
        }, error);
        assert.deepEqual(await readAll(model.stateDict()), before.model);
        const { optimizer: state } = before;
        const now = await readAll(optimizer.stateDict());
        for (const [key, values] of Object.entries(state)) assert.deepEqual(now[key], values, key);
      });

law(t, 'a rest optimizer that fails is an error, and nothing has changed', async () => {
  const model = net('cpu', dtype);
  class Failing extends SGD {
    override step(): void {
      super.step();
      throw new Error('no');
    }
  }
  const optimizer = new Muon(model, { rest: p => new Failing(p, { lr: 1, momentum: 0.5 }) });
  const before = { model: await readAll(model.stateDict()), optimizer: await readAll(optimizer.stateDict()) };
  await assert.rejects(train(model, optimizer, 0, 1), { message: 'no' });
  assert.deepEqual(await readAll(model.stateDict()), before.model);
  assert.deepEqual(await readAll(optimizer.stateDict()), before.optimizer);
});

/** What `direction` of a class of the program returns for the second matrix of `net`, float64[3,12], and what the error says of it. */
const like = (o: { shape?: number[]; dtype?: 'float32' | 'float64'; device: string }) =>
  zeros(o.shape ?? [3, 12], { dtype: o.dtype ?? dtype, device: o.device });
const wrong: Record<string, (device: string) => readonly [answer: unknown, says: RegExp]> = {
  'is null': () => [null, /got null;/],
  'is undefined': () => [undefined, /got undefined;/],
  'has no slots': device => [{ update: like({ device }) }, /got \{ update \};/],
  'has too few slots': device => [{ update: like({ device }), slots: [] }, /slots \[\];/],
  'has an update that is no tensor': device => [{ update: 1, slots: [like({ device })] }, /got update 1, slots/],
  'has an update of another shape': device => [
    { update: like({ device, shape: [12, 3] }), slots: [like({ device })] },
    /got update float64\[12,3\] on/,
  ],
  'has a slot of another shape': device => [
    { update: like({ device }), slots: [like({ device, shape: [1, 1] })] },
    /slots \[float64\[1,1\] on/,
  ],
  'has a slot of another dtype': device => [
    { update: like({ device }), slots: [like({ device, dtype: 'float32' })] },
    /slots \[float32\[3,12\] on/,
  ],
  'has an update on another device': device => [
    { update: like({ device: device === 'cpu' ? 'reference' : 'cpu' }), slots: [like({ device })] },
    /got update float64\[3,12\] on '(cpu|reference)'/,
  ],
  'has an update that is not finite': device => [
    { update: like({ device }).add(Number.NaN), slots: [like({ device })] },
    /^Mine: the update of '3.weight' has NaN or infinite elements; no parameter was changed\./,
  ],
  'has a slot that is not finite': device => [
    { update: like({ device }), slots: [like({ device }).add(Infinity)] },
    /^Mine: the new m of '3.weight' has NaN or infinite elements; no parameter was changed\./,
  ],
};

for (const device of DEVICES)
  for (const [what, make] of Object.entries(wrong))
    law(t, `an answer of direction that ${what} is an error on '${device}', and nothing has changed`, async () => {
      const [answer, says] = make(device);
      let isWrong = false;
      class Mine extends Muon {
        protected override direction(g: Tensor, slots: readonly Tensor[]): Direction {
          return isWrong && g.shape[1] === 12 ? (answer as Direction) : super.direction(g, slots);
        }
      }
      const model = net(device, dtype);
      const optimizer = new Mine(model, { weightDecay: 0.1 });
      await train(model, optimizer, 0, 2);
      const before = { model: await readAll(model.stateDict()), optimizer: await readAll(optimizer.stateDict()) };
      isWrong = true;
      await assert.rejects(
        async () => {
          await train(model, optimizer, 2, 3);
          await model.parameters()[0]!.data();
        },
        (error: Error) => {
          assert.match(error.message, says);
          assert.match(error.message, /^Mine: (expected direction\(\) of|the (update|new m) of) '3.weight'/);
          return true;
        },
      );
      assert.deepEqual(await readAll(model.stateDict()), before.model);
      const now = await readAll(optimizer.stateDict());
      for (const [key, values] of Object.entries(before.optimizer)) assert.deepEqual(now[key], values, key);
      isWrong = false;
      await train(model, optimizer, 2, 3);
    });

// --- who updates what -------------------------------------------------------------------------------------------------------

class Language extends Module {
  readonly embed: Embedding;
  readonly attention: MultiHeadAttention;
  readonly head: Linear;
  constructor() {
    super();
    const o = { dtype, rng: new Generator(1) } as const;
    this.embed = new Embedding(6, 4, o);
    this.attention = new MultiHeadAttention(4, 2, o);
    this.head = new Linear(4, 6, o);
  }
  override forward(x: Tensor): Tensor {
    return this.head.call(this.attention.call(this.embed.call(x)));
  }
}

t.test('weights of known layers are matrices, all else is the rest', t => {
  const rowsOf = (o: MuonOptions) =>
    Object.fromEntries(new Muon(new Language(), o).describe().map(({ path, collector }) => [path, collector]));
  t.match(rowsOf({}), {
    'embed.weight': 'rest',
    'attention.q.weight': 'attention',
    'attention.q.bias': 'rest',
    'attention.o.weight': 'attention',
    'head.weight': 'linear',
    'head.bias': 'rest',
  });
  t.match(rowsOf({ overrides: { head: { skip: true } } }), {
    'head.weight': 'rest',
    'attention.k.weight': 'attention',
  });
  t.match(rowsOf({ overrides: { attention: { skip: true }, 'attention.v.weight': { skip: false } } }), {
    'attention.k.weight': 'rest',
    'attention.v.weight': 'attention',
  });
  t.match(String(new Muon(new Linear(3, 2))), /^Muon\(lr 0.02\) of Linear\n.*\nweight +linear +2 × 3\nbias +rest +2$/);
  t.end();
});

law(t, 'lr of overrides is in proportion to that of the optimizer, and so is that of the rest', () => {
  /** What a step at some lr changes, of the same model and gradients. */
  const moved = (o: MuonOptions, lr: number) => {
    const model = net('cpu', dtype);
    const optimizer = new Muon(model, { ...o, rest: p => new SGD(p, { lr: 0.01 }) });
    optimizer.lr = lr;
    const before = model.stateDict();
    const rng = new Generator(3);
    for (const p of model.parameters()) p.grad = randn(p.shape, { dtype, rng });
    optimizer.step();
    return (key: string) => model.stateDict()[key]!.sub(before[key]!);
  };
  const [plain, own] = [moved({ lr: 0.1 }, 0.1), moved({ lr: 0.1, overrides: { '3': { lr: 0.2 } } }, 0.05)];
  mustBeClose(own('3.weight'), plain('3.weight'), { atol: 1e-15 });
  for (const key of ['0.weight', '0.bias', '3.bias']) mustBeClose(own(key), plain(key).mul(0.5), { atol: 1e-15 });
});

t.test('errors', async t => {
  t.throws(() => new Muon(new Embedding(3, 4)), {
    message:
      'Muon: the model has no layer with a weight matrix that a collector knows, so the rest optimizer would train everything: ' +
      'use that alone, AdamW say',
  });
  t.throws(
    () => new Muon(new Linear(3, 4), { overrides: { '': { skip: true } } }),
    /^Muon: overrides skip all matrices/,
  );
  t.throws(() => new Muon(net('cpu', dtype), { overrides: { '2': { lr: 1 } } }), {
    message: "Muon: overrides: there is no block at or below '2', only '0.weight', '3.weight'",
  });
  t.throws(
    () => new Muon(net('cpu', dtype), { overrides: { '3': { sharing: 'expand' } as object } }),
    /there is no option 'sharing'/,
  );
  t.throws(() => new Muon(net('cpu', dtype), { momentum: 1 }), /Muon: expected momentum in \[0, 1\), got 1/);
  t.throws(() => new Muon(net('cpu', dtype), { steps: 0 }), /Muon: expected steps to be/);
  t.throws(() => new Muon(net('cpu', dtype), { steps: 1e9 }), {
    name: 'RangeError',
    message: 'Muon: expected steps to be an integer from 1 to 100, got 1000000000',
  });
  t.throws(() => new Muon(new Tanh()), {
    message: 'Muon: expected at least one parameter, got none: the model has no weight matrix to train',
  });
  t.throws(() => new Muon(net('cpu', dtype).parameters() as never), /it takes the model itself, not its parameters/);
  const model = net('cpu', dtype);
  const optimizer = new Muon(model);
  model.to('reference');
  await t.rejects(
    train(model, optimizer, 0, 1),
    /the model moved to another device.*: make the optimizer anew, after model\.to/,
  );
  const frozen = net('cpu', dtype);
  frozen.namedParameters().get('0.weight')!.requiresGrad = false;
  const made = new Muon(frozen);
  frozen.namedParameters().get('0.weight')!.requiresGrad = true;
  await t.rejects(train(frozen, made, 0, 1), /'0.weight' gets a gradient now, but was frozen/);
  const tied = new Language();
  Object.assign(tied.head, { weight: tied.embed.weight });
  t.notOk(
    new Muon(tied).describe().some(({ path, collector }) => collector !== 'rest' && /embed|head/.test(path)),
    'tied weights are left to rest',
  );
});
