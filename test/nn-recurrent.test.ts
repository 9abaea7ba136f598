// RNN, LSTM, GRU and their cells = PyTorch; what sequences, directions, layers and lengths mean.

import assert from 'node:assert/strict';
import { Generator, grad, noGrad, randn, type Tensor, tensor } from '@otimes/core';
import {
  crossEntropy,
  GRU,
  GRUCell,
  LSTM,
  LSTMCell,
  lstmLanguageModel,
  type RecurrentLayerOptions,
  RNN,
  RNNCell,
} from '@otimes/nn';
import { Adam } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { golden, type Stored, stored, within } from './helpers/golden.ts';
import { law } from './helpers/law.ts';

const float64 = { dtype: 'float64' } as const;
const layers = { RNN, LSTM, GRU };
const cells = { RNNCell, LSTMCell, GRUCell };
type Kind = keyof typeof layers;
type Case = {
  kind: Kind | `${Kind}Cell`;
  sizes: [number, number];
  options: Record<string, unknown>;
  shape: number[];
  lengths: number[] | null;
  keys: Record<string, number[]>;
  results: Stored[];
  gradients: number[][];
};
const torch = golden<{ cases: Case[] }>('torch-recurrent');

/** As test/golden/torch-recurrent.py has them. */
function waves() {
  let i = 0;
  return (shape: readonly number[]): Tensor => {
    const at = i++;
    const size = shape.reduce((product, n) => product * n, 1);
    const data = Array.from({ length: size }, (_, j) => 0.5 * Math.sin(0.7 * j + 1.3 * at));
    return tensor(data, { ...float64, shape, requiresGrad: true });
  };
}

const camel = (name: string) => name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());

/** A layer of any kind on x: the output and the states after it, one after the other. */
type Runs = (x: Tensor, states: Tensor[] | null, lengths?: readonly number[] | Tensor | null) => Tensor[];

function runs(layer: RNN | LSTM | GRU): Runs {
  if (layer instanceof LSTM)
    return (x, states, lengths) => {
      const [y, [h, c]] = layer.call(x, states as [Tensor, Tensor] | null, lengths);
      return [y, h, c];
    };
  return (x, states, lengths) => layer.call(x, states && states[0]!, lengths);
}

function runsCell(cell: RNNCell | LSTMCell | GRUCell): (x: Tensor, states: Tensor[] | null) => Tensor[] {
  if (cell instanceof LSTMCell) return (x, states) => [...cell.call(x, states as [Tensor, Tensor] | null)];
  return (x, states) => [cell.call(x, states && states[0]!)];
}

for (const one of torch.cases) {
  const { kind, sizes, shape, lengths } = one;
  const options = Object.fromEntries(Object.entries(one.options).map(([name, value]) => [camel(name), value]));
  law(t, `${kind} ${JSON.stringify(one.options)} of [${shape}]${lengths ? ' with lengths' : ''} = PyTorch`, () => {
    const wave = waves();
    const module = kind.endsWith('Cell')
      ? new cells[kind as `${Kind}Cell`](...sizes, { ...options, ...float64 })
      : new layers[kind as Kind](...sizes, { ...options, ...float64 });
    const state = module.stateDict();
    assert.deepEqual(Object.fromEntries(Object.entries(state).map(([name, x]) => [name, x.shape])), one.keys);
    module.loadStateDict(Object.fromEntries(Object.entries(state).map(([name, x]) => [name, wave(x.shape).detach()])));
    const x = wave(shape);
    const count = module.constructor.name.startsWith('LSTM') ? 2 : 1;
    const states = Array.from({ length: count }, () => wave(one.results.at(-1)!.shape));
    const results =
      module instanceof RNN || module instanceof LSTM || module instanceof GRU
        ? runs(module)(x, states, lengths)
        : runsCell(module)(x, states);
    for (const [i, y] of results.entries()) mustBeClose(y, stored(one.results[i]!), within(1e-11));
    const loss = results.map(y => y.mul(wave(y.shape).detach()).sum()).reduce((a, b) => a.add(b));
    const leaves = [...module.parameters(), x, ...states];
    for (const [i, g] of grad(loss, leaves).entries())
      mustBeClose(g, tensor(one.gradients[i]!, { ...float64, shape: leaves[i]!.shape }), within(1e-10));
  });
}

const KINDS = ['RNN', 'LSTM', 'GRU'] as const;
const made = (kind: Kind, o: RecurrentLayerOptions = {}) =>
  new layers[kind](3, 4, { ...float64, rng: new Generator(1), ...o });
const drawn = (...shape: number[]) => randn(shape, { ...float64, rng: new Generator(2) });
const close = (a: readonly Tensor[], b: readonly Tensor[]) => {
  assert.equal(a.length, b.length);
  for (const [i, x] of a.entries()) mustBeClose(x, b[i]!, within(1e-12));
};

for (const kind of KINDS) {
  law(t, `${kind}: a sequence of its own, cut at its length, is the row of a batch with lengths`, () => {
    const run = runs(made(kind, { numLayers: 2, bidirectional: true }));
    const x = drawn(5, 3, 3);
    const lengths = [2, 5, 3];
    const states = ['h', 'c'].slice(0, kind === 'LSTM' ? 2 : 1).map(() => drawn(4, 3, 4));
    const [y, ...ends] = run(x, states, lengths);
    for (const [b, n] of lengths.entries()) {
      const own = (s: Tensor) => s.narrow(1, b, 1);
      const [alone, ...last] = run(own(x).narrow(0, 0, n), states.map(own));
      close([own(y!).narrow(0, 0, n), ...ends.map(own)], [alone!, ...last]);
      assert.ok(
        own(y!)
          .narrow(0, n, 5 - n)
          .eq(0)
          .all()
          .item(),
      );
    }
    close(run(x, states, tensor(lengths, { dtype: 'int32' })), [y!, ...ends]);
  });

  law(t, `${kind}: no step of a sequence leaves its states, and all lengths = T is no lengths`, () => {
    const run = runs(made(kind));
    const states = ['h', 'c'].slice(0, kind === 'LSTM' ? 2 : 1).map(() => drawn(1, 2, 4));
    const [y, ...ends] = run(drawn(3, 2, 3), states, [0, 3]);
    for (const [i, end] of ends.entries()) close([end.narrow(1, 0, 1)], [states[i]!.narrow(1, 0, 1)]);
    assert.ok(y!.narrow(1, 0, 1).eq(0).all().item());
    close(run(drawn(3, 2, 3), states, [3, 3]), run(drawn(3, 2, 3), states));
    const [none, ...same] = run(drawn(0, 2, 3), states);
    assert.deepEqual(none!.shape, [0, 2, 4]);
    close(same, states);
  });

  law(t, `${kind}: what lies behind a sequence's end has no gradient and no effect`, () => {
    const run = runs(made(kind, { bidirectional: true }));
    const x = drawn(4, 2, 3);
    x.requiresGrad = true;
    const [y, h] = run(x, null, [2, 4]);
    const [gx] = grad(y!.square().sum().add(h!.sum()), [x]);
    assert.ok(gx!.narrow(1, 0, 1).narrow(0, 2, 2).eq(0).all().item());
    const other = noGrad(() => x.detach().clone());
    noGrad(() =>
      other
        .narrow(1, 0, 1)
        .narrow(0, 2, 2)
        .copy_(drawn(2, 1, 3).mul(1e6)),
    );
    close(run(other, null, [2, 4]), [y!, ...run(x, null, [2, 4]).slice(1)]);
  });

  law(
    t,
    `${kind}: the last state of one part of a sequence is the first of the next; batchFirst turns two axes`,
    () => {
      const layer = made(kind, { numLayers: 2 });
      const run = runs(layer);
      const x = drawn(5, 2, 3);
      const [y, ...ends] = run(x, null);
      const [y1, ...middle] = run(x.narrow(0, 0, 2), null);
      const [y2, ...last] = run(x.narrow(0, 2, 3), middle);
      close([y1!, y2!, ...last], [y!.narrow(0, 0, 2), y!.narrow(0, 2, 3), ...ends]);
      const turned = made(kind, { numLayers: 2, batchFirst: true });
      turned.loadStateDict(layer.stateDict());
      const [z, ...same] = runs(turned)(x.transpose(0, 1), null);
      close([z!.transpose(0, 1), ...same], [y!, ...ends]);
    },
  );

  law(t, `${kind} is its cell, step by step`, () => {
    const layer = made(kind);
    const cell = new cells[`${kind}Cell`](3, 4, float64);
    const names = ['weight_ih', 'weight_hh', 'bias_ih', 'bias_hh'];
    const state = layer.stateDict();
    cell.loadStateDict(Object.fromEntries(names.map(name => [name, state[`${name}_l0`]!])));
    const x = drawn(4, 2, 3);
    const [y, ...ends] = runs(layer)(x, null);
    let states: Tensor[] | null = null;
    for (let step = 0; step < 4; step++) {
      states = runsCell(cell)(x.narrow(0, step, 1).squeeze(0), states);
      close([states[0]!], [y!.narrow(0, step, 1).squeeze(0)]);
    }
    close(
      states!,
      ends.map(end => end.squeeze(0)),
    );
  });

  law(t, `${kind}: weights start uniform in ±1/√hidden, and a seed repeats them`, () => {
    const layer = new layers[kind](30, 25, { rng: new Generator(3), numLayers: 2 });
    const again = new layers[kind](30, 25, { rng: new Generator(3), numLayers: 2 });
    for (const [name, p] of layer.namedParameters()) {
      assert.ok(p.abs().max().item() <= 0.2);
      assert.ok(p.abs().max().item() > 0.18);
      assert.deepEqual(p.toArray(), again.namedParameters().get(name)!.toArray());
    }
  });
}

law(t, 'what a layer makes on its way goes with its graph, and its results stay', () => {
  for (const kind of KINDS) {
    const layer = made(kind, { numLayers: 2, bidirectional: true });
    const seen: Tensor[] = [];
    const handle = layer.onProducts(({ products, states }) => void seen.push(products, states));
    const results = runs(layer)(drawn(3, 2, 3), null);
    assert.equal(seen.length, 8);
    assert.ok(seen.every(x => !x.storage.released));
    results
      .map(y => y.square().sum())
      .reduce((a, b) => a.add(b))
      .backward();
    assert.ok(seen.every(x => x.storage.released));
    assert.ok(results.every(y => !y.storage.released));
    handle.remove();
    noGrad(() => runs(layer)(drawn(3, 2, 3), null));
    assert.equal(seen.length, 8);
  }
});

law(t, 'dropout acts between layers, in training alone', () => {
  const layer = made('LSTM', { numLayers: 2, dropout: 0.5 });
  const x = drawn(3, 2, 3);
  const train = [0, 1].map(() => layer.call(x)[0]);
  assert.ok(train[0]!.sub(train[1]!).abs().max().item() > 1e-3);
  layer.eval();
  close([layer.call(x)[0]], [layer.call(x)[0]]);
  const one = made('LSTM', { dropout: 0.5 });
  close([one.call(x)[0]], [one.call(x)[0]]);
});

law(t, 'the language model begins at log(vocabulary) and learns a sequence, its weights tied or not', () => {
  for (const tieWeights of [false, true]) {
    const rng = new Generator(5);
    const model = lstmLanguageModel({ vocabulary: 5, dim: 12, hidden: 12, layers: 2, tieWeights, rng, dropout: 0.1 });
    const keys = ['encoder.weight', 'rnn.weight_ih_l0', 'rnn.bias_hh_l1', 'decoder.weight', 'decoder.bias'];
    for (const key of keys) assert.ok(Object.hasOwn(model.stateDict(), key), key);
    assert.equal(model.decoder.weight === model.encoder.weight, tieWeights);
    const words = tensor(
      [
        [0, 1, 2, 3, 4, 0, 1, 2],
        [3, 4, 0, 1, 2, 3, 4, 0],
      ],
      { dtype: 'int32' },
    );
    const next = tensor(
      [
        [1, 2, 3, 4, 0, 1, 2, 3],
        [4, 0, 1, 2, 3, 4, 0, 1],
      ],
      { dtype: 'int32' },
    );
    const optimizer = new Adam(model.parameters(), { lr: 0.02 });
    const losses: number[] = [];
    for (let step = 0; step < 60; step++) {
      const [logits] = model.call(words);
      const loss = crossEntropy(logits.flatten(0, 1), next.flatten());
      losses.push(loss.item());
      optimizer.zeroGrad();
      loss.backward();
      optimizer.step();
    }
    assert.ok(Math.abs(losses[0]! - Math.log(5)) < 0.1, `${losses[0]}`);
    assert.ok(losses.at(-1)! < 0.3, `${losses.at(-1)}`);
  }
});

law(t, 'what does not fit is refused with what was expected', () => {
  const lstm = new LSTM(3, 4);
  const x = randn([5, 2, 3]);
  const refused: [() => unknown, RegExp][] = [
    [() => lstm.call(randn([5, 2, 4])), /^LSTM: expected an input \[T, B, 3\] or \[T, 3\], got float32\[5,2,4\]$/],
    [() => lstm.call(x, [randn([1, 2, 4]), randn([1, 2, 3])]), /^LSTM: expected c0 \[1, 2, 4\], got float32\[1,2,3\]$/],
    [() => lstm.call(x, randn([1, 2, 4]) as never), /^LSTM: expected the state to be a pair of tensors \[h, c\], got/],
    [() => new GRU(3, 4).call(x, randn([2, 4])), /^GRU: expected h0 \[1, 2, 4\], got float32\[2,4\]$/],
    [() => lstm.call(x, null, [1, 6]), /^lstm: length 6 at position 1 is out of range 0 … 5$/],
    [() => lstm.call(x, null, [1]), /^lstm: expected lengths \[2\], one for each sequence, got int32\[1\]$/],
    [() => lstm.call(x, null, [1, 0.5]), /lengths to be an array of integers, or an int32 tensor/],
    [
      () => new RNN(3, 4, { nonlinearity: 'gelu' as never }),
      /^RNN: expected nonlinearity to be 'tanh' or 'relu', got 'gelu'/,
    ],
    [() => new RNN(3, 0), /^RNN: expected hiddenSize to be an integer ≥ 1, got 0/],
    [() => new LSTM(3, 4, { projSize: 2 } as never), /projSize/],
    [() => new GRUCell(3, 4).call(randn([2, 4])), /^GRUCell: expected an input \[B, 3\] or \[3\], got float32\[2,4\]$/],
    [
      () => lstmLanguageModel({ vocabulary: 5, dim: 2, hidden: 3, layers: 1, tieWeights: true }),
      /expected dim to be hidden with tieWeights, got 2 and 3/,
    ],
  ];
  for (const [run, says] of refused)
    assert.throws(run, ({ message }: Error) => says.test(message) || assert.fail(message));
});
