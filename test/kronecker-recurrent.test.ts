// Recurrent layers as Kronecker blocks: the contract, the factors as explicit sums, exact blocks, lengths, and training.

import assert from 'node:assert/strict';
import {
  concat,
  Generator,
  grad,
  gru,
  type Lengths,
  lstm,
  noGrad,
  randn,
  rnn,
  type Tensor,
  tensor,
  zeros,
} from '@otimes/core';
import { crossEntropy, GRU, GRUCell, type Layers, Linear, LSTM, LSTMCell, Module, RNN, RNNCell } from '@otimes/nn';
import { Adam, EKFAC, KFAC, type Optimizer, recurrentCollector, STEVE } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { DEVICES } from './helpers/devices.ts';
import { law, overSeeds } from './helpers/law.ts';
import { blocksOf, factorsOn, gaussNewton, kronecker, type Net, statistics } from './suites/exactness.ts';

const dtype = 'float64';
const KINDS = ['RNN', 'LSTM', 'GRU'] as const;
type Kind = (typeof KINDS)[number];
const layers = { RNN, LSTM, GRU };
const cells = { RNN: RNNCell, LSTM: LSTMCell, GRU: GRUCell };
const GATES = { RNN: [''], LSTM: ['.i', '.f', '.g', '.o'], GRU: ['.r', '.z', '.n'] };

/** The output of a recurrent layer and a linear one on it. */
class Tagger extends Module {
  readonly rnn: Layers[Kind];
  readonly head: Linear;
  readonly #lengths: Lengths | null;
  constructor(
    layer: Layers[Kind],
    rng: Generator,
    { lengths, classes = 2 }: { lengths?: Lengths; classes?: number } = {},
  ) {
    super();
    this.rnn = layer;
    const { dtype } = layer.parameters()[0]!;
    this.head = new Linear(layer.hiddenSize * (layer.bidirectional ? 2 : 1), classes, { rng, dtype });
    this.#lengths = lengths ?? null;
  }
  override forward(x: Tensor): Tensor {
    return this.head.call(this.rnn.call(x, null, this.#lengths)[0]);
  }
}

const net = (kind: Kind, seed: number, o: object = {}, lengths?: Lengths, shape = [3, 4, 2]): Net => {
  const rng = new Generator(seed);
  const model = new Tagger(new layers[kind](2, 3, { batchFirst: true, dtype, rng, ...o }), rng, lengths && { lengths });
  const [x, y] = [randn(shape, { dtype, rng }), randn([...shape.slice(0, 2), 2], { dtype, rng })];
  return { model, x, y, loss: 'mse' };
};

/** Σ_b Σ_t g_bt a_btᵀ over what the uses of a block bring. */
function summed({ model, x }: Net): void {
  const blocks = [...model.namedModules()].flatMap(
    ([path, module]) => recurrentCollector.collect(module, path, { sharing: undefined }) ?? [],
  );
  assert.ok(blocks.length > 0);
  const sums = new Map<string, Tensor>();
  const handles = blocks.map(block =>
    block.listen!(
      (_, output, canonical) =>
        void output.onGrad(gy => {
          const { a, g } = noGrad(() => canonical(gy));
          assert.deepEqual([a.shape[0], a.shape[1]], [g.shape[0], g.shape[1]]);
          const sum = g
            .reshape([-1, block.dOut])
            .transpose()
            .matmul(a.reshape([-1, block.dIn]));
          sums.set(block.path, sums.get(block.path)?.add(sum) ?? sum);
        }),
    ),
  );
  model.call(x).square().sum().backward();
  for (const handle of handles) handle.remove();
  for (const block of blocks)
    mustBeClose(sums.get(block.path)!.detach(), block.gradient()!, { rtol: 1e-10, atol: 1e-12 }, block.path);
}

for (const kind of KINDS)
  law(
    t,
    `${kind}: the gradient of each block is Σ g aᵀ, in layers, directions, of lengths, with a bias or without`,
    () => {
      for (const bias of [true, false])
        for (const bidirectional of [true, false]) {
          const o = { numLayers: 2, bias, bidirectional };
          summed(net(kind, 1, o));
          summed(net(kind, 2, o, [2, 4, 1]));
          summed(net(kind, 2, o, tensor([2, 0, 4], { dtype: 'int32' })));
        }
    },
  );

/** What the operation of core makes of `layer`'s weights, with `extra` added to the products of the inputs. */
function operation(
  kind: Kind,
  { ih, hh, biasIh, biasHh }: ReturnType<LSTM['weightsOf']>,
  x: Tensor,
  extra: Tensor,
  lengths: Lengths | null,
) {
  const bias = kind === 'GRU' ? biasIh! : biasIh!.add(biasHh!);
  const p = x.transpose(0, 1).matmul(ih.transpose()).add(bias).add(extra);
  const o = { lengths };
  return {
    p,
    states: kind === 'LSTM' ? lstm(p, hh, o).states : (kind === 'GRU' ? gru(p, hh, biasHh, o) : rnn(p, hh, o)).states,
  };
}

for (const kind of KINDS)
  for (const lengths of [null, [2, 4, 1]])
    law(
      t,
      `${kind}: expand's A is the mean over all steps${lengths ? ' but padded ones' : ''}, G the sum over steps in the mean over examples`,
      () => {
        overSeeds(2, seed => {
          const one = net(kind, seed, {}, lengths ?? undefined);
          const { rnn: layer, head } = one.model as Tagger;
          const found = new Map(statistics(one).map(state => [state.block.path, state]));
          const weights = layer.weightsOf(0);
          const [B, T, n] = [3, 4, 3];
          const extra = zeros([T, B, weights.ih.shape[0]!], { dtype, requiresGrad: true });
          const { p, states } = operation(kind, weights, one.x, extra, lengths);
          const y = head.call(states.narrow(0, 0, T)).transpose(0, 1);
          // Of one example's loss, which is not divided by the batch.
          const [g] = grad(y.sub(one.y).square().mean().mul(B), [extra]);
          const before = concat([zeros([1, B, n], { dtype }), states.narrow(0, 0, T - 1)]).detach();
          // The states' products of a GRU come behind its reset gate.
          const q = before.matmul(weights.hh.transpose()).add(weights.biasHh!).detach();
          const reset = p.detach().add(q).narrow(2, 0, n).sigmoid();
          const real = lengths ?? [T, T, T];
          for (const [name, a] of [['ih', one.x.transpose(0, 1)] as const, ['hh', before] as const])
            for (const [k, gate] of GATES[kind].entries()) {
              const state = found.get(`rnn.${name}_l0${gate}`)!;
              const own = g!.narrow(2, k * n, n).mul(name === 'hh' && gate === '.n' ? reset : 1);
              const rows = real.flatMap((length, b) =>
                Array.from({ length }, (_, t) => [...a.slice(t, b).dataSync(), 1]),
              );
              const A = tensor(rows, { dtype });
              mustBeClose(
                state.A!,
                A.transpose().matmul(A).div(rows.length),
                { rtol: 1e-10, atol: 1e-12 },
                state.label,
              );
              const G = own.reshape([-1, n]);
              mustBeClose(state.G!, G.transpose().matmul(G).div(B), { rtol: 1e-9, atol: 1e-13 }, state.label);
            }
        });
      },
    );

law(t, 'where steps do not meet and nothing bends, the blocks of a layer are exact Gauss–Newton blocks', () => {
  overSeeds(3, seed => {
    const one = net('RNN', seed, { nonlinearity: 'relu' });
    const { rnn: layer } = one.model as Tagger;
    // Sums stay positive, so relu is linear; a weight of 0 leaves each output to its own step.
    noGrad(() => {
      layer.weightsOf(0).hh.copy_(zeros([3, 3], { dtype }));
      layer.weightsOf(0).biasIh!.copy_(tensor([9, 10, 11], { dtype }));
    });
    const states = statistics(one, { fisher: 'ggn', loss: 'mse' });
    assert.deepEqual(
      states.map(({ block }) => block.path),
      ['rnn.ih_l0', 'rnn.hh_l0', 'head'],
    );
    for (const state of states)
      mustBeClose(
        kronecker(state),
        gaussNewton(one.model, state, one.x, 'mse'),
        { rtol: 1e-9, atol: 1e-12 },
        state.label,
      );
  });
});

/** A loop over a cell, and a linear layer on each state. */
class Loop extends Module {
  readonly cell: RNNCell | LSTMCell | GRUCell;
  readonly head: Linear;
  constructor(cell: RNNCell | LSTMCell | GRUCell, head: Linear) {
    super();
    this.cell = cell;
    this.head = head;
  }
  override forward(x: Tensor): Tensor {
    const { cell } = this;
    const ys: Tensor[] = [];
    let [h, c]: (Tensor | null)[] = [null, null];
    for (let step = 0; step < x.shape[1]!; step++) {
      const input = x.narrow(1, step, 1).squeeze(1);
      if (cell instanceof LSTMCell) [h, c] = cell.call(input, h && c && [h, c]);
      else h = cell.call(input, h);
      ys.push(h!.unsqueeze(1));
    }
    return this.head.call(concat(ys, 1));
  }
}

for (const kind of KINDS)
  law(t, `${kind}: a loop over its cell has the factors of the layer`, () => {
    const one = net(kind, 3);
    const { rnn: layer, head } = one.model as Tagger;
    const cell = new cells[kind](2, 3, { dtype });
    cell.loadStateDict(
      Object.fromEntries(Object.entries(layer.stateDict()).map(([name, x]) => [name.replace('_l0', ''), x])),
    );
    const whole = statistics(one);
    const steps = statistics({ ...one, model: new Loop(cell, head) });
    assert.deepEqual(
      steps.map(({ block }) => block.path),
      whole.map(({ block }) => block.path.replace('rnn', 'cell').replace('_l0', '')),
    );
    for (const [i, { A, G, label }] of steps.entries()) {
      mustBeClose(A!, whole[i]!.A!, { rtol: 1e-10, atol: 1e-12 }, label);
      mustBeClose(G!, whole[i]!.G!, { rtol: 1e-10, atol: 1e-12 }, label);
    }
  });

law(t, 'frozen weights have no block; lengths that are read with await and reduce with lengths are refused', () => {
  const frozen = net('LSTM', 1).model as Tagger;
  frozen.rnn.weightsOf(0).hh.requiresGrad = false;
  const paths = (model: Module) => new EKFAC(model).describe().map(({ path, collector }) => `${path} ${collector}`);
  assert.deepEqual(
    paths(frozen).filter(row => row.includes('hh_l0')),
    ['rnn.bias_hh_l0 rest'],
  );
  class Own extends LSTM {
    override forward(...x: Parameters<LSTM['forward']>): ReturnType<LSTM['forward']> {
      return super.forward(...x);
    }
  }
  const own = new Tagger(new Own(2, 3, { dtype, batchFirst: true }), new Generator(0));
  assert.ok(paths(own).includes('rnn.weight_ih_l0 rest'));
  assert.throws(() => statistics(net('GRU', 1, {}, [2, 4, 1]), { sharing: 'reduce' }), /'expand' takes lengths/);
  statistics(net('GRU', 1), { sharing: 'reduce' });
});

for (const device of DEVICES)
  for (const kind of KINDS)
    law(t, `${kind}: the factors on ${device} are those on 'cpu'`, async () => {
      const o = { numLayers: 2, bidirectional: true };
      const here = statistics(net(kind, 5, o, [2, 4, 3]));
      for (const [i, { A, G }] of (await factorsOn(device, net(kind, 5, o, [2, 4, 3]))).entries()) {
        mustBeClose(A!, here[i]!.A!, { rtol: 1e-9, atol: 1e-11 }, here[i]!.label);
        mustBeClose(G!, here[i]!.G!, { rtol: 1e-9, atol: 1e-11 }, here[i]!.label);
      }
    });

/** Words of 8 letters; each target is the sum of a letter and the one before the last, modulo 8. */
function trained(make: (model: Tagger) => Optimizer, steps: number, seed: number): number {
  const rng = new Generator(seed);
  const model = new Tagger(new LSTM(8, 24, { batchFirst: true, rng }), rng, { classes: 8 });
  const optimizer = make(model);
  let last = 0;
  for (let step = 0; step < steps; step++) {
    const words = Array.from({ length: 32 }, () => Array.from({ length: 6 }, () => rng.integer(0, 8)));
    const x = tensor(words.map(word => word.map(letter => Array.from({ length: 8 }, (_, i) => Number(i === letter)))));
    const y = words.flatMap(word => word.map((letter, at) => (letter + (at > 1 ? word[at - 2]! : 0)) % 8));
    const loss = crossEntropy(model.call(x).reshape([-1, 8]), tensor(y, { dtype: 'int32' }));
    optimizer.zeroGrad();
    loss.backward();
    optimizer.step();
    if (step >= steps - 20) last += loss.item() / 20;
  }
  return last;
}

law(t, 'KFAC, EKFAC and STEVE train an LSTM further in as many steps than Adam at its best learning rate', () => {
  const [steps, seed] = [100, 1];
  const adam = Math.min(...[0.05, 0.1].map(lr => trained(m => new Adam(m.parameters(), { lr }), steps, seed)));
  const family: Record<string, (m: Tagger) => Optimizer> = {
    KFAC: m => new KFAC(m, { lr: 0.3, damping: 1e-4 }),
    EKFAC: m => new EKFAC(m, { lr: 0.3, damping: 1e-4 }),
    STEVE: m => new STEVE(m, { lr: 0.05, refreshEvery: 5 }),
  };
  for (const [name, make] of Object.entries(family)) {
    const loss = trained(make, steps, seed);
    assert.ok(loss < adam, `${name} ${loss}, Adam ${adam}`);
  }
});

law(t, 'what an optimizer has of a recurrent layer is told, saved and restored', () => {
  const one = net('GRU', 4, { numLayers: 2, bidirectional: true });
  const optimizer = new EKFAC(one.model);
  const gates = GATES.GRU.flatMap(gate => [`rnn.ih_l1_reverse${gate}`, `rnn.hh_l1_reverse${gate}`]);
  const paths = optimizer.describe().map(({ path }) => path);
  for (const path of gates) assert.ok(paths.includes(path), path);
  one.model.call(one.x).square().mean().backward();
  optimizer.step();
  const other = new EKFAC(net('GRU', 4, { numLayers: 2, bidirectional: true }).model);
  other.loadStateDict(optimizer.stateDict());
  for (const [i, { A, G }] of blocksOf(other).entries()) {
    mustBeClose(A!, blocksOf(optimizer)[i]!.A!, { rtol: 0, atol: 0 });
    mustBeClose(G!, blocksOf(optimizer)[i]!.G!, { rtol: 0, atol: 0 });
  }
});
