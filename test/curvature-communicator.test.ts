// One CurvatureEstimate in several processes, each on its part of every batch.

import assert from 'node:assert/strict';
import { Generator, randint, randn, type Tensor, tensor } from '@otimes/core';
import { crossEntropy, Linear, MultiHeadAttention, Sequential, Tanh } from '@otimes/nn';
import { alone, CurvatureEstimate, type CurvatureOptions } from '@otimes/optim/curvature';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { bitsOf } from './helpers/family.ts';
import { laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';
import { partsOf, Ranks } from './helpers/ranks.ts';
import { Pool } from './suites/exactness.ts';

const net = () => {
  const o = { dtype: 'float64', rng: new Generator(3) } as const;
  return new Sequential(new MultiHeadAttention(4, 2, o), new Tanh(), new Pool('mean'), new Linear(4, 3, o));
};
type Batch = { x: Tensor; y: Tensor };
const batch = (n: number, seed: number): Batch => {
  const rng = new Generator(seed);
  return { x: randn([n, 3, 4], { dtype: 'float64', rng }), y: randint(0, 3, [n], { rng }) };
};
const BATCHES = [batch(6, 1), batch(9, 2), batch(4, 4)];

/** An estimate and its model for each of several processes. */
function several(size: number, o: CurvatureOptions = {}) {
  const ranks = new Ranks(size);
  const processes = ranks.communicators.map(communicator => {
    const model = net();
    return { model, curvature: new CurvatureEstimate(model, { loss: 'crossEntropy', ...o, communicator }) };
  });
  return { ranks, processes };
}
type Several = ReturnType<typeof several>;

const backward = (model: Sequential, { x, y }: Batch) => crossEntropy(model.call(x), y).backward();

/** All add their part; the errors of those that failed. */
async function add({ processes }: Several, { x, y }: Batch, sizes: readonly number[]): Promise<string[]> {
  const [xs, ys] = [partsOf(x, sizes), partsOf(y, sizes)];
  const all = processes.map(async ({ model, curvature }, i) => {
    backward(model, { x: xs[i]!, y: ys[i]! });
    await curvature.add();
  });
  return (await Promise.allSettled(all)).flatMap(one => (one.status === 'rejected' ? [String(one.reason)] : []));
}

const factorsOf = ({ layers }: CurvatureEstimate) =>
  Object.fromEntries(
    [...layers].flatMap(([path, { A, G }]) => [[`${path}.A`, A!] as const, [`${path}.G`, G!] as const]),
  );
const bits = ({ processes }: Several) => processes.map(({ curvature }) => bitsOf(factorsOf(curvature)));

for (const fisher of ['empirical', 'ggn'] as const)
  law(
    t,
    `${fisher}: the averages of all processes are those of one on whole batches, and the same to the bit`,
    async () => {
      for (const sharing of [undefined, 'expand', 'reduce'] as const) {
        const o = { fisher, loss: 'crossEntropy', ...(sharing && { sharing }) } as const;
        const model = net();
        const expected = new CurvatureEstimate(model, o);
        for (const one of BATCHES) {
          backward(model, one);
          assert.equal(expected.add(), undefined);
        }
        for (const share of [
          [1, 2],
          [1, 1, 1],
          [3, 1, 2],
        ]) {
          const run = several(share.length, o);
          for (const one of BATCHES) {
            const examples = one.y.shape[0]!;
            const sizes = share.map(() => 1);
            for (let left = examples - share.length, i = 0; left > 0; left--, i = (i + share[0]!) % share.length)
              sizes[i]!++;
            assert.deepEqual(await add(run, one, sizes), []);
          }
          const [first, ...others] = bits(run);
          for (const other of others) assert.ok(other === first);
          for (const [key, x] of Object.entries(factorsOf(expected)))
            mustBeClose(factorsOf(run.processes[0]!.curvature)[key]!, x, { rtol: 1e-11, atol: 1e-14 }, key);
          assert.equal(run.processes[0]!.curvature.layers.get('0.k')!.expandedG, expected.layers.get('0.k')!.expandedG);
        }
      }
    },
  );

law(t, "G of 'reduce' vanishes where it does in all processes, and in no other case", async () => {
  // A layer of two positions, whose gradients cancel where their weights do.
  const linear = () => new Sequential(new Linear(4, 3, { dtype: 'float64', rng: new Generator(3) }));
  const { x } = batch(4, 1);
  const inputs = x.narrow(1, 0, 2);
  const lossOf = (model: Sequential, from: number, count: number, signs: readonly number[]) => {
    const z = model.call(inputs.narrow(0, from, count));
    const weights = tensor(
      signs.slice(from, from + count).map(sign => [[1], [sign]]),
      { dtype: 'float64' },
    );
    return z.mul(weights).sum().div(count);
  };
  for (const [signs, expands] of [
    [[-1, -1, 1, 1], false],
    [[1, 1, -1, -1], false],
    [[-1, -1, -1, -1], true],
  ] as const) {
    const model = linear();
    const expected = new CurvatureEstimate(model, { sharing: 'reduce' });
    lossOf(model, 0, 4, signs).backward();
    expected.add();
    const { communicators } = new Ranks(2);
    const estimates = communicators.map(communicator => {
      const own = linear();
      const estimate = new CurvatureEstimate(own, { sharing: 'reduce', communicator });
      lossOf(own, 2 * communicator.rank, 2, signs).backward();
      return estimate;
    });
    await Promise.all(estimates.map(one => one.add()));
    for (const { layers } of [expected, ...estimates]) assert.equal(layers.get('0')!.expandedG, expands);
    for (const { layers } of estimates)
      mustBeClose(layers.get('0')!.G!, expected.layers.get('0')!.G!, { rtol: 1e-12, atol: 1e-15 });
  }
});

law(t, "sampled: each process draws labels of its own, and the averages are all processes'", async () => {
  const run = several(2, { fisher: 'sampled' });
  const { processes } = run;
  const one = batch(5, 8);
  for (const { model } of processes) backward(model, one);
  const [first, second] = processes.map(({ curvature }) => curvature.layers.get('3')!.statistics!.factors(1)!.G);
  const mean = first!.add(second!).div(2);
  assert.notDeepEqual(first!.toArray(), second!.toArray());
  await Promise.all(processes.map(({ curvature }) => curvature.add()));
  for (const { curvature } of processes) mustBeClose(curvature.layers.get('3')!.G!, mean, { rtol: 1e-12, atol: 1e-15 });
});

law(t, 'alone it is the default, to the bit, and synchronous', () => {
  const states = [{}, { communicator: alone }].map(o => {
    const model = net();
    const curvature = new CurvatureEstimate(model, o);
    for (const one of BATCHES) {
      backward(model, one);
      assert.equal(curvature.add(), undefined);
    }
    return bitsOf(factorsOf(curvature));
  });
  assert.equal(states[0], states[1]);
});

law(t, 'what fails in one process is the same error in all, and changes no average', async () => {
  const [run, twin] = [several(2), several(2)];
  const sizes = [3, 3];
  for (const one of [run, twin]) assert.deepEqual(await add(one, BATCHES[0]!, sizes), []);
  const before = bits(run);
  const { x, y } = BATCHES[0]!;
  const refused = async (errors: Promise<string[]>, message: RegExp) => {
    const found = await errors;
    assert.equal(found.length, 2);
    assert.match(found[0]!, message);
    assert.equal(found[1], found[0]);
    assert.deepEqual(bits(run), before);
  };
  const bad = x.clone();
  bad.narrow(0, 5, 1).scale_(NaN);
  await refused(
    add(run, { x: bad, y }, sizes),
    /^RangeError: CurvatureEstimate\.add: factor [AG] of .* has NaN at position \d+; nothing was added/,
  );
  const addAll = async () => {
    const all = await Promise.allSettled(run.processes.map(async ({ curvature }) => curvature.add()));
    return all.flatMap(one => (one.status === 'rejected' ? [String(one.reason)] : []));
  };
  await refused(addAll(), /^Error: process 0 of 2: CurvatureEstimate\.add: no backward pass has reached a layer/);
  const { processes } = run;
  backward(processes[0]!.model, BATCHES[0]!);
  await refused(addAll(), /^Error: process 1 of 2: CurvatureEstimate\.add: no backward pass/);
  backward(processes[0]!.model, BATCHES[0]!);
  processes[1]!.model.layers[3]!.call(x.mean(1)).sum().backward();
  await refused(
    addAll(),
    /has reached attention '0\.q' in process 0 and none in process 1: all processes add parts of the same batch/,
  );
  for (const fails of [0, 1]) {
    run.ranks.failsIn = fails;
    await refused(add(run, BATCHES[1]!, [4, 5]), /^Error: the line is cut/);
  }
  for (const one of [run, twin]) assert.deepEqual(await add(one, BATCHES[1]!, [4, 5]), []);
  assert.deepEqual(bits(run), bits(twin));
});

law(t, 'where an exchange fails, add() can be called again', async () => {
  const twin = several(2);
  assert.deepEqual(await add(twin, BATCHES[0]!, [3, 3]), []);
  for (const fails of [0, 1]) {
    const run = several(2);
    run.ranks.failsIn = fails;
    assert.equal((await add(run, BATCHES[0]!, [3, 3])).length, 2);
    await Promise.all(run.processes.map(({ curvature }) => curvature.add()));
    assert.deepEqual(bits(run), bits(twin));
  }
});

law(t, 'while add() waits, nothing else of the estimate runs', async () => {
  const { processes } = several(2);
  for (const { model } of processes) backward(model, BATCHES[0]!);
  const [first, second] = processes as [Several['processes'][0], Several['processes'][0]];
  const open = first.curvature.add();
  for (const act of [
    () => backward(first.model, BATCHES[0]!),
    () => first.curvature.add(),
    () => first.curvature.detach(),
  ])
    assert.throws(
      act,
      /^Error: CurvatureEstimate: .* while add\(\) waits for other processes: await add\(\) before it/,
    );
  await Promise.all([open, second.curvature.add()]);
  first.curvature.detach();
});

law(t, 'a communicator of several processes needs a device that is read at once', () => {
  const { ranks } = several(2);
  assert.throws(
    () => new CurvatureEstimate(net().to(laterDevice().device), { communicator: ranks.communicators[0]! }),
    /^TypeError: CurvatureEstimate: a communicator of 2 processes needs a model on a device that is read at once/,
  );
  assert.throws(
    () => new CurvatureEstimate(net(), { communicator: 1 as never }),
    /^TypeError: CurvatureEstimate: expected communicator to be a communicator/,
  );
});
