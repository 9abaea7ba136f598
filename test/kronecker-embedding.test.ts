// An embedding as a Kronecker block: against a linear layer on one-hot vectors, whose factor A is dense.

import assert from 'node:assert/strict';
import { Generator, noGrad, oneHot, randint, randn, type Tensor, tensor } from '@otimes/core';
import { crossEntropy, Embedding, Linear, Module, Sequential } from '@otimes/nn';
import { EKFAC, KFAC, type KroneckerOptions, type KroneckerPreconditioner, STEVE } from '@otimes/optim';
import { CurvatureEstimate, collectBlocks, defaultCollectors, Side } from '@otimes/optim/curvature';
import fc from 'fast-check';
import t from 'tap';
import { indexGram, indexRows, indexSquares } from '../optim/src/curvature/one-hot.ts';
import { mustBeClose } from './helpers/allclose.ts';
import { DEVICES } from './helpers/devices.ts';
import { bitsOf } from './helpers/family.ts';
import { law, property } from './helpers/law.ts';
import { equalParts, partsOf, RanksRun } from './helpers/ranks.ts';

const dtype = 'float64';
const COUNT = 7;
const DIM = 4;

/** Rows of a table, their mean over the positions, and a linear layer. */
class Lookup extends Module {
  readonly embed = new Embedding(COUNT, DIM, { dtype, rng: new Generator(1) });
  readonly head = new Linear(DIM, 3, { dtype, rng: new Generator(2) });
  override forward(x: Tensor): Tensor {
    const y = this.embed.call(x).tanh();
    return this.head.call(y.rank === 3 ? y.mean(1) : y);
  }
}

/** In which lookups of an index are none. */
const padded = (paddingIdx: number | null): Lookup => {
  const model = new Lookup();
  Object.assign(model.embed, { paddingIdx });
  return model;
};

/** The same out of a linear layer on one-hot vectors. */
class Dense extends Module {
  readonly embed = new Linear(COUNT, DIM, { dtype, bias: false });
  readonly head = new Linear(DIM, 3, { dtype, rng: new Generator(2) });
  constructor() {
    super();
    noGrad(() => this.embed.weight.copy_(new Lookup().embed.weight.detach().transpose()));
  }
  override forward(x: Tensor): Tensor {
    const y = this.embed.call(oneHot(x, COUNT, { dtype })).tanh();
    return this.head.call(y.rank === 3 ? y.mean(1) : y);
  }
}

type Make = (model: Module, o?: KroneckerOptions) => KroneckerPreconditioner;
const make: Record<string, Make> = {
  KFAC: (m, o) => new KFAC(m, { lr: 0.05, ...o }),
  "KFAC 'pi'": (m, o) => new KFAC(m, { lr: 0.05, dampingSplit: 'pi', momentum: 0.5, ...o }),
  EKFAC: (m, o) => new EKFAC(m, { lr: 0.05, ...o }),
  "EKFAC 'batch'": (m, o) => new EKFAC(m, { lr: 0.05, secondMoment: 'batch', ...o }),
  STEVE: (m, o) => new STEVE(m, { lr: 0.05, ...o }),
  "STEVE 'example'": (m, o) => new STEVE(m, { lr: 0.05, secondMoment: 'example', nesterov: true, ...o }),
};

/** Batches in which index 6 is rare and index 5 comes late. */
function* batches(positions: number | null, steps = 7, batch = 6) {
  const rng = new Generator(9);
  for (let step = 0; step < steps; step++) {
    const shape = positions === null ? [batch] : [batch, positions];
    yield { x: randint(0, step < 2 ? 5 : step === 4 ? 7 : 6, shape, { rng }), y: randint(0, 3, [batch], { rng }) };
  }
}

function train<M extends Lookup | Dense>(model: M, optimizer: KroneckerPreconditioner, positions: number | null): M {
  for (const { x, y } of batches(positions)) {
    optimizer.zeroGrad();
    crossEntropy(model.call(x), y).backward();
    optimizer.step();
  }
  return model;
}

const run = (of: Make, o: KroneckerOptions, positions: number | null) => {
  const model = new Lookup();
  return train(model, of(model, { refreshEvery: 3, ...o }), positions);
};
const runDense = (of: Make, o: KroneckerOptions, positions: number | null) => {
  const model = new Dense();
  return train(model, of(model, { refreshEvery: 3, ...o }), positions);
};
const mustAgree = (ours: Lookup, theirs: Dense, what = '') => {
  mustBeClose(ours.embed.weight.detach(), theirs.embed.weight.detach().transpose(), { rtol: 1e-8, atol: 1e-9 }, what);
  mustBeClose(ours.head.weight.detach(), theirs.head.weight.detach(), { rtol: 1e-8, atol: 1e-9 }, what);
};

const PLAIN: Record<string, Make> = {
  ...make,
  EKFAC: (m, o) => new EKFAC(m, { lr: 0.05, averageNull: false, ...o }),
  "EKFAC 'batch'": (m, o) => new EKFAC(m, { lr: 0.05, secondMoment: 'batch', averageNull: false, ...o }),
  STEVE: (m, o) => new STEVE(m, { lr: 0.05, nullRule: 'none', ...o }),
  "STEVE 'example'": (m, o) =>
    new STEVE(m, { lr: 0.05, secondMoment: 'example', nesterov: true, nullRule: 'none', ...o }),
};

for (const name of Object.keys(make)) {
  law(t, `${name} is that of a linear layer on one-hot vectors with the exact A, to rounding`, () => {
    for (const positions of [null, 1, 4])
      for (const o of [{}, { factorDecay: 0.5, stagger: true }])
        mustAgree(run(PLAIN[name]!, o, positions), runDense(PLAIN[name]!, o, positions), `${positions} positions`);
  });

  law(
    t,
    `${name}: and with its defaults that of one with a diagonal A that expands, whatever the sharing and the Fisher`,
    () => {
      const diagonal = { overrides: { embed: { structure: { A: 'diagonal' as const }, sharing: 'expand' as const } } };
      for (const sharing of ['expand', 'reduce'] as const)
        for (const fisher of ['empirical', 'sampled', 'ggn'] as const)
          for (const positions of [null, 4]) {
            const o: KroneckerOptions = { sharing, fisher, loss: 'crossEntropy' };
            mustAgree(run(make[name]!, o, positions), runDense(make[name]!, { ...o, ...diagonal }, positions), fisher);
          }
    },
  );
}

t.test('vectors as indices', t => {
  const drawn = fc.record({
    batch: fc.integer({ min: 0, max: 4 }),
    shared: fc.integer({ min: 1, max: 6 }),
    n: fc.integer({ min: 1, max: 5 }),
    seed: fc.integer({ min: 1, max: 1e6 }),
  });

  law(t, 'sums and squares are those of the vectors, where n stands for one of zeros', () =>
    property(drawn, ({ batch, shared, n, seed }) => {
      const rng = new Generator(seed);
      const at = randint(0, n + 1, [batch, shared], { rng });
      const g = randn([batch, shared, 3], { rng, dtype });
      const rows = indexRows(at, n, dtype);
      const close = { rtol: 1e-12, atol: 1e-12 };
      const indices = at.dataSync();
      for (let k = 0; k < at.size; k++)
        for (let i = 0; i < n; i++) assert.equal(rows.dataSync()[k * n + i], Number(indices[k] === i));
      mustBeClose(indexGram(at, n, dtype), rows.square().sum([0, 1]), close);
      mustBeClose(indexSquares(at, g, n), g.transpose(1, 2).matmul(rows).square().sum(0), close);
    }),
  );

  law(t, 'A is what a diagonal makes of the vectors', () => {
    const model = new Sequential(new Embedding(COUNT, DIM, { dtype }));
    const [block] = collectBlocks('test', model, defaultCollectors, { sharing: undefined });
    const x = randint(0, COUNT, [3, 5], { rng: new Generator(1) });
    const { a, gramA } = block!.canonical(x, randn([3, 5, DIM], { dtype }));
    const side = Side.diagonal(COUNT);
    mustBeClose(gramA!(side), side.gram(a), { rtol: 1e-12, atol: 1e-12 });
  });

  t.end();
});

law(t, 'one example with one index: A ⊗ G is the Fisher block', () => {
  const model = new Lookup();
  const optimizer = new KFAC(model, { lr: 0, factorDecay: 0 });
  crossEntropy(model.call(tensor([3], { dtype: 'int32' })), tensor([1], { dtype: 'int32' })).backward();
  const D = model.embed.weight.grad!.transpose();
  optimizer.step();
  const { A, G } = optimizer.inspect('embed');
  assert.deepEqual(A!.shape, [COUNT]);
  mustBeClose(G!.matmul(D).mul(A!), D.mul(D.square().sum()), { rtol: 1e-12, atol: 1e-14 });
});

law(t, 'padding counts no position: A is the mean over the others, and neither factor knows its gradients', () => {
  const embedding = Object.assign(new Embedding(4, 2, { dtype }), { paddingIdx: 2 });
  const [block] = collectBlocks('test', new Sequential(embedding), defaultCollectors, { sharing: undefined });
  const x = tensor([0, 2, 1, 0, 2, 2], { shape: [2, 3], dtype: 'int32' });
  const gy = randn([2, 3, 2], { dtype, rng: new Generator(3) });
  const { a, g, gramA, rows } = block!.canonical(x, gy);
  mustBeClose(a.sum([0, 1]), [2, 1, 0, 0]);
  mustBeClose(gramA!(Side.diagonal(4)), [2, 1, 0, 0]);
  assert.equal((rows as Tensor).item(), 3);
  const real = x.ne(2).astype(dtype).unsqueeze(2);
  mustBeClose(g, gy.mul(real));
});

for (const device of DEVICES)
  law(
    t,
    `parts of a batch with padding of its own share each make the factors of the whole, on '${device}'`,
    async () => {
      const x = tensor([2, 2, 2, 0, 1, 2, 0, 3, 0, 5, 1, 1], { shape: [4, 3], dtype: 'int32' });
      const y = tensor([0, 1, 2, 1], { dtype: 'int32' });
      const factorsOf = async (parts: readonly (readonly [number, number])[]) => {
        const model = padded(2).to(device) as Lookup;
        const estimate = new CurvatureEstimate(model);
        for (const [from, count] of parts)
          crossEntropy(model.call(x.narrow(0, from, count).to(device)), y.narrow(0, from, count).to(device), {
            reduction: 'sum',
          })
            .mul(1 / 4)
            .backward();
        await estimate.add();
        const { A, G } = estimate.factors('embed');
        return [await A.cpu(), await G.cpu()] as const;
      };
      const [whole, apart] = [
        await factorsOf([[0, 4]]),
        await factorsOf([
          [0, 1],
          [1, 1],
          [2, 2],
        ]),
      ];
      mustBeClose(
        whole[0],
        [0, 1, 2, 3, 4, 5, 6].map(i => [3, 3, 0, 1, 0, 1, 0][i]! / 8),
        { rtol: 1e-12, atol: 1e-14 },
      );
      for (const i of [0, 1] as const) mustBeClose(apart[i], whole[i], { rtol: 1e-12, atol: 1e-14 });
    },
  );

for (const device of DEVICES)
  law(t, `steps on '${device}' are those on 'cpu'`, async () => {
    for (const of of [make.KFAC!, make.EKFAC!, make.STEVE!]) {
      const model = new Lookup().to(device) as Lookup;
      const optimizer = of(model, { refreshEvery: 3 });
      for (const { x, y } of batches(4)) {
        optimizer.zeroGrad();
        crossEntropy(model.call(x.to(device)), y.to(device)).backward();
        await optimizer.step();
      }
      const expected = run(of, {}, 4).embed.weight.detach();
      mustBeClose(await model.embed.weight.detach().cpu(), expected, { rtol: 1e-8, atol: 1e-9 });
    }
  });

law(t, 'saved, loaded and gone on is the run without a break, bit for bit; in the background too', () => {
  for (const of of Object.values(make))
    for (const o of [{}, { refresh: 'background', refreshLag: 1 } as const]) {
      const data = [...batches(4)];
      const go = (model: Lookup, optimizer: KroneckerPreconditioner, from: number, to: number) => {
        for (const { x, y } of data.slice(from, to)) {
          optimizer.zeroGrad();
          crossEntropy(model.call(x), y).backward();
          optimizer.step();
        }
      };
      const options = { refreshEvery: 3, ...o };
      const whole = new Lookup();
      go(whole, of(whole, options), 0, 7);
      const first = new Lookup();
      const before = of(first, options);
      go(first, before, 0, 4);
      const second = new Lookup();
      second.loadStateDict(first.stateDict());
      const after = of(second, options);
      after.loadStateDict(before.stateDict());
      go(second, after, 4, 7);
      assert.equal(bitsOf(second.stateDict()), bitsOf(whole.stateDict()));
    }
});

law(t, 'two processes are one on the whole batch, with padding too', async () => {
  for (const [name, of, padding] of Object.entries(make).flatMap(
    ([name, of]) =>
      [
        [name, of, null],
        [name, of, 1],
      ] as const,
  )) {
    const ranks = new RanksRun(
      2,
      () => padded(padding),
      (model, communicator) => of(model, { refreshEvery: 3, communicator }),
    );
    for (const { x, y } of batches(4)) {
      const [xs, ys] = [partsOf(x, equalParts(6, 2)), partsOf(y, equalParts(6, 2))];
      const errors = await ranks.step((model, rank) => crossEntropy(model.call(xs[rank]!), ys[rank]!).backward());
      assert.deepEqual(errors, []);
    }
    const whole = padded(padding);
    const expected = train(whole, of(whole, { refreshEvery: 3 }), 4).embed.weight.detach();
    for (const { model } of ranks.processes)
      mustBeClose((model as Lookup).embed.weight.detach(), expected, { rtol: 1e-8, atol: 1e-9 }, name);
  }
});

law(t, 'a vocabulary of 50 000 has state of its own size, and no matrix of that order', () => {
  const count = 50_000;
  for (const of of [make.KFAC!, make.EKFAC!, make.STEVE!]) {
    const model = new Sequential(new Embedding(count, 3));
    const optimizer = of(model, { lr: 0.01, structure: 'exact' });
    crossEntropy(model.call(randint(0, count, [4, 5])).mean(1) as Tensor, randint(0, 3, [4])).backward();
    optimizer.step();
    const { A, kfe } = optimizer.inspect('0');
    assert.deepEqual([A!.shape, kfe!.UA, kfe!.sA.shape], [[count], null, [count]]);
    const elements = Object.values(optimizer.stateDict()).reduce((sum, x) => sum + x.size, 0);
    assert.ok(elements < count * (2 * 3 + 4), String(elements));
  }
});

law(t, 'a row that no batch has had stays, and an index that comes late moves at once', () => {
  const model = new Lookup();
  const optimizer = new STEVE(model, { lr: 0.01, refreshEvery: 100 });
  const step = (x: number[]) => {
    const before = model.embed.weight.detach().clone();
    optimizer.zeroGrad();
    crossEntropy(model.call(tensor(x, { dtype: 'int32' })), tensor([0, 1], { dtype: 'int32' })).backward();
    optimizer.step();
    return model.embed.weight.detach().sub(before).abs().max(1);
  };
  for (const x of [
    [0, 1],
    [1, 0],
    [0, 1],
  ])
    mustBeClose(step(x).narrow(0, 2, COUNT - 2), [0, 0, 0, 0, 0]);
  const moved = step([0, 6]).dataSync() as Float64Array;
  assert.ok(moved[6]! > 0.001 && moved[6]! < 0.1, String(moved));
  mustBeClose(tensor(moved).narrow(0, 2, 4), [0, 0, 0, 0]);
});

law(t, 'an estimate has the diagonal, and its operator solves with it', () => {
  const model = new Lookup();
  const estimate = new CurvatureEstimate(model);
  const { x, y } = [...batches(4, 1)][0]!;
  crossEntropy(model.call(x), y).backward();
  estimate.add();
  estimate.detach();
  const operator = estimate.operator('embed');
  const X = randn([DIM, COUNT], { dtype, rng: new Generator(4) });
  const { A, G } = estimate.layers.get('embed')!;
  mustBeClose(operator.matvec(X), G!.matmul(X).mul(A!), { rtol: 1e-12, atol: 1e-14 });
  for (const split of ['eigen', 'pi'] as const) {
    const solved = operator.solve(X, { damping: 0.1, split });
    if (split === 'eigen') mustBeClose(operator.matvec(solved).add(solved.mul(0.1)), X, { rtol: 1e-10, atol: 1e-12 });
  }
  assert.equal(operator.toString(), 'KroneckerOperator(A [7, 7] diagonal ⊗ G [4, 4], float64)');
});

law(t, 'a frozen table has no block, and a class with a forward of its own is left to rest', () => {
  const frozen = new Embedding(3, 2);
  frozen.weight.requiresGrad = false;
  class Own extends Embedding {
    override forward(x: Tensor): Tensor {
      return super.forward(x).mul(2);
    }
  }
  const of = (module: Module) =>
    collectBlocks('test', new Sequential(module), defaultCollectors, { sharing: undefined });
  assert.deepEqual(of(frozen), []);
  assert.deepEqual(of(new Own(3, 2)), []);
});
