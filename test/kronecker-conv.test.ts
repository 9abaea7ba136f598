// Convolution as a Kronecker block: against linear layers on explicit patches, and exact Fisher and Gauss–Newton blocks.

import assert from 'node:assert/strict';
import { concat, grad, noGrad, randint, randn, type Tensor, tensor } from '@otimes/core';
import {
  Conv2d,
  Flatten,
  GlobalAvgPool2d,
  Linear,
  Module,
  mseLoss,
  type Parameter,
  Sequential,
  Tanh,
} from '@otimes/nn';
import { KFAC, type Sharing } from '@otimes/optim';
import fc from 'fast-check';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { dtype, random, step } from './helpers/attention.ts';
import { law, overSeeds } from './helpers/law.ts';
import {
  blocksOf,
  distance,
  empiricalFisher,
  exampleGradients,
  gaussNewton,
  kronecker,
  type Net,
  statistics,
} from './suites/exactness.ts';

const norm = (F: ArrayLike<number>) => distance(F, new Float64Array(F.length));

/** A convolution and the images it sees. */
type Geometry = {
  batch: number;
  groups: number;
  /** Input and output channels of a group. */
  share: [number, number];
  kernel: [number, number];
  stride: [number, number];
  padding: [number, number];
  dilation: [number, number];
  /** Places of the output. */
  places: [number, number];
  bias: 'trained' | 'frozen' | 'none';
  sharing: Sharing;
  seed: number;
};

const upTo = (max: number, min = 1) => fc.integer({ min, max });
const pair = (max: number, min = 1) => fc.tuple(upTo(max, min), upTo(max, min));
const geometries = fc.record<Geometry>({
  batch: upTo(3),
  groups: upTo(3),
  share: pair(2),
  kernel: pair(3),
  stride: pair(3),
  padding: pair(1, 0),
  dilation: pair(2),
  places: pair(3),
  bias: fc.constantFrom('trained', 'frozen', 'none'),
  sharing: fc.constantFrom('expand', 'reduce'),
  seed: upTo(1e6),
});

/** The convolution, an input of the size that gives these places, and targets. */
function convolution(g: Geometry): { conv: Conv2d; x: Tensor; y: Tensor } {
  const o = random(g.seed);
  const [cIn, cOut] = g.share.map(c => c * g.groups) as [number, number];
  const { stride, padding, dilation, groups } = g;
  const conv = new Conv2d(cIn, cOut, g.kernel, { stride, padding, dilation, groups, ...o, bias: g.bias !== 'none' });
  if (g.bias === 'frozen') conv.bias!.requiresGrad = false;
  const side = (i: 0 | 1) => (g.places[i] - 1) * g.stride[i] + (g.kernel[i] - 1) * g.dilation[i] + 1 - 2 * g.padding[i];
  // Where padding alone would be larger than that, the images grow and so does the number of places.
  const size = [Math.max(side(0), 1), Math.max(side(1), 1)];
  const x = randn([g.batch, cIn, ...size], o);
  const y = randn(noGrad(() => conv.forward(x)).shape, o);
  return { conv, x, y };
}

/** The patches that one group sees, [batch, places, channels · kh · kw], by loops over every index. */
function loopedPatches(x: Tensor, o: Geometry, group: number, places: readonly number[]): Tensor {
  const [batch, cIn, height, width] = x.shape as [number, number, number, number];
  const [images, channels] = [x.dataSync(), o.share[0]];
  const data: number[] = [];
  for (let b = 0; b < batch; b++)
    for (let i = 0; i < places[0]!; i++)
      for (let j = 0; j < places[1]!; j++)
        for (let c = 0; c < channels; c++)
          for (let p = 0; p < o.kernel[0]; p++)
            for (let q = 0; q < o.kernel[1]; q++) {
              const row = i * o.stride[0] + p * o.dilation[0] - o.padding[0];
              const column = j * o.stride[1] + q * o.dilation[1] - o.padding[1];
              const inside = row >= 0 && row < height && column >= 0 && column < width;
              const plane = b * cIn + group * channels + c;
              data.push(inside ? images[(plane * height + row) * width + column]! : 0);
            }
  return tensor(data, { shape: [batch, places[0]! * places[1]!, channels * o.kernel[0] * o.kernel[1]], dtype });
}

/** The same function as a convolution: a linear layer for each group, on patches made by loops. */
class OnPatches extends Module {
  readonly groups: Sequential;
  readonly #geometry: Geometry;
  readonly #places: readonly number[];

  constructor({ weight, bias, groups }: Conv2d, o: Geometry, places: readonly number[]) {
    super();
    const rows = o.share[1];
    this.#geometry = o;
    this.#places = places;
    this.groups = new Sequential(
      ...Array.from({ length: groups }, (_, i) => {
        const linear = new Linear(weight.size / weight.shape[0]!, rows, { dtype, bias: bias !== null });
        const own = (p: Parameter) =>
          p
            .detach()
            .narrow(0, i * rows, rows)
            .flatten(1)
            .clone();
        linear.weight.requiresGrad = weight.requiresGrad;
        noGrad(() => {
          linear.weight.copy_(own(weight));
          if (bias !== null) linear.bias!.copy_(own(bias.unsqueeze(1) as Parameter).squeeze(1));
        });
        if (bias !== null) linear.bias!.requiresGrad = bias.requiresGrad;
        return linear;
      }),
    );
  }

  override forward(x: Tensor): Tensor {
    return concat(
      this.groups.layers.map((layer, i) => {
        const z = layer.call(loopedPatches(x, this.#geometry, i, this.#places)).transpose(1, 2);
        return z.reshape([x.shape[0]!, -1, ...this.#places]);
      }),
      1,
    );
  }
}

t.test('convolution: patches', t => {
  law(t, 'the blocks of a convolution are those of linear layers on its patches: factors, gradients and steps', () => {
    fc.assert(
      fc.property(geometries, o => {
        const { conv, x, y } = convolution(o);
        const twin = new OnPatches(conv, o, y.shape.slice(2));
        const make = (m: Module) => new KFAC(m, { lr: 0.1, refreshEvery: 2, factorDecay: 0.5, sharing: o.sharing });
        const [ours, theirs] = [make(conv), make(twin)];
        for (let k = 0; k < 3; k++) {
          step(conv, ours, { x, y });
          step(twin, theirs, { x, y });
          blocksOf(ours).forEach((state, g) => {
            const other = blocksOf(theirs)[g]!;
            mustBeClose(state.A!, other.A!, { atol: 1e-13 }, `A of group ${g}`);
            mustBeClose(state.G!, other.G!, { atol: 1e-13 }, `G of group ${g}`);
            mustBeClose(state.block.gradient()!, other.block.gradient()!, { atol: 1e-13 }, `gradient of group ${g}`);
          });
          const flat = (name: 'weight' | 'bias') =>
            twin.groups.layers.flatMap(layer => Array.from((layer as Linear)[name]?.dataSync() ?? []));
          mustBeClose(conv.weight.flatten(), flat('weight'), { atol: 1e-12 }, `weight after step ${k}`);
          if (conv.bias !== null) mustBeClose(conv.bias, flat('bias'), { atol: 1e-12 }, `bias after step ${k}`);
        }
      }),
      { seed: 42, numRuns: 60 },
    );
  });

  law(
    t,
    'KFC’s factors by loops: A averages outer products of patches over images and places, G sums over places',
    () => {
      fc.assert(
        fc.property(geometries, o => {
          const { conv, x, y } = convolution(o);
          const states = statistics({ model: conv, x, y, loss: 'mse' }, { sharing: 'expand' });
          const z = conv.forward(x);
          const [gy] = grad(mseLoss(z, y), [z]);
          const g = gy!.dataSync();
          const [batch, channels, T] = [o.batch, y.shape[1]!, y.shape[2]! * y.shape[3]!];
          states.forEach((state, group) => {
            const patches = loopedPatches(x, o, group, y.shape.slice(2)).dataSync();
            const [dIn, rows] = [state.block.dIn, o.share[1]];
            const inputs = patches.length / (batch * T);
            const a = (row: number, i: number) => (i < inputs ? patches[row * inputs + i]! : 1);
            const A = Array.from({ length: dIn * dIn }, (_, k) => {
              let sum = 0;
              for (let row = 0; row < batch * T; row++) sum += a(row, Math.floor(k / dIn)) * a(row, k % dIn);
              return sum / (batch * T);
            });
            const at = (b: number, i: number, place: number) =>
              batch * g[(b * channels + group * rows + i) * T + place]!;
            const G = Array.from({ length: rows * rows }, (_, k) => {
              let sum = 0;
              for (let b = 0; b < batch; b++)
                for (let place = 0; place < T; place++)
                  sum += at(b, Math.floor(k / rows), place) * at(b, k % rows, place);
              return sum / batch;
            });
            mustBeClose(state.A!.flatten(), A, { atol: 1e-13 }, `A of group ${group}`);
            mustBeClose(state.G!.flatten(), G, { atol: 1e-13 }, `G of group ${group}`);
          });
        }),
        { seed: 43, numRuns: 40 },
      );
    },
  );

  law(t, 'a 1×1 convolution is a linear layer shared by the places', () => {
    overSeeds(8, seed => {
      const o = random(seed);
      const conv = new Conv2d(3, 4, 1, o);
      const linear = new Linear(3, 4, { dtype });
      linear.loadStateDict({ weight: conv.weight.detach().flatten(1), bias: conv.bias!.detach() });
      const [x, y] = [randn([2, 3, 4, 2], o), randn([2, 4, 4, 2], o)];
      const tokens = (images: Tensor) => images.flatten(2).transpose(1, 2);
      for (const sharing of ['expand', 'reduce'] as const) {
        const [ours] = statistics({ model: conv, x, y, loss: 'mse' }, { sharing });
        const [theirs] = statistics({ model: linear, x: tokens(x), y: tokens(y), loss: 'mse' }, { sharing });
        for (const name of ['A', 'G'] as const) mustBeClose(ours![name]!, theirs![name]!, { atol: 1e-14 }, name);
      }
    });
  });
  t.end();
});

t.test('convolution: exact blocks', t => {
  /** A kernel as large as the image, so that there is one place. */
  const onePlace = (seed: number, batch: number): Net => {
    const o = random(seed);
    const model = new Sequential(new Conv2d(2, 3, [2, 3], o), new Tanh(), new Flatten(), new Linear(3, 3, o));
    return { model, x: randn([batch, 2, 2, 3], o), y: randint(0, 3, [batch], { rng: o.rng }), loss: 'crossEntropy' };
  };

  law(
    t,
    'one image and one place: A ⊗ G is the empirical Fisher block, and with the GGN Fisher the Gauss–Newton block',
    () => {
      overSeeds(8, seed => {
        const { model, x, y, loss } = onePlace(seed, 1);
        for (const state of statistics({ model, x, y, loss }))
          mustBeClose(kronecker(state), empiricalFisher(exampleGradients(model, state, x, y, loss)), { atol: 1e-14 });
        for (const state of statistics({ model, x, y, loss }, { fisher: 'ggn', loss }))
          mustBeClose(kronecker(state), gaussNewton(model, state, x, loss), { atol: 1e-14 });
      });
    },
  );

  law(
    t,
    'linear CNN with global average pooling, mean squared error: reduce is exact for its convolution, expand is not',
    () => {
      overSeeds(8, seed => {
        const o = random(seed);
        const geometry = { stride: 1 + (seed % 2), padding: seed % 3, dilation: 1 + (seed % 2), bias: seed % 5 > 0 };
        const model = new Sequential(
          new Conv2d(2, 3, 2, { ...o, ...geometry }),
          new GlobalAvgPool2d(),
          new Linear(3, 2, o),
        );
        const net: Net = { model, x: randn([3, 2, 4, 5], o), y: randn([3, 2], o), loss: 'mse' };
        const ggn = { fisher: 'ggn', loss: 'mse' } as const;
        for (const state of statistics(net, { ...ggn, sharing: 'reduce' }))
          mustBeClose(
            kronecker(state),
            gaussNewton(model, state, net.x, 'mse'),
            { rtol: 1e-9, atol: 1e-13 },
            state.label,
          );
        const [expanded] = statistics(net, { ...ggn, sharing: 'expand' });
        const F = gaussNewton(model, expanded!, net.x, 'mse');
        assert.ok(distance(kronecker(expanded!), F) > 1e-3 * norm(F));
      });
    },
  );

  law(t, 'linear CNN with 1×1 convolutions on top and a target at each place: expand is exact, reduce is not', () => {
    overSeeds(4, seed => {
      const o = random(seed);
      const geometry = { stride: [1, 2], padding: [0, 1], bias: seed % 3 > 0 } as const;
      const model = new Sequential(new Conv2d(2, 3, 2, { ...o, ...geometry }), new Conv2d(3, 2, 1, o));
      const x = randn([2, 2, 3, 4], o);
      const y = randn(noGrad(() => model.call(x)).shape, o);
      const ggn = { fisher: 'ggn', loss: 'mse' } as const;
      for (const state of statistics({ model, x, y, loss: 'mse' }, ggn))
        mustBeClose(kronecker(state), gaussNewton(model, state, x, 'mse'), { rtol: 1e-9, atol: 1e-13 }, state.label);
      const [reduced] = statistics({ model, x, y, loss: 'mse' }, { ...ggn, sharing: 'reduce' });
      const F = gaussNewton(model, reduced!, x, 'mse');
      assert.ok(distance(kronecker(reduced!), F) > 1e-3 * norm(F));
    });
  });
  t.end();
});
