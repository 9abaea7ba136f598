/** Checkpoints: a run goes on bit for bit, from one file that is whole at any moment, and loads all or nothing. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  defaultGenerator,
  type FormatError,
  Generator,
  loadSafetensors,
  manualSeed,
  ones,
  packCheckpoint,
  rand,
  randn,
  type StateDict,
  saveSafetensors,
  type Tensor,
  tensor,
  unpackCheckpoint,
  zeros,
} from '@otimes/core';
import { loadCheckpoint, save, saveCheckpoint } from '@otimes/core/node';
import { DataLoader, TensorDataset } from '@otimes/data';
import { BatchNorm2d, crossEntropy, Dropout, Linear, ReLU, Sequential } from '@otimes/nn';
import { Adam, cosineLr, type Optimizer, Schedule, SGD, STEVE } from '@otimes/optim';
import t from 'tap';
import { laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';
import { startNode } from './helpers/program.ts';

const folder = mkdtempSync(join(tmpdir(), 'otimes-checkpoint-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
laterDevice();

const net = (device = 'cpu', seed = 1) => {
  const at = { device, rng: new Generator(seed) };
  return new Sequential(new Linear(6, 8, at), new ReLU(), new Linear(8, 3, at));
};

const OPTIMIZERS: Record<string, (m: Sequential) => Optimizer> = {
  Adam: m => new Adam(m.parameters(), { lr: 0.02 }),
  STEVE: m => new STEVE(m, { lr: 0.02, refreshEvery: 3 }),
};

/** A run with everything that has a state: shuffled batches, dropout, noise of two generators, a schedule. */
class Run {
  readonly noise: Generator;
  readonly model: Sequential;
  readonly optimizer: Optimizer;
  readonly schedule: Schedule;
  readonly loader: DataLoader<[Tensor, Tensor]>;
  readonly losses: number[] = [];
  epoch = 0;

  constructor(make: (m: Sequential) => Optimizer, seed: number) {
    manualSeed(seed);
    const rng = new Generator(seed);
    this.noise = new Generator(seed + 1);
    this.model = new Sequential(new Linear(6, 8, { rng }), new ReLU(), new Dropout(0.2), new Linear(8, 3, { rng }));
    this.optimizer = make(this.model);
    this.schedule = new Schedule(this.optimizer, cosineLr({ tMax: 30 }));
    const data = new TensorDataset(randn([20, 6], { rng: new Generator(7) }), labels(20));
    this.loader = new DataLoader(data, { batchSize: 4, shuffle: true, rng });
  }

  parts() {
    const { model, optimizer, schedule, loader, noise, epoch, losses } = this;
    return { model, optimizer, schedule, loader, generators: { noise }, epoch, best: Infinity, losses };
  }

  /** Trains until so many losses are there, and then calls `end` in the middle of the epoch. */
  async until(count: number, end?: () => Promise<void>): Promise<this> {
    while (this.losses.length < count) {
      for await (const [x, y] of this.loader) {
        this.optimizer.zeroGrad();
        const noisy = x!.add(randn(x!.shape, { rng: this.noise }).mul(0.1)).add(rand([]).mul(0.01));
        const loss = crossEntropy(this.model.call(noisy), y!);
        loss.backward();
        await this.optimizer.step();
        this.schedule.step();
        this.losses.push(loss.item());
        if (this.losses.length < count) continue;
        await end?.();
        return this;
      }
      this.epoch++;
    }
    return this;
  }
}

/** The numbers of a state. */
const numbersIn = (m: Sequential) => Object.entries(m.stateDict()).map(([name, x]) => [name, x.toArray()]);

const labels = (n: number) =>
  tensor(
    Array.from({ length: n }, (_, i) => i % 3, 'int32'),
    { dtype: 'int32' },
  );

for (const [name, make] of Object.entries(OPTIMIZERS))
  law(t, `${name}: a run from a checkpoint goes on as the uninterrupted one, bit for bit`, async () => {
    const whole = await new Run(make, 3).until(17);
    for (const cut of [1, 5, 8]) {
      const path = join(folder, `${name}-${cut}`);
      const first = new Run(make, 3);
      await first.until(cut, () => saveCheckpoint(path, first.parts()));
      // It is another model, which has moved.
      const second = await new Run(make, 99).until(2);
      const { epoch, best, losses } = await loadCheckpoint(path, second.parts());
      assert.equal(best, Infinity);
      second.epoch = epoch;
      second.losses.splice(0, Infinity, ...losses);
      await second.until(17);
      assert.deepEqual(second.losses, whole.losses, `after ${cut}`);
      assert.deepEqual(numbersIn(second.model), numbersIn(whole.model));
    }
  });

law(
  t,
  'values come back as they are: numbers beyond JSON, names of all kinds, lists, records and tensors',
  async () => {
    const values = {
      epoch: 3,
      numbers: [Number.NaN, Infinity, -Infinity, -0, 1e-300],
      'a/b~c': { '': undefined, __proto: null, text: 'ü/~', on: true },
      list: [[], {}, [1, [2]]],
    };
    const x = tensor([1, 2, 3], { dtype: 'float64' });
    const { x: back, ...rest } = await unpackCheckpoint(await packCheckpoint({ ...values, x } as never));
    assert.deepEqual(rest, { ...values, 'a/b~c': { __proto: null, text: 'ü/~', on: true } });
    assert.ok(Object.is(rest.numbers[3], -0));
    assert.deepEqual([back.dtype, back.toArray()], ['float64', [1, 2, 3]]);
  },
);

law(t, 'states are those at the call: training may go on before the file is there', async () => {
  for (const device of ['cpu', 'later']) {
    const model = net(device);
    const expected = await (await model.parameters()[0]!.cpu()).array();
    const packing = packCheckpoint({ model });
    const optimizer = new SGD(model.parameters(), { lr: 1 });
    model
      .call(ones([2, 6], { device }))
      .sum()
      .backward();
    await optimizer.step();
    const other = net('cpu', 5);
    await unpackCheckpoint(await packing, { model: other });
    assert.deepEqual(other.parameters()[0]!.toArray(), expected, device);
  }
});

law(t, "parts on a device that is read with await: saved there, loaded on 'cpu', and the other way round", async () => {
  for (const [from, to] of [
    ['later', 'cpu'],
    ['cpu', 'later'],
  ] as const) {
    const [a, b] = [net(from, 1), net(to, 2)];
    const [first, second] = [a, b].map(m => new Adam(m.parameters(), { lr: 0.1 }));
    a.call(ones([2, 6], { device: from }))
      .sum()
      .backward();
    await first!.step();
    await unpackCheckpoint(await packCheckpoint({ model: a, optimizer: first! }), { model: b, optimizer: second! });
    const values = (m: Sequential) => Promise.all(m.parameters().map(async p => [...(await p.data())]));
    assert.deepEqual(await values(b), await values(a), `${from} to ${to}`);
  }
});

law(
  t,
  'all or nothing: whatever is missing, of another kind, misshapen or refused, every part stays as it was',
  async () => {
    const model = net();
    const optimizer = new STEVE(model, { lr: 0.1 });
    crossEntropy(model.call(randn([8, 6])), labels(8)).backward();
    await optimizer.step();
    const rng = new Generator(4);
    const refusing = { stateDict: (): StateDict => ({ x: zeros([1]) }), loadStateDict: () => assert.fail('no') };
    const bytes = await packCheckpoint({ model, optimizer, rng, refusing, list: [new Generator(1), new Generator(2)] });
    const narrow = new Sequential(new Linear(6, 5), new ReLU(), new Linear(5, 3));
    const other = net('cpu', 8);
    const late = new Schedule(new SGD(other.parameters(), { lr: 0.1 }), cosineLr({ tMax: 3 }));
    const cases: [object, RegExp][] = [
      [
        { optimizer: new STEVE(other, { lr: 0.2 }), model: narrow },
        /'model' refuses its state, nothing was loaded\n.*0\.weight/s,
      ],
      [
        { model: other, schedule: late },
        /nothing was loaded\n {2}'schedule' is a state, and the checkpoint has nothing there/,
      ],
      [
        { model: other, optimizer: new Generator(3) },
        /'optimizer' is a generator, and the checkpoint has a state there/,
      ],
      [{ model: other, list: [new Generator(1)] }, /'list' has 1 entries, and the checkpoint 2/],
      [
        { model: other, optimizer: new Adam(other.parameters()), rng },
        /'optimizer' refuses its state, nothing was loaded/,
      ],
      [{ rng, model: other, refusing }, /'refusing' could not be put back/],
    ];
    manualSeed(5);
    const state = () => JSON.stringify([other, narrow].map(numbersIn));
    for (const [parts, message] of cases) {
      const own = new Generator(77);
      const given = 'rng' in parts ? { ...parts, rng: own } : parts;
      const before = [state(), String(own), String(defaultGenerator())];
      await assert.rejects(unpackCheckpoint(bytes, given as never), message);
      assert.deepEqual([state(), String(own), String(defaultGenerator())], before, String(message));
    }
  },
);

law(t, 'parts that are not asked for stay in the file, and the order of names does not matter', async () => {
  const model = net();
  const bytes = await packCheckpoint({ a: { b: [model] }, 'a/b': net('cpu', 3), epoch: 4 });
  const [one, two] = [net('cpu', 6), net('cpu', 7)];
  assert.deepEqual(await unpackCheckpoint(bytes), { a: { b: [null] }, epoch: 4 });
  await unpackCheckpoint(bytes, { 'a/b': two, a: { b: [one] } });
  assert.deepEqual(numbersIn(one), numbersIn(model));
  assert.deepEqual(numbersIn(two), numbersIn(net('cpu', 3)));
});

law(t, 'a checkpoint is a safetensors file that others read', async () => {
  const state = loadSafetensors(await packCheckpoint({ model: net() }));
  assert.ok('model/0.weight' in state && 'model/2.bias' in state);
});

law(t, 'what is no part, and what is no checkpoint, is refused by its path', async () => {
  const call = (parts: unknown) => packCheckpoint(parts as never);
  await assert.rejects(call(net()), /expected parts to be parts by name, such as .*; give it a name: \{ model \}/);
  await assert.rejects(call({ a: { when: new Date() } }), /expected 'a\/when' to be a state .* got a Date/);
  await assert.rejects(call({ f: () => 1 }), /'f' to be .* got a function/);
  await assert.rejects(call({ n: 1n }), /got 1n/);
  await assert.rejects(call({ m: Promise.resolve(1) }), /got a promise/);
  await assert.rejects(call({ '': 1 }), /expected names of parts, got ''/);
  const circle: Record<string, unknown> = {};
  circle.self = circle;
  await assert.rejects(call(circle), /'self' leads back to a part above it/);
  const async = { stateDict: async () => ({}), loadStateDict: () => {} };
  await assert.rejects(call({ async }), /stateDict\(\) of 'async' to give tensors by name, got a promise/);
  const unpack = (bytes: Uint8Array) => unpackCheckpoint(bytes);
  await assert.rejects(unpack(saveSafetensors({ x: zeros([1]) })), /a safetensors file, and no checkpoint/);
  const broken = (o: Record<string, string>) =>
    saveSafetensors({}, { format: 'otimes-checkpoint', version: '1', parts: '["record",[]]', ...o });
  await assert.rejects(unpack(broken({ version: '2' })), /expected version 1 of the format, got '2'/);
  for (const parts of ['', '3', '["record",[["a"]]]', '["number","1"]', '["list",[]]'])
    await assert.rejects(unpack(broken({ parts })), /its list of parts is not/);
  await assert.rejects(
    unpack(broken({ parts: '["record",[["x",["tensor"]]]]' })),
    /expected (a tensor at 'x'|the 4 words)/,
  );
  const whole = await packCheckpoint({ model: new Sequential(new BatchNorm2d(2)) });
  await assert.rejects(unpack(whole.subarray(0, whole.length - 1)), { name: 'FormatError' });
});

law(t, 'errors of files name the file, and a failed save leaves the old one', async () => {
  const path = join(folder, 'file');
  await assert.rejects(loadCheckpoint(path), { code: 'ENOENT' });
  writeFileSync(path, 'nonsense');
  await assert.rejects(loadCheckpoint(path), (e: FormatError) => e.message.startsWith(`${path}: `));
  save(path, { x: zeros([1]) });
  await assert.rejects(loadCheckpoint(path), (e: FormatError) => e.message.startsWith(`${path}: checkpoint: `));
  await saveCheckpoint(path, { epoch: 1 });
  await assert.rejects(saveCheckpoint(path, { epoch: 1n as never }), /got 1n/);
  assert.deepEqual(await loadCheckpoint(path), { epoch: 1 });
  await assert.rejects(saveCheckpoint(3 as never, {}), /expected path to be a string, got 3/);
});

law(t, 'a process that is killed while it saves leaves a whole checkpoint', async () => {
  const path = join(folder, 'killed');
  const program = `
    import { full } from '@otimes/core';
    import { saveCheckpoint } from '@otimes/core/node';
    for (let i = 0; ; i++) {
      await saveCheckpoint(${JSON.stringify(path)}, { x: full([500000], i), i });
      if (i === 2) process.stdout.write('saved');
    }`;
  for (const wait of [2, 15]) {
    const child = startNode([
      '--conditions=@otimes/source',
      '--import',
      'tsx',
      '--input-type=module',
      '--eval',
      program,
    ]);
    await once(child.stdout, 'data');
    await new Promise(resolve => setTimeout(resolve, wait));
    child.kill('SIGKILL');
    await once(child, 'exit');
    const { x, i } = await loadCheckpoint(path);
    assert.ok(i >= 2 && x.eq(i).all().item() === 1, 'all of one save');
  }
  await saveCheckpoint(path, {});
  assert.deepEqual(
    readdirSync(folder).filter(name => name.startsWith('killed')),
    ['killed'],
  );
});
