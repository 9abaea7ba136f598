// Rows that a loss does not count are no rows of the batch, and rows that it weighs count by that, for every Fisher.

import assert from 'node:assert/strict';
import { concat, Generator, oneHot, randint, randn, type Tensor, tensor, where } from '@otimes/core';
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
import { EKFAC, KFAC, type KroneckerOptions, STEVE } from '@otimes/optim';
import { CurvatureEstimate, type CurvatureOptions } from '@otimes/optim/curvature';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';

const FISHERS = ['empirical', 'sampled', 'ggn'] as const;
const SIDES = ['A', 'G'] as const;
const CLOSE = { rtol: 1e-10, atol: 1e-13 };
const [N, C, IN] = [7, 3, 4];
const o = (seed: number) => ({ dtype: 'float64', rng: new Generator(seed) }) as const;

const mlp = () => new Sequential(new Linear(IN, 5, o(1)), new Tanh(), new Linear(5, C, o(2)));
const PATHS = ['0', '2'];
const x = randn([N, IN], o(3));
const y = randint(0, C, [N], { rng: new Generator(4) });
/** Rows 2 and 5 are padding. */
const kept = tensor(new Int32Array([0, 1, 3, 4, 6]));
const padded = where(tensor([0, 0, 1, 0, 0, 1, 0]).eq(1), -100, y).astype('int32');
const IGNORE = { ignoreIndex: -100 };
const weight = tensor([0.5, 2, 3], { dtype: 'float64' });

type Lossy = (z: Tensor) => Tensor;

function factorsOf(model: Module<[Tensor], Tensor>, x: Tensor, lossOf: Lossy, options: CurvatureOptions) {
  const curvature = new CurvatureEstimate(model, { loss: 'crossEntropy', rng: new Generator(7), ...options });
  lossOf(model.call(x)).backward();
  curvature.add();
  curvature.detach();
  return curvature;
}

for (const reduction of ['mean', 'sum'] as const)
  for (const fisher of FISHERS)
    law(t, `${fisher}, ${reduction}: a batch with ignored rows has the factors of the batch without them`, () => {
      const own = { fisher, lossReduction: reduction };
      const all = factorsOf(mlp(), x, z => crossEntropy(z, padded, { ...IGNORE, reduction }), own);
      const some = factorsOf(
        mlp(),
        x.indexSelect(0, kept),
        z => crossEntropy(z, y.indexSelect(0, kept), { reduction }),
        own,
      );
      for (const path of PATHS)
        for (const side of SIDES) mustBeClose(all.factors(path)[side], some.factors(path)[side], CLOSE, path + side);
      assert.match(String(all), /'0' 5 × 5, 5 examples/);
    });

/** Rows of explicit sums: softmax, the layer's inputs with the homogeneous 1, and weights. */
function explicit(w: Tensor, fisher: 'empirical' | 'ggn') {
  const model = new Linear(IN, C, o(5));
  const p = model.call(x).softmax(1).detach();
  const columns =
    fisher === 'empirical'
      ? [p.sub(oneHot(y, C, { dtype: 'float64' })).mul(w.unsqueeze(1))]
      : Array.from({ length: C }, (_, c) => {
          const e = oneHot(tensor(new Int32Array(N).fill(c)), C, { dtype: 'float64' });
          return e.sub(p).mul(p.narrow(1, c, 1).mul(w.unsqueeze(1)).sqrt());
        });
  return {
    model,
    G: columns
      .map(h => h.transpose().matmul(h))
      .reduce((sum, h) => sum.add(h))
      .mul(1 / N),
  };
}

for (const fisher of ['empirical', 'ggn'] as const)
  for (const reduction of ['mean', 'sum'] as const)
    law(t, `${fisher}, ${reduction}: with weights of classes G is the explicit sum of weighted rows`, () => {
      const raw = weight.indexSelect(0, y);
      const r = reduction === 'mean' ? raw.mul(N).div(raw.sum()) : raw;
      const { model, G } = explicit(r, fisher);
      const found = factorsOf(model, x, z => crossEntropy(z, y, { weight, reduction }), {
        fisher,
        lossReduction: reduction,
      });
      mustBeClose(found.factors('').G, G, CLOSE);
      // Of 'none' and a mean of one's own it is the same.
      const own = factorsOf(
        model,
        x,
        z => {
          const sum = crossEntropy(z, y, { reduction: 'none' }).mul(raw).sum();
          return reduction === 'mean' ? sum.div(raw.sum()) : sum;
        },
        { fisher, lossReduction: reduction },
      );
      mustBeClose(own.factors('').G, G, CLOSE);
    });

law(t, "sampled: with weights of classes G is in the mean that of 'ggn'", () => {
  const model = new Linear(IN, C, o(5));
  const lossOf: Lossy = z => crossEntropy(z, padded, { ...IGNORE, weight });
  const { G } = factorsOf(model, x, lossOf, { fisher: 'ggn' }).factors('');
  const curvature = new CurvatureEstimate(model, { fisher: 'sampled', loss: 'crossEntropy', rng: new Generator(9) });
  for (let pass = 0; pass < 500; pass++) {
    lossOf(model.call(x)).backward();
    curvature.add();
  }
  mustBeClose(curvature.factors('').G, G, { rtol: 0.1, atol: 0.01 });
});

law(t, 'a weight of 2 is a row that is there twice, for the trace of ggn', () => {
  const model = new Linear(IN, C, o(5));
  const twice = concat([y, y.indexSelect(0, kept)]);
  const both = concat([x, x.indexSelect(0, kept)]);
  const counts = tensor([2, 2, 1, 2, 2, 1, 2], { dtype: 'float64' });
  const weighed = factorsOf(
    model,
    x,
    z => crossEntropy(z, y, { reduction: 'none' }).mul(counts).sum().div(counts.sum()),
    { fisher: 'ggn' },
  );
  const repeated = factorsOf(model, both, z => crossEntropy(z, twice), { fisher: 'ggn' });
  mustBeClose(weighed.factors('').G, repeated.factors('').G, CLOSE);
});

const OPTIMIZERS = {
  KFAC: (m: Module, more: KroneckerOptions) => new KFAC(m, { lr: 0.05, ...more }),
  EKFAC: (m: Module, more: KroneckerOptions) => new EKFAC(m, { lr: 0.05, ...more }),
  "EKFAC 'batch'": (m: Module, more: KroneckerOptions) => new EKFAC(m, { lr: 0.05, secondMoment: 'batch', ...more }),
  STEVE: (m: Module, more: KroneckerOptions) => new STEVE(m, { lr: 0.05, ...more }),
  "STEVE 'example'": (m: Module, more: KroneckerOptions) =>
    new STEVE(m, { lr: 0.05, secondMoment: 'example', ...more }),
};
for (const [name, make] of Object.entries(OPTIMIZERS))
  law(t, `${name} trains with padding rows as without, for every Fisher and both reductions`, () => {
    for (const fisher of FISHERS)
      for (const reduction of ['mean', 'sum'] as const) {
        const weights = [true, false].map(isPadded => {
          const model = mlp();
          const optimizer = make(model, {
            fisher,
            loss: 'crossEntropy',
            lossReduction: reduction,
            refreshEvery: 2,
            rng: new Generator(3),
          });
          for (let step = 0; step < 6; step++) {
            optimizer.zeroGrad();
            const inputs = x.add(0.1 * step);
            const loss = isPadded
              ? crossEntropy(model.call(inputs), padded, { ...IGNORE, reduction })
              : crossEntropy(model.call(inputs.indexSelect(0, kept)), y.indexSelect(0, kept), { reduction });
            loss.backward();
            optimizer.step();
          }
          return concat(model.parameters().map(p => p.detach().flatten()));
        });
        mustBeClose(weights[0]!, weights[1]!, { rtol: 1e-6, atol: 1e-8 }, `${fisher} ${reduction}`);
      }
  });

/** Words [B, T] through a table and a layer to logits in a shape. */
class Words extends Module<[words: Tensor], Tensor> {
  readonly table = new Embedding(6, IN, o(1));
  readonly h = new Linear(IN, C, o(2));
  readonly shaped: (z: Tensor) => Tensor;
  constructor(shaped: (z: Tensor) => Tensor) {
    super();
    this.shaped = shaped;
  }
  override forward(words: Tensor): Tensor {
    return this.shaped(this.h.call(this.table.call(words).tanh()));
  }
}

const [B, T] = [3, 4];
const words = randint(0, 6, [B, T], { rng: new Generator(6) });
const lengths = [2, 4, 3];
const real = lengths.flatMap((n, b) => Array.from({ length: n }, (_, i) => b * T + i));
const next = randint(0, C, [B, T], { rng: new Generator(8) });
const isReal = tensor(
  Array.from({ length: B * T }, (_, i) => Number(real.includes(i))),
  { shape: [B, T] },
).eq(1);
const paddedNext = where(isReal, next, -100).astype('int32');
const at = tensor(new Int32Array(real));

const SHAPES: Record<string, { shaped: (z: Tensor) => Tensor; lossOf: Lossy }> = {
  '[B·T, C]': { shaped: z => z.reshape(-1, C), lossOf: z => crossEntropy(z, paddedNext.flatten(), IGNORE) },
  '[B, C, T]': { shaped: z => z.transpose(1, 2), lossOf: z => crossEntropy(z, paddedNext, IGNORE) },
  '[B, T, C], flattened by the loss': {
    shaped: z => z,
    lossOf: z => crossEntropy(z.reshape(-1, C), paddedNext.flatten(), IGNORE),
  },
};
for (const [title, { shaped, lossOf }] of Object.entries(SHAPES))
  for (const fisher of FISHERS) {
    if (fisher !== 'empirical' && title.includes('flattened')) continue;
    law(t, `${fisher}, logits ${title}: padded positions are none, of a table and of a layer`, () => {
      const all = factorsOf(new Words(shaped), words, lossOf, { fisher });
      const model = new Words(z => z);
      const some = factorsOf(
        model,
        words.flatten().indexSelect(0, at),
        z => crossEntropy(z, next.flatten().indexSelect(0, at)),
        { fisher },
      );
      // The empirical Fisher's examples are the sequences, of which there are B.
      const by = fisher === 'empirical' ? B / real.length : 1;
      for (const path of ['table', 'h']) {
        mustBeClose(all.factors(path).A, some.factors(path).A, CLOSE, `${path} A`);
        mustBeClose(all.factors(path).G, some.factors(path).G.mul(by), CLOSE, `${path} G`);
      }
    });
  }

/** Examples [B, 2, 3, 3], as images or as nine tokens of two features, to one row each. */
const images = randn([N, 2, 3, 3], o(11));
const MODELS: Record<string, { make: () => Module<[Tensor], Tensor>; paths: readonly string[] }> = {
  'a convolution': {
    make: () => new Sequential(new Conv2d(2, 4, 2, o(1)), new Tanh(), new Flatten(), new Linear(16, C, o(2))),
    paths: ['0', '3'],
  },
  'attention, which reduces': {
    make: () => new Pooled(),
    paths: ['attention.q', 'attention.v', 'attention.o', 'head'],
  },
};
class Pooled extends Module<[x: Tensor], Tensor> {
  readonly attention = new MultiHeadAttention(2, 1, o(1));
  readonly head = new Linear(2, C, o(2));
  override forward(x: Tensor): Tensor {
    return this.head.call(this.attention.call(x.flatten(2).transpose(1, 2)).mean(1));
  }
}
for (const [title, { make, paths }] of Object.entries(MODELS))
  law(t, `${title}: examples whose labels are ignored are none`, () => {
    for (const fisher of FISHERS) {
      const all = factorsOf(make(), images, z => crossEntropy(z, padded, IGNORE), { fisher });
      const some = factorsOf(make(), images.indexSelect(0, kept), z => crossEntropy(z, y.indexSelect(0, kept)), {
        fisher,
      });
      for (const path of paths)
        for (const side of SIDES) mustBeClose(all.factors(path)[side], some.factors(path)[side], CLOSE, path + side);
    }
  });

law(t, 'rows to which a gradient of another loss comes count, though their labels are ignored', () => {
  const model = mlp();
  const lossOf: Lossy = z => crossEntropy(z, padded, IGNORE).add(z.square().mean());
  assert.match(String(factorsOf(model, x, lossOf, { fisher: 'empirical' })), /, 7 examples/);
});

law(t, 'two losses of one output: rows count by the sum of what both say', () => {
  const model = new Linear(IN, C, o(5));
  const both = factorsOf(model, x, z => crossEntropy(z, padded, IGNORE).add(crossEntropy(z, y)), { fisher: 'ggn' });
  const r = tensor(
    Array.from({ length: N }, (_, i) => (i === 2 || i === 5 ? 1 / N : 1 / N + 1 / 5)),
    {
      dtype: 'float64',
    },
  );
  mustBeClose(both.factors('').G, explicit(r.mul(N).div(r.sum()), 'ggn').G, CLOSE);
});

law(t, 'a batch of ignored labels alone is an empty one, and says so', () => {
  for (const fisher of FISHERS) {
    const model = mlp();
    const optimizer = new KFAC(model, { fisher, loss: 'crossEntropy', lossReduction: 'sum' });
    const none = y.mul(0).sub(100).astype('int32');
    crossEntropy(model.call(x), none, { ...IGNORE, reduction: 'sum' }).backward();
    assert.throws(() => optimizer.step(), /the batch of .* is empty/);
  }
});

law(t, 'where logits are read with await, ignored labels are refused, and weights but for the empirical Fisher', () => {
  const { device } = laterDevice();
  for (const fisher of FISHERS) {
    const model = mlp().to(device);
    const curvature = new CurvatureEstimate(model, { fisher, loss: 'crossEntropy' });
    const z = model.call(x.to(device));
    const refused = /fisher: crossEntropy's ignoreIndex and weight on '.*', which is read with await/;
    assert.throws(() => crossEntropy(z, padded.to(device), IGNORE), refused);
    const weighed = () => crossEntropy(z, y.to(device), { weight: weight.to(device) });
    if (fisher === 'empirical') weighed().backward();
    else assert.throws(weighed, refused);
    crossEntropy(model.call(x.to(device)), y.to(device)).backward();
    curvature.add();
  }
});
