// Convolution and attention as Kronecker blocks: against linear layers on explicit patches, exact Fisher and Gauss–Newton
// blocks, recorded trajectories, and in whole models.
import assert from 'node:assert/strict';
import { arange, concat, Generator, grad, noGrad, randint, randn, type Tensor, tensor } from '@otimes/core';
import {
  Conv2d,
  crossEntropy,
  Flatten,
  GlobalAvgPool2d,
  GroupNorm,
  LayerNorm,
  Linear,
  Module,
  MultiHeadAttention,
  mseLoss,
  Parameter,
  ReLU,
  resnet18,
  Sequential,
  Tanh,
  TransformerBlock,
  vit,
} from '@otimes/nn';
import {
  attentionCollector,
  EKFAC,
  KFAC,
  type KroneckerOptions,
  type KroneckerPreconditioner,
  linearCollector,
  type Optimizer,
  type Sharing,
  STEVE,
} from '@otimes/optim';
import fc from 'fast-check';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { law } from './helpers/law.ts';
import {
  blocksOf,
  distance,
  empiricalFisher,
  exampleGradients,
  fromEigenbasis,
  gaussNewton,
  kronecker,
  type Net,
  Pool,
  statistics,
} from './suites/exactness.ts';
import { labelled, type OptimizerCase, resumptionLaw, type Task } from './suites/optimizers.ts';
import { recordedTrajectories } from './suites/recorded.ts';

const dtype = 'float64';
const random = (seed: number) => ({ dtype, rng: new Generator(seed) }) as const;
const property = (check: (seed: number) => void, numRuns = 8) =>
  fc.assert(fc.property(fc.integer({ min: 1, max: 1e6 }), check), { seed: 42, numRuns });
const norm = (F: ArrayLike<number>) => distance(F, new Float64Array(F.length));

// --- convolution ---

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

/** A step of `optimizer` on the mean squared error. */
function step(model: Module, optimizer: Optimizer, { x, y }: { x: Tensor; y: Tensor }): void {
  optimizer.zeroGrad();
  mseLoss(model.call(x), y).backward();
  void optimizer.step();
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
    property(seed => {
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
      property(seed => {
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
      property(seed => {
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
    property(seed => {
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
    }, 4);
  });
  t.end();
});

// --- attention ---

/** Tokens with learned positions, attention with a residual, and a linear head on the mean: the model of attn.json. */
class SmallAttention extends Module {
  readonly pos: Parameter;
  readonly attn: MultiHeadAttention;
  readonly head: Linear;
  constructor(o: { dtype: 'float64'; rng: Generator }, tokens = 4, classes = 6) {
    super();
    this.pos = new Parameter(randn([tokens, 4], o));
    this.attn = new MultiHeadAttention(4, 2, o);
    this.head = new Linear(4, classes, o);
  }
  override forward(x: Tensor): Tensor {
    const h = x.add(this.pos);
    return this.head.call(h.add(this.attn.call(h)).mean(1));
  }
}

const attentionNet = (seed: number, batch: number, tokens = 4): Net & { model: SmallAttention } => {
  const o = random(seed);
  const model = new SmallAttention(o, tokens, 3);
  return { model, x: randn([batch, tokens, 4], o), y: randint(0, 3, [batch], { rng: o.rng }), loss: 'crossEntropy' };
};

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
    property(seed => {
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
    property(seed => {
      const { model, x, y, loss } = attentionNet(seed, 1, 1);
      for (const state of statistics({ model, x, y, loss }))
        mustBeClose(kronecker(state), empiricalFisher(exampleGradients(model, state, x, y, loss)), { atol: 1e-14 });
    });
  });

  law(t, 'the output projection under mean pooling and a linear head, mean squared error: reduce is exact', () => {
    property(seed => {
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

// --- both ---

t.test('second moments in the eigenbasis', t => {
  const cnn = (seed: number): Net => {
    const o = random(seed);
    const geometry = { stride: 1 + (seed % 2), padding: seed % 3, bias: seed % 5 > 0 };
    const model = new Sequential(
      new Conv2d(2, 3, 2, { ...o, ...geometry }),
      new Tanh(),
      new GlobalAvgPool2d(),
      new Linear(3, 3, o),
    );
    return { model, x: randn([5, 2, 4, 3], o), y: randint(0, 3, [5], { rng: o.rng }), loss: 'crossEntropy' };
  };
  for (const [name, make] of Object.entries({ convolution: cnn, attention: (seed: number) => attentionNet(seed, 5) }))
    for (const sharing of ['expand', 'reduce'] as const)
      law(t, `${name}, ${sharing}: EKFAC's are those of single examples, and ‖F − EKFAC‖ ≤ ‖F − KFAC‖`, () => {
        property(seed => {
          const net = make(seed);
          for (const state of statistics(net, { sharing })) {
            const Ds = exampleGradients(net.model, state, net.x, net.y, net.loss);
            const squares = Ds.map(D => state.kfe!.project(D).square());
            const S = state.slots.get('S')!;
            mustBeClose(S, squares.reduce((sum, s) => sum.add(s)).div(Ds.length), { atol: 1e-14 }, state.label);
            const F = empiricalFisher(Ds);
            const ekfac = fromEigenbasis(state.kfe!.UA!, state.kfe!.UG!, S);
            assert.ok(distance(F, ekfac) <= distance(F, kronecker(state)) + 1e-12, state.label);
          }
        }, 6);
      });
  t.end();
});

recordedTrajectories(t, {
  name: 'conv',
  runs: 6,
  model: () =>
    new Sequential(
      new Conv2d(2, 4, 3, { dtype, padding: 1 }),
      new ReLU(),
      new Conv2d(4, 3, 3, { dtype, stride: 2 }),
      new Flatten(),
      new Linear(12, 3, { dtype }),
    ),
});

recordedTrajectories(t, { name: 'attn', runs: 9, model: () => new SmallAttention(random(0)) });

// --- models ---

t.test('in models', t => {
  const claimed = (optimizer: KroneckerPreconditioner) =>
    optimizer.describe().map(({ path, collector, sharing }) => [path, collector, sharing]);
  const rest = (...paths: string[]) => paths.map(path => [path, 'rest', null]);

  /** One step of STEVE on labelled images changes every parameter, and all stay finite. */
  const trains = (model: Module, x: Tensor) => {
    const optimizer = new STEVE(model, { lr: 0.01 });
    const before = model.stateDict();
    crossEntropy(model.call(x), randint(0, 3, [x.shape[0]!], { rng: new Generator(1) })).backward();
    optimizer.step();
    for (const [path, p] of model.namedParameters()) {
      const change = p.detach().sub(before[path]!).abs().max().item();
      assert.ok(change > 0 && Number.isFinite(change), `${path} changed by ${change}`);
    }
    return optimizer;
  };

  law(t, 'grouped convolutions have a block for each group, depthwise ones for each channel', () => {
    const o = random(1);
    const net = new Sequential(
      new Conv2d(4, 6, 3, { ...o, groups: 2, padding: 1 }),
      new Conv2d(6, 6, 3, { ...o, groups: 6, bias: false }),
      new GlobalAvgPool2d(),
      new Linear(6, 3, o),
    );
    const optimizer = trains(net, randn([5, 4, 4, 4], o));
    assert.deepEqual(
      optimizer.describe().map(({ path, shape, parameters }) => [path, shape, parameters.join()]),
      [
        ...[0, 1].map(i => [`0.groups.${i}`, [3, 19], '0.weight,0.bias']),
        ...[0, 1, 2, 3, 4, 5].map(i => [`1.groups.${i}`, [1, 9], '1.weight']),
        ['3', [3, 7], '3.weight,3.bias'],
      ],
    );
    assert.deepEqual(
      new KFAC(new Conv2d(2, 2, 3, { groups: 2 })).describe().map(({ path }) => path),
      ['groups.0', 'groups.1'],
    );
  });

  law(t, 'the groups of a convolution share one weight, which decays once a step', () => {
    const o = random(2);
    const conv = new Conv2d(3, 3, 2, { ...o, groups: 3 });
    const before = conv.stateDict();
    const optimizer = new STEVE(conv, { lr: 0.5, weightDecay: 0.1 });
    // A gradient of 0 leaves nothing but the decay.
    conv
      .call(randn([2, 3, 3, 3], o))
      .mul(0)
      .sum()
      .backward();
    optimizer.step();
    for (const [path, p] of conv.namedParameters()) mustBeClose(p, before[path]!.mul(0.95), { rtol: 1e-12 }, path);
  });

  law(
    t,
    'a frozen convolution is claimed by nobody and does not change; a frozen bias leaves the homogeneous column',
    () => {
      const o = random(3);
      const net = new Sequential(new Conv2d(2, 2, 2, o), new Conv2d(2, 2, 2, o), new GlobalAvgPool2d());
      const [first, second] = net.layers as unknown as [Conv2d, Conv2d];
      first.weight.requiresGrad = false;
      first.bias!.requiresGrad = false;
      second.bias!.requiresGrad = false;
      const before = net.stateDict();
      const optimizer = new STEVE(net);
      step(net, optimizer, { x: randn([3, 2, 4, 4], o), y: randn([3, 2], o) });
      assert.deepEqual(
        optimizer.describe().map(({ path, shape }) => [path, shape]),
        [['1', [2, 8]]],
      );
      for (const path of ['0.weight', '0.bias', '1.bias'])
        mustBeClose(net.stateDict()[path]!, before[path]!, { rtol: 0, atol: 0 }, path);
    },
  );

  law(
    t,
    'a transformer block: four blocks of attention, two linear layers, norms under rest; a mask changes nothing',
    () => {
      const o = random(4);
      class Masked extends Module {
        readonly block = new TransformerBlock(4, 2, { ...o, mlpRatio: 2 });
        override forward(x: Tensor): Tensor {
          const at = arange(x.shape[1]!);
          return this.block.call(x, at.unsqueeze(1).ge(at)).mean(1);
        }
      }
      const optimizer = trains(new Masked(), randn([6, 3, 4], o));
      assert.deepEqual(claimed(optimizer), [
        ['block.attention.q', 'attention', 'reduce'],
        // Under a causal mask softmax still ignores what all keys have in common.
        ['block.attention.k', 'attention', 'reduce, G expanded'],
        ['block.attention.v', 'attention', 'reduce'],
        ['block.attention.o', 'attention', 'reduce'],
        ['block.linear1', 'linear', 'expand'],
        ['block.linear2', 'linear', 'expand'],
        ...rest('block.norm1.weight', 'block.norm1.bias', 'block.norm2.weight', 'block.norm2.bias'),
      ]);
    },
  );

  law(
    t,
    'a vision transformer: patches, attention and linear layers claimed; norms, class token and positions under rest',
    () => {
      const o = random(5);
      const model = vit({
        imageSize: 4,
        patch: 2,
        dim: 4,
        depth: 2,
        heads: 2,
        classes: 3,
        channels: 1,
        mlpRatio: 2,
        ...o,
      });
      const optimizer = trains(model, randn([6, 1, 4, 4], o));
      const block = (i: number) => [
        ...['q', 'k', 'v', 'o'].map(name => [
          `blocks.${i}.attention.${name}`,
          'attention',
          name === 'k' ? 'reduce, G expanded' : 'reduce',
        ]),
        [`blocks.${i}.linear1`, 'linear', 'expand'],
        [`blocks.${i}.linear2`, 'linear', 'expand'],
      ];
      const norms = (i: number) =>
        ['norm1', 'norm2'].flatMap(n => [`blocks.${i}.${n}.weight`, `blocks.${i}.${n}.bias`]);
      assert.deepEqual(
        claimed(optimizer).sort(),
        [
          ['embed', 'conv2d', 'expand'],
          ...block(0),
          ...block(1),
          ['head', 'linear', 'expand'],
          ...rest('classToken', 'position', ...norms(0), ...norms(1), 'norm.weight', 'norm.bias'),
        ].sort(),
      );
    },
  );

  law(t, 'ResNet-18: all 20 convolutions and the head claimed, batch norms under rest', () => {
    const o = random(6);
    const optimizer = trains(resnet18({ classes: 3, stem: 'cifar', width: 2, ...o }), randn([4, 3, 8, 8], o));
    const rows = optimizer.describe();
    assert.equal(rows.filter(({ collector }) => collector === 'conv2d').length, 20);
    assert.deepEqual(
      rows.filter(({ collector }) => collector === 'linear').map(({ path }) => path),
      ['fc'],
    );
    const others = rows.filter(({ collector }) => collector === 'rest');
    assert.equal(others.length, 40);
    assert.ok(
      others.every(({ path }) => /\.(bn\d|1)\.|^bn1\./.test(path)),
      others.map(({ path }) => path).join(),
    );
  });
  t.end();
});

// --- saving ---

const optimizers: readonly OptimizerCase[] = [
  { name: 'KFAC', make: m => new KFAC(m, { lr: 0.05, damping: 0.1, refreshEvery: 3, momentum: 0.9 }) },
  { name: 'EKFAC', make: m => new EKFAC(m, { lr: 0.05, damping: 0.1, refreshEvery: 4 }) },
  { name: 'STEVE', make: m => new STEVE(m, { lr: 0.02, refreshEvery: 4 }) },
  {
    name: 'STEVE example, sampled',
    make: m =>
      new STEVE(m, { lr: 0.02, refreshEvery: 3, secondMoment: 'example', fisher: 'sampled', loss: 'crossEntropy' }),
  },
];

const tasks: Record<string, Task> = {
  'a convolutional net': {
    model: o =>
      new Sequential(
        new Conv2d(1, 4, 3, { ...o, padding: 1 }),
        new GroupNorm(2, 4, o),
        new ReLU(),
        new Conv2d(4, 4, 3, { ...o, stride: 2, groups: 2 }),
        new Flatten(),
        new Linear(16, 3, o),
      ),
    batches: labelled([1, 5, 5]),
  },
  'a transformer block': {
    model: o =>
      new Sequential(
        new TransformerBlock(4, 2, { ...o, mlpRatio: 2 }),
        new LayerNorm(4, o),
        new Pool('mean'),
        new Linear(4, 3, o),
      ),
    batches: labelled([3, 4]),
  },
};

for (const [name, task] of Object.entries(tasks))
  t.test(name, t => {
    for (const one of optimizers) resumptionLaw(t, one, task);
    t.end();
  });
