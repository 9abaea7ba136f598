// A weight that an embedding and the output's Linear share: one block, of which both uses are known.

import assert from 'node:assert/strict';
import { Generator, noGrad, ones, randint, randn, type Tensor } from '@otimes/core';
import { crossEntropy, Embedding, Linear, Module } from '@otimes/nn';
import { EKFAC, KFAC, type KroneckerOptions, type KroneckerPreconditioner, Muon, STEVE } from '@otimes/optim';
import { CurvatureEstimate, Side } from '@otimes/optim/curvature';
import t from 'tap';
import { joinUses, packUses } from '../optim/src/curvature/uses.ts';
import { mustBeClose } from './helpers/allclose.ts';
import { DEVICES } from './helpers/devices.ts';
import { bitsOf } from './helpers/family.ts';
import { law, overSeeds } from './helpers/law.ts';
import { equalParts, partsOf, RanksRun } from './helpers/ranks.ts';
import { semidefinite } from './helpers/sides.ts';

const dtype = 'float64';
const COUNT = 6;

/** Next tokens from tokens: a table, a layer between, and the table again. */
class Language extends Module {
  readonly embed: Embedding;
  readonly middle: Linear;
  readonly head: Linear;
  constructor({ tied = true, bias = false, dim = 3 } = {}) {
    super();
    this.embed = new Embedding(COUNT, dim, { dtype, rng: new Generator(1) });
    this.middle = new Linear(dim, dim, { dtype, rng: new Generator(2) });
    this.head = new Linear(dim, COUNT, { dtype, bias, rng: new Generator(3) });
    if (tied) this.head.weight = this.embed.weight;
    else noGrad(() => this.head.weight.copy_(this.embed.weight.detach()));
  }
  override forward(x: Tensor): Tensor {
    return this.head.call(this.middle.call(this.embed.call(x)).tanh());
  }
}

type Make = (model: Module, o?: KroneckerOptions) => KroneckerPreconditioner;
const make: Record<string, Make> = {
  KFAC: (m, o) => new KFAC(m, { lr: 0.05, momentum: 0.5, ...o }),
  "KFAC 'pi'": (m, o) => new KFAC(m, { lr: 0.05, dampingSplit: 'pi', ...o }),
  EKFAC: (m, o) => new EKFAC(m, { lr: 0.05, ...o }),
  STEVE: (m, o) => new STEVE(m, { lr: 0.05, ...o }),
  "STEVE 'example'": (m, o) => new STEVE(m, { lr: 0.05, secondMoment: 'example', ...o }),
};

const T = 4;
const data = Array.from({ length: 7 }, (_, step) => {
  const rng = new Generator(20 + step);
  return { x: randint(0, COUNT, [6, T], { rng }), y: randint(0, COUNT, [6, T], { rng }) };
});
type Batch = (typeof data)[number];

/** The mean over examples of the sum over positions. */
const lossOf = (model: Module, { x, y }: Batch): Tensor =>
  crossEntropy((model.call(x) as Tensor).reshape([-1, COUNT]), y.reshape([-1])).mul(T);

function train<M extends Module>(model: M, optimizer: KroneckerPreconditioner, batches: readonly Batch[] = data): M {
  for (const batch of batches) {
    optimizer.zeroGrad();
    lossOf(model, batch).backward();
    optimizer.step();
  }
  return model;
}
const run = (of: Make, o: KroneckerOptions = {}) => {
  const model = new Language();
  return train(model, of(model, { refreshEvery: 3, ...o }));
};
const close = { rtol: 1e-8, atol: 1e-9 };

/** A and G after one step that changes nothing. */
function factorsOf(model: Module, batch: Batch, paths: readonly string[], o: KroneckerOptions = {}) {
  const optimizer = new KFAC(model, { lr: 0, factorDecay: 0, ...o });
  train(model, optimizer, [batch]);
  optimizer.detach();
  return paths.map(path => {
    const { A, G } = optimizer.inspect(path);
    return { A: A!, G: G! };
  });
}

const trace = (x: Tensor): Tensor =>
  x.rank === 1
    ? x.sum()
    : x
        .reshape([-1])
        .slice([null, null, x.shape[0]! + 1])
        .sum();
const diagonal = (x: Tensor): Tensor => x.reshape([-1]).slice([null, null, x.shape[0]! + 1]);
/** A ⊗ G for a diagonal G, [A's elements, G's]. */
const product = ({ A, G }: { A: Tensor; G: Tensor }): Tensor => A.reshape([-1, 1]).mul(G);

t.test('two products as one', t => {
  const sides = { A: Side.exact(3), G: Side.diagonal(5) };
  const pair = (o: { rng: Generator }) => ({
    A: semidefinite(3, { ...o, dtype }),
    G: randn([5], { ...o, dtype }).square(),
    expandedG: false,
  });
  const joined = (...pairs: ReturnType<typeof pair>[]) => joinUses(packUses(pairs[0]!, pairs[1]!)!, sides);

  law(t, 'both partial traces are those of the sum, and A has the trace 1', () =>
    overSeeds(30, seed => {
      const o = { rng: new Generator(seed) };
      const [one, two] = [pair(o), pair(o)];
      const { A, G } = joined(one, two);
      mustBeClose(A.mul(trace(G)), one.A.mul(trace(one.G)).add(two.A.mul(trace(two.G))), close);
      mustBeClose(G.mul(trace(A)), one.G.mul(trace(one.A)).add(two.G.mul(trace(two.A))), close);
      mustBeClose(trace(A), 1, close);
    }),
  );

  law(t, 'the sum itself where the factors of one side are proportional, and where one product is 0', () =>
    overSeeds(30, seed => {
      const o = { rng: new Generator(seed) };
      const [one, two] = [pair(o), pair(o)];
      const none = { A: one.A.mul(0), G: one.G.mul(0), expandedG: false };
      for (const other of [{ ...two, A: one.A.mul(0.3) }, { ...two, G: one.G.mul(7) }, none])
        mustBeClose(product(joined(one, other)), product(one).add(product(other)), close);
      mustBeClose(product(joined(none, none)), product(none), close);
    }),
  );

  law(t, 'what each use counts its numbers in does not matter', () =>
    overSeeds(10, seed => {
      const o = { rng: new Generator(seed) };
      const [one, two] = [pair(o), pair(o)];
      const scaled = { ...two, A: two.A.mul(1e4), G: two.G.mul(1e-4) };
      mustBeClose(product(joined(one, scaled)), product(joined(one, two)), close);
    }),
  );
  t.end();
});

/** In which lookups of an index are none. */
const padded = (model: Language, paddingIdx: number | null): Language => {
  Object.assign(model.embed, { paddingIdx });
  return model;
};

for (const [sharing, fisher, padding] of [
  ['expand', 'empirical', null],
  ['expand', 'empirical', 2],
  ['expand', 'sampled', null],
  ['reduce', 'empirical', 3],
] as const)
  law(t, `factors are those of both layers by themselves, joined; ${sharing}, ${fisher}, padding ${padding}`, () => {
    const o: KroneckerOptions = {
      sharing,
      fisher,
      rng: new Generator(5),
      ...(fisher === 'sampled' && { loss: 'mse' as const }),
    };
    const [own] = factorsOf(padded(new Language(), padding), data[0]!, ['head'], o);
    const apart = { overrides: { embed: { sharing: 'expand' as const } } };
    const paths = ['head', 'embed'];
    const separate = factorsOf(padded(new Language({ tied: false }), padding), data[0]!, paths, {
      ...o,
      ...apart,
      rng: new Generator(5),
    });
    const [head, embed] = separate as [(typeof separate)[0], (typeof separate)[0]];
    const packed = packUses(
      { A: head.A, G: diagonal(head.G), expandedG: false },
      { A: embed.G, G: embed.A, expandedG: false },
    );
    const { A, G } = joinUses(packed!, { A: Side.exact(3), G: Side.diagonal(COUNT) });
    mustBeClose(own!.A, A, close);
    mustBeClose(own!.G, G, close);
  });

law(t, 'with one column A ⊗ G is the sum of both products: nothing is approximated there', () => {
  const [own] = factorsOf(new Language({ dim: 1 }), data[0]!, ['head']);
  const [head, embed] = factorsOf(new Language({ dim: 1, tied: false }), data[0]!, ['head', 'embed']);
  mustBeClose(product(own!), diagonal(head!.G).mul(head!.A).add(embed!.A.mul(embed!.G)).reshape([1, COUNT]), close);
});

law(t, "second moments of examples are those of the whole gradient, both uses' terms in it", () => {
  const model = new Language();
  const optimizer = new EKFAC(model, { lr: 0, factorDecay: 0, averageNull: false });
  train(model, optimizer, [data[0]!]);
  const { kfe, slots } = optimizer.inspect('head');
  optimizer.detach();
  let sum = ones([COUNT, 3], { dtype }).mul(0);
  for (let b = 0; b < 6; b++) {
    const [x, y] = [data[0]!.x.narrow(0, b, 1), data[0]!.y.narrow(0, b, 1)];
    for (const p of model.parameters()) p.grad = null;
    lossOf(model, { x, y }).backward();
    sum = sum.add(kfe!.project(model.embed.weight.grad!).square());
  }
  mustBeClose(slots.get('S')!, sum.mul(1 / 6), close);
});

law(t, 'a batch in parts is the batch, and several calls of one batch too', () => {
  for (const of of Object.values(make)) {
    const model = new Language();
    const optimizer = of(model, { refreshEvery: 3 });
    for (const { x, y } of data) {
      optimizer.zeroGrad();
      for (const [from, size] of [
        [0, 2],
        [2, 4],
      ] as const)
        lossOf(model, { x: x.narrow(0, from, size), y: y.narrow(0, from, size) })
          .mul(size / 6)
          .backward();
      optimizer.step();
    }
    mustBeClose(model.embed.weight.detach(), run(of).embed.weight.detach(), close);
  }
});

for (const device of DEVICES)
  law(t, `steps on '${device}' are those on 'cpu'`, async () => {
    for (const of of [make.KFAC!, make.EKFAC!, make.STEVE!]) {
      const model = new Language().to(device) as Language;
      const optimizer = of(model, { refreshEvery: 3 });
      for (const { x, y } of data) {
        optimizer.zeroGrad();
        lossOf(model, { x: x.to(device), y: y.to(device) }).backward();
        await optimizer.step();
      }
      mustBeClose(await model.embed.weight.detach().cpu(), run(of).embed.weight.detach(), close);
    }
  });

law(t, 'saved, loaded and gone on is the run without a break, bit for bit; in the background too', () => {
  for (const of of Object.values(make))
    for (const o of [{}, { refresh: 'background', refreshLag: 1 } as const]) {
      const options = { refreshEvery: 3, ...o };
      const first = new Language();
      const before = of(first, options);
      train(first, before, data.slice(0, 4));
      const second = new Language();
      second.loadStateDict(first.stateDict());
      const after = of(second, options);
      after.loadStateDict(before.stateDict());
      train(second, after, data.slice(4));
      assert.equal(bitsOf(second.stateDict()), bitsOf(run(of, o).stateDict()));
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
      () => padded(new Language(), padding),
      (model, communicator) => of(model, { refreshEvery: 3, communicator }),
    );
    for (const { x, y } of data) {
      const [xs, ys] = [partsOf(x, equalParts(6, 2)), partsOf(y, equalParts(6, 2))];
      const errors = await ranks.step((model, rank) => lossOf(model, { x: xs[rank]!, y: ys[rank]! }).backward());
      assert.deepEqual(errors, []);
    }
    const whole = padded(new Language(), padding);
    train(whole, of(whole, { refreshEvery: 3 }));
    for (const { model } of ranks.processes)
      mustBeClose((model as Language).embed.weight.detach(), whole.embed.weight.detach(), close, name);
  }
});

law(t, 'an estimate has the same factors', () => {
  const model = new Language();
  const estimate = new CurvatureEstimate(model);
  lossOf(model, data[0]!).backward();
  estimate.add();
  const { A, G } = estimate.factors('head');
  const [own] = factorsOf(new Language(), data[0]!, ['head']);
  mustBeClose(A, own!.A, close);
  mustBeClose(G, own!.G, close);
});

t.test('what is claimed', t => {
  const claimed = (model: Module) =>
    new STEVE(model).describe().map(({ path, collector, shape }) => ({ path, collector, shape }));

  law(t, 'the weight is one block under the name of the Linear, whose bias is left to rest', () => {
    assert.deepEqual(claimed(new Language({ bias: true })), [
      { path: 'middle', collector: 'linear', shape: [3, 4] },
      { path: 'head', collector: 'tied', shape: [COUNT, 3] },
      { path: 'head.bias', collector: 'rest', shape: [COUNT] },
    ]);
    assert.deepEqual(new STEVE(new Language()).inspect('head').sideG.structure, 'diagonal');
  });

  law(t, 'skipped, it is left to rest as a whole; Muon leaves it there anyway', () => {
    const rows = new STEVE(new Language(), { overrides: { head: { skip: true } } }).describe();
    assert.deepEqual(
      rows.map(({ path, collector }) => [path, collector]),
      [
        ['middle', 'linear'],
        ['embed.weight', 'rest'],
      ],
    );
    const muon = new Muon(new Language()).describe();
    assert.deepEqual(
      muon.map(({ path, collector }) => [path, collector]),
      [
        ['middle.weight', 'linear'],
        ['embed.weight', 'rest'],
        ['middle.bias', 'rest'],
      ],
    );
  });

  law(t, "what it cannot know is an error: a third layer, and 'ggn'", () => {
    class Third extends Language {
      readonly third = new Linear(3, COUNT, { dtype, bias: false });
      constructor() {
        super();
        this.third.weight = this.embed.weight;
      }
    }
    assert.throws(
      () => new STEVE(new Third()),
      /'embed' and 'head' and 'third' share a weight\. There is no block for such a one yet/,
    );
    assert.throws(
      () => new STEVE(new Language(), { fisher: 'ggn', loss: 'crossEntropy' }),
      /fisher 'ggn': the weight of 'head' is an embedding's too: take 'sampled'/,
    );
  });

  law(t, 'a table that is used twice, and two tables, are uses of the same kind', () => {
    class Twice extends Language {
      readonly other = new Embedding(COUNT, 3, { dtype });
      readonly second: boolean;
      constructor(second: boolean) {
        super();
        this.second = second;
        this.other.weight = this.embed.weight;
      }
      override forward(x: Tensor): Tensor {
        const table = this.second ? this.other : this.embed;
        return this.head.call(this.middle.call(this.embed.call(x).add(table.call(x.mul(-1).add(5)))).tanh());
      }
    }
    const [one] = factorsOf(new Twice(false), data[0]!, ['head']);
    const [two] = factorsOf(new Twice(true), data[0]!, ['head']);
    mustBeClose(two!.A, one!.A, close);
    mustBeClose(two!.G, one!.G, close);
  });
  t.end();
});
