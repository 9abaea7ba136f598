// Attention as Kronecker blocks: against exact Fisher and Gauss–Newton blocks.

import assert from 'node:assert/strict';
import { randn, type Tensor } from '@otimes/core';
import { crossEntropy, Linear, MultiHeadAttention, Sequential } from '@otimes/nn';
import {
  attentionCollector,
  KFAC,
  type KroneckerOptions,
  type KroneckerPreconditioner,
  linearCollector,
  type Sharing,
  STEVE,
} from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { attentionNet, random } from './helpers/attention.ts';
import { law, overSeeds } from './helpers/law.ts';
import {
  empiricalFisher,
  exampleGradients,
  gaussNewton,
  kronecker,
  type Net,
  Pool,
  statistics,
} from './suites/exactness.ts';

t.test('attention', t => {
  const sharings = (optimizer: KroneckerPreconditioner) =>
    Object.fromEntries(optimizer.describe().map(({ path, sharing }) => [path, sharing]));

  law(t, 'q, k, v and o are blocks with reduce unless the user says expand; positions go to rest', () => {
    const { model } = attentionNet(1, 2);
    const rows = (o: KroneckerOptions) => {
      const optimizer = new STEVE(model, o);
      optimizer.detach();
      return optimizer
        .describe()
        .map(({ path, collector, shape, sharing, parameters }) => ({ path, collector, shape, sharing, parameters }));
    };
    const block = (name: string, sharing: Sharing) => ({
      path: `attn.${name}`,
      collector: 'attention',
      shape: [4, 5],
      sharing,
      parameters: [`attn.${name}.weight`, `attn.${name}.bias`],
    });
    assert.deepEqual(rows({}), [
      ...['q', 'k', 'v', 'o'].map(name => block(name, 'reduce')),
      { path: 'head', collector: 'linear', shape: [3, 5], sharing: 'expand', parameters: ['head.weight', 'head.bias'] },
      { path: 'pos', collector: 'rest', shape: [4, 4], sharing: null, parameters: ['pos'] },
    ]);
    assert.deepEqual(
      rows({ sharing: 'expand' }).slice(0, 4),
      ['q', 'k', 'v', 'o'].map(name => block(name, 'expand')),
    );
    assert.deepEqual(
      new STEVE(new MultiHeadAttention(4, 2)).describe().map(({ path }) => path),
      ['q', 'k', 'v', 'o'],
    );
    model.attn.k.weight.requiresGrad = false;
    model.attn.v.bias!.requiresGrad = false;
    assert.deepEqual(
      rows({}).map(({ path, shape }) => [path, shape]),
      [
        ['attn.q', [4, 5]],
        ['attn.v', [4, 4]],
        ['attn.o', [4, 5]],
        ['head', [3, 5]],
        ['pos', [4, 4]],
        ['attn.k.bias', [4]],
      ],
    );
  });

  law(t, 'Σ_t ∂L/∂k_t = 0, so k takes expand’s G, and describe() says so', () => {
    overSeeds(8, seed => {
      const { model, x, y } = attentionNet(seed, 5);
      const optimizer = new KFAC(model, { lr: 0 });
      const keys: Tensor[] = [];
      model.attn.k.onForward((_, __, k) => void (k as Tensor).onGrad(gy => void keys.push(gy.clone())));
      crossEntropy(model.call(x), y).backward();
      optimizer.step();
      assert.deepEqual(sharings(optimizer), {
        'attn.q': 'reduce',
        'attn.k': 'reduce, G expanded',
        'attn.v': 'reduce',
        'attn.o': 'reduce',
        head: 'expand',
        pos: null,
      });
      assert.ok(keys[0]!.sum(1).norm().item() < 1e-12 * keys[0]!.norm().item());
      const g = keys[0]!.mul(5).reshape([-1, 4]);
      mustBeClose(optimizer.inspect('attn.k').G!, g.transpose().matmul(g).div(5), { rtol: 1e-10, atol: 1e-20 });
    });
  });

  law(t, 'the four blocks are those of the linear collector', () => {
    const net = attentionNet(2, 5);
    for (const sharing of ['expand', 'reduce'] as const) {
      const ours = statistics(net, { sharing, collectors: [attentionCollector] });
      const theirs = statistics(net, { sharing, collectors: [linearCollector] });
      ours.forEach((state, i) => {
        assert.equal(state.block.path, theirs[i]!.block.path);
        for (const name of ['A', 'G'] as const) mustBeClose(state[name]!, theirs[i]![name]!, { rtol: 0, atol: 0 });
      });
    }
  });

  law(t, 'one example of one token: A ⊗ G is the empirical Fisher block', () => {
    overSeeds(8, seed => {
      const { model, x, y, loss } = attentionNet(seed, 1, 1);
      for (const state of statistics({ model, x, y, loss }))
        mustBeClose(kronecker(state), empiricalFisher(exampleGradients(model, state, x, y, loss)), { atol: 1e-14 });
    });
  });

  law(t, 'the output projection under mean pooling and a linear head, mean squared error: reduce is exact', () => {
    overSeeds(8, seed => {
      const o = random(seed);
      const model = new Sequential(new MultiHeadAttention(4, 2, o), new Pool('mean'), new Linear(4, 2, o));
      const net: Net = { model, x: randn([3, 4, 4], o), y: randn([3, 2], o), loss: 'mse' };
      for (const state of statistics(net, { fisher: 'ggn', loss: 'mse' }).filter(s =>
        ['0.o', '2'].includes(s.block.path),
      ))
        mustBeClose(
          kronecker(state),
          gaussNewton(model, state, net.x, 'mse'),
          { rtol: 1e-9, atol: 1e-13 },
          state.label,
        );
    });
  });
  t.end();
});
