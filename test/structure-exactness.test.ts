// When a structure is exact: the ladder from one layer's exact Gauss–Newton block down to each structure, with the data that it holds
// for. The networks are deep linear ones with the mean squared error, of which A ⊗ G is exact (Dangel et al. 2025).

import assert from 'node:assert/strict';
import { concat, eye, Generator, noGrad, randn, type Tensor } from '@otimes/core';
import { Conv2d, Flatten, Linear, Sequential, Tanh } from '@otimes/nn';
import type { KroneckerOptions } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { law, overSeeds } from './helpers/law.ts';
import { dense } from './helpers/sides.ts';
import {
  distance,
  empiricalFisher,
  exampleGradients,
  fromEigenbasis,
  gaussNewton,
  kronecker,
  type Net,
  statistics,
} from './suites/exactness.ts';

const dtype = 'float64';
type Random = { rng: Generator; dtype: 'float64' };

/** A convolution of one place over images [C, 2, 2], or the same without a bias, and a linear layer. */
const netOf = (o: Random, bias: boolean) =>
  new Sequential(new Conv2d(3, 4, 2, { ...o, bias }), new Flatten(), new Linear(4, 2, { ...o, bias: false }));

/** A ⊗ G as the structure stands for it, beside the exact Gauss–Newton block of the first layer. */
function blocks(model: Sequential, x: Tensor, structure: KroneckerOptions, seed: number) {
  const y = randn([x.shape[0]!, 2], { rng: new Generator(seed), dtype });
  const net: Net = { model, x, y, loss: 'mse' };
  const [state] = statistics(net, { fisher: 'ggn', loss: 'mse', ...structure });
  const { A, G, sideA, sideG } = state!;
  const factors = { A: dense(sideA, A!, { factor: true }), G: dense(sideG, G!, { factor: true }) };
  return { state: state!, own: kronecker(factors), exact: gaussNewton(model, state!, x, 'mse') };
}

/** Every row of c [R, C] with every row of v [S, 4], as images [R·S, C, 2, 2]. */
const images = (c: Tensor, v: Tensor): Tensor => {
  const [R, C, S] = [c.shape[0]!, c.shape[1]!, v.shape[0]!];
  return c
    .reshape([R, 1, C, 1])
    .mul(v.reshape([1, S, 1, 4]))
    .reshape([R * S, C, 2, 2]);
};

const close = { rtol: 1e-8, atol: 1e-10 };
const far = (x: Float64Array, y: Float64Array) => distance(x, y) > 1e-3 * distance(y, new Float64Array(y.length));

law(t, "taps: exact where images are channel ⊗ tap, and each channel's row meets each of the taps'", () =>
  overSeeds(20, seed => {
    const o: Random = { rng: new Generator(seed), dtype };
    const model = netOf(o, false);
    const x = images(randn([4, 3], o), randn([3, 4], o));
    const { own, exact } = blocks(model, x, { structure: 'taps' }, seed);
    mustBeClose(own, exact, close);
    const other = blocks(model, randn([9, 3, 2, 2], o), { structure: 'taps' }, seed);
    assert.ok(far(other.own, other.exact), 'and not elsewhere');
  }),
);

law(t, 'channels: exact where the taps are uncorrelated and alike besides', () =>
  overSeeds(20, seed => {
    const o: Random = { rng: new Generator(seed), dtype };
    const model = netOf(o, false);
    const c = randn([4, 3], o);
    const { own, exact } = blocks(model, images(c, eye(4, { dtype })), { structure: 'channels' }, seed);
    mustBeClose(own, exact, close);
    const other = blocks(model, images(c, randn([3, 4], o)), { structure: 'channels' }, seed);
    assert.ok(far(other.own, other.exact), 'and not where taps are alone a factor');
  }),
);

law(t, 'the bias by itself: exact where inputs have the mean 0', () =>
  overSeeds(20, seed => {
    const o: Random = { rng: new Generator(seed), dtype };
    const model = netOf(o, true);
    const x = images(randn([4, 3], o), randn([3, 4], o));
    const both = concat([x, x.neg()], 0);
    const { own, exact } = blocks(model, both, { structure: 'taps' }, seed);
    mustBeClose(own, exact, close);
    const other = blocks(model, x, { structure: 'taps' }, seed);
    assert.ok(far(other.own, other.exact), 'and not elsewhere');
  }),
);

law(t, 'blocks: exact where channels of different blocks are uncorrelated', () =>
  overSeeds(20, seed => {
    const o: Random = { rng: new Generator(seed), dtype };
    const model = netOf(o, false);
    // Each example has one channel, which is a block.
    const x = images(eye(3, { dtype }), randn([5, 4], o));
    const structure = { structure: { A: 'blocks' }, blockDim: 4 } as const;
    const { own, exact, state } = blocks(model, x, structure, seed);
    assert.equal(state.sideA.segments.length, 3);
    mustBeClose(own, exact, close);
    const other = blocks(model, randn([9, 3, 2, 2], o), structure, seed);
    assert.ok(far(other.own, other.exact), 'and not elsewhere');
  }),
);

law(t, 'blocks of G: exact where what follows does not mix the outputs of different blocks', () =>
  overSeeds(20, seed => {
    const o: Random = { rng: new Generator(seed), dtype };
    const model = netOf(o, true);
    const structure = { structure: { A: 'exact', G: 'blocks' }, blockDim: 2 } as const;
    const x = randn([6, 3, 2, 2], o);
    const other = blocks(model, x, structure, seed);
    assert.ok(far(other.own, other.exact));
    const { weight } = model.layers[2] as Linear;
    noGrad(() => {
      weight
        .narrow(0, 0, 1)
        .narrow(1, 2, 2)
        .copy_(weight.narrow(0, 0, 1).narrow(1, 2, 2).mul(0));
      weight
        .narrow(0, 1, 1)
        .narrow(1, 0, 2)
        .copy_(weight.narrow(0, 1, 1).narrow(1, 0, 2).mul(0));
    });
    const { own, exact } = blocks(model, x, structure, seed);
    mustBeClose(own, exact, close);
  }),
);

law(t, 'identity: exact where inputs are uncorrelated and of one size', () =>
  overSeeds(10, seed => {
    const o: Random = { rng: new Generator(seed), dtype };
    const { own, exact } = blocks(
      netOf(o, false),
      images(eye(3, { dtype }), eye(4, { dtype })),
      { structure: { A: 'identity' } },
      seed,
    );
    mustBeClose(own, exact, close);
  }),
);

law(t, 'diagonal: exact where inputs are uncorrelated, of whatever sizes', () =>
  overSeeds(10, seed => {
    const o: Random = { rng: new Generator(seed), dtype };
    const scaled = eye(3, { dtype }).mul(randn([3, 1], o));
    const { own, exact } = blocks(
      netOf(o, false),
      images(scaled, eye(4, { dtype }).mul(randn([4, 1], o))),
      { structure: { A: 'diagonal' } },
      seed,
    );
    mustBeClose(own, exact, close);
  }),
);

law(t, '‖F − EKFAC‖ ≤ ‖F − KFAC‖ with every structure, in the basis that it allows', () =>
  overSeeds(10, seed => {
    const o: Random = { rng: new Generator(seed), dtype };
    const model = new Sequential(new Conv2d(2, 3, 2, o), new Tanh(), new Flatten(), new Linear(12, 2, o));
    const [x, y] = [randn([6, 2, 3, 3], o), randn([6, 2], o)];
    for (const structure of [
      { structure: 'blocks', blockDim: 4 },
      { structure: 'taps' },
      { structure: 'channels' },
      { structure: { A: 'taps', G: 'blocks' }, blockDim: 2 },
    ] as const)
      for (const state of statistics({ model, x, y, loss: 'mse' }, structure)) {
        const { kfe, sideA, sideG } = state;
        const F = empiricalFisher(exampleGradients(model, state, x, y, 'mse'));
        const [UA, UG] = [dense(sideA, kfe!.UA), dense(sideG, kfe!.UG)];
        const measured = fromEigenbasis(UA, UG, state.slots.get('S')!);
        const given = fromEigenbasis(UA, UG, kfe!.eigenvalues());
        const factors = { A: dense(sideA, state.A!, { factor: true }), G: dense(sideG, state.G!, { factor: true }) };
        mustBeClose(given, kronecker(factors), close);
        assert.ok(distance(F, measured) <= distance(F, given) * (1 + 1e-12));
      }
  }),
);
