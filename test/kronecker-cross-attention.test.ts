// Attention across sequences, and the layers of transformers, as Kronecker blocks: against exact Fisher and Gauss–Newton blocks.

import assert from 'node:assert/strict';
import { randint, randn, type Tensor } from '@otimes/core';
import {
  crossEntropy,
  Linear,
  Module,
  MultiHeadAttention,
  TransformerDecoderLayer,
  TransformerEncoderLayer,
} from '@otimes/nn';
import { attentionCollector, KFAC, linearCollector, STEVE } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { random } from './helpers/attention.ts';
import { law, overSeeds } from './helpers/law.ts';
import { empiricalFisher, exampleGradients, gaussNewton, kronecker, type Net, statistics } from './suites/exactness.ts';

/** The first `queries` positions of x [B, T + S, 4] attend to the others, and a linear head reads the mean. */
class Across extends Module {
  readonly attention: MultiHeadAttention;
  readonly head: Linear;
  readonly #queries: number;
  constructor(o: ReturnType<typeof random>, queries: number, classes = 3) {
    super();
    this.attention = new MultiHeadAttention(4, 2, o);
    this.head = new Linear(4, classes, o);
    this.#queries = queries;
  }
  override forward(x: Tensor): Tensor {
    const [q, kv] = [x.narrow(1, 0, this.#queries), x.narrow(1, this.#queries, x.shape[1]! - this.#queries)];
    return this.head.call(this.attention.call(q, kv, kv).mean(1));
  }
}

const across = (seed: number, batch: number, queries: number, keys: number): Net & { model: Across } => {
  const o = random(seed);
  const model = new Across(o, queries);
  const x = randn([batch, queries + keys, 4], o);
  return { model, x, y: randint(0, 3, [batch], { rng: o.rng }), loss: 'crossEntropy' };
};

law(
  t,
  'attention across: q, k, v and o are the blocks of the linear collector, each with the positions it sees',
  () => {
    const net = across(2, 5, 3, 6);
    for (const sharing of ['expand', 'reduce'] as const) {
      const ours = statistics(net, { sharing, collectors: [attentionCollector, linearCollector] });
      const theirs = statistics(net, { sharing, collectors: [linearCollector] });
      assert.deepEqual(
        ours.map(state => state.block.path),
        ['attention.q', 'attention.k', 'attention.v', 'attention.o', 'head'],
      );
      ours.forEach((state, i) => {
        for (const name of ['A', 'G'] as const) mustBeClose(state[name]!, theirs[i]![name]!, { rtol: 0, atol: 0 });
      });
    }
  },
);

law(
  t,
  'one example with one query: A ⊗ G of q and o is the empirical Fisher block; with one key that of k and v, too',
  () => {
    overSeeds(8, seed => {
      for (const keys of [1, 3]) {
        const { model, x, y, loss } = across(seed, 1, 1, keys);
        const states = statistics({ model, x, y, loss }).filter(s => keys === 1 || /[qo]$|head/.test(s.block.path));
        assert.equal(states.length, keys === 1 ? 5 : 3);
        for (const state of states)
          mustBeClose(kronecker(state), empiricalFisher(exampleGradients(model, state, x, y, loss)), { atol: 1e-14 });
      }
    });
  },
);

law(t, 'attention across under mean pooling and a linear head, mean squared error: reduce is exact for o', () => {
  overSeeds(8, seed => {
    const o = random(seed);
    const net: Net = { model: new Across(o, 2, 2), x: randn([3, 5, 4], o), y: randn([3, 2], o), loss: 'mse' };
    for (const state of statistics(net, { fisher: 'ggn', loss: 'mse' }).filter(s => /o$|head/.test(s.block.path)))
      mustBeClose(
        kronecker(state),
        gaussNewton(net.model, state, net.x, 'mse'),
        { rtol: 1e-9, atol: 1e-13 },
        state.label,
      );
  });
});

law(t, 'Σ_s ∂L/∂k_s = 0 across, too: k takes expand’s G', () => {
  const { model, x, y } = across(3, 5, 2, 4);
  const optimizer = new KFAC(model, { lr: 0 });
  crossEntropy(model.call(x), y).backward();
  optimizer.step();
  const sharing = Object.fromEntries(optimizer.describe().map(row => [row.path, row.sharing]));
  assert.equal(sharing['attention.k'], 'reduce, G expanded');
  assert.equal(sharing['attention.v'], 'reduce');
});

/** A decoder layer over a target and a memory, both cut from x [B, 3 + 4, 4]. */
class Decoding extends Module {
  readonly encoder: TransformerEncoderLayer;
  readonly decoder: TransformerDecoderLayer;
  readonly head: Linear;
  readonly #batchFirst: boolean;
  constructor(o: ReturnType<typeof random>, batchFirst: boolean) {
    super();
    const options = { ...o, dimFeedforward: 6, dropout: 0, batchFirst };
    this.encoder = new TransformerEncoderLayer(4, 2, options);
    this.decoder = new TransformerDecoderLayer(4, 2, options);
    this.head = new Linear(4, 3, o);
    this.#batchFirst = batchFirst;
  }
  override forward(x: Tensor): Tensor {
    const order = (one: Tensor) => (this.#batchFirst ? one : one.transpose(0, 1));
    const memory = this.encoder.call(order(x.narrow(1, 3, 4)));
    const y = this.decoder.call(order(x.narrow(1, 0, 3)), memory, { tgtCausal: true });
    return this.head.call(order(y).mean(1));
  }
}

law(
  t,
  'all matrices of encoder and decoder layers are blocks, with the same statistics whichever axis the batch is',
  () => {
    const [first, second] = [true, false].map(batchFirst => {
      const o = random(4);
      const model = new Decoding(o, batchFirst);
      const x = randn([5, 7, 4], o);
      return statistics({ model, x, y: randint(0, 3, [5], { rng: o.rng }), loss: 'crossEntropy' });
    });
    const attention = (path: string) => ['q', 'k', 'v', 'o'].map(name => `${path}.${name}`);
    assert.deepEqual(
      first!.map(state => state.block.path),
      [
        ...attention('encoder.attention'),
        'encoder.linear1',
        'encoder.linear2',
        ...attention('decoder.attention'),
        ...attention('decoder.crossAttention'),
        'decoder.linear1',
        'decoder.linear2',
        'head',
      ],
    );
    first!.forEach((state, i) => {
      for (const name of ['A', 'G'] as const)
        mustBeClose(state[name]!, second![i]![name]!, { rtol: 1e-12, atol: 1e-16 }, state.block.path);
    });
  },
);

law(t, 'STEVE trains an encoder and a decoder', () => {
  const o = random(5);
  const model = new Decoding(o, true);
  const optimizer = new STEVE(model, { lr: 0.02 });
  const [x, y] = [randn([16, 7, 4], o), randint(0, 3, [16], { rng: o.rng })];
  const losses = Array.from({ length: 30 }, () => {
    optimizer.zeroGrad();
    const loss = crossEntropy(model.call(x), y);
    loss.backward();
    void optimizer.step();
    return loss.item();
  });
  assert.ok(losses.at(-1)! < 0.5 * losses[0]!, losses.join(' '));
});
