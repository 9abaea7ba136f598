/** The tasks in otimes. Bundled before it runs, as a user's build would do, and without tsx. */

import { concat, Generator, grad, setThreads, type Tensor, tensor } from '@otimes/core';
import { cholesky, eigh, inverse, qr } from '@otimes/linalg';
import {
  type AnyModule,
  Conv2d,
  crossEntropy,
  Dropout,
  Flatten,
  Linear,
  MaxPool2d,
  mlp,
  mseLoss,
  ReLU,
  resnet18,
  Sequential,
  TransformerBlock,
} from '@otimes/nn';
import {
  Adam,
  EKFAC,
  KFAC,
  type KroneckerOptions,
  KroneckerPreconditioner,
  type Optimizer,
  type Route,
  STEVE,
} from '@otimes/optim';
import ndarray from 'ndarray';
import { BATCHES, BLOCK, CHARS, definite, gram, labels, noise } from './data.mjs';
import { CharTransformer, mnistCnn, setWeights } from './models.ts';

// As all peers.
await setThreads(1);

/** `check` gives what peers must agree on, where the first result of `run` is not it. */
type Task = { run: () => number; units?: number; check?: () => number };

const of = (shape: number[], seed: number, scale = 1) =>
  tensor(
    noise(
      shape.reduce((a, b) => a * b, 1),
      seed,
      scale,
    ),
    { shape },
  );
const batches = <T>(make: (seed: number) => T): T[] => Array.from({ length: BATCHES }, (_, i) => make(10 + i));

function training(model: AnyModule, optimizer: Optimizer, data: [Tensor, Tensor][], lossOf: typeof crossEntropy): Task {
  let step = 0;
  const run = () => {
    const [x, y] = data[step++ % data.length]!;
    optimizer.zeroGrad();
    const loss = lossOf(model.call(x) as Tensor, y);
    loss.backward();
    optimizer.step();
    return loss.item();
  };
  return { run };
}

const adam = (model: AnyModule) => new Adam(model.parameters(), { lr: 1e-3 });
const images = (batch: number, shape: number[], seed: number): [Tensor, Tensor] => [
  of([batch, ...shape], seed, 3),
  tensor(labels(batch, 10, seed + 50)),
];

/** `more` makes further batches. */
type Problem = {
  model: AnyModule;
  data: [Tensor, Tensor][];
  more: (seed: number) => [Tensor, Tensor];
  loss: typeof crossEntropy;
};

const networks = {
  mlp({ sizes, batch }: { sizes: number[]; batch: number }): Problem {
    const model = mlp(sizes, { rng: new Generator(0) });
    const more = (seed: number) => images(batch, [sizes[0]!], seed);
    return { model, data: batches(more), more, loss: crossEntropy };
  },

  transformer(): Problem {
    const { d, heads, positions, batch } = BLOCK;
    const model = new TransformerBlock(d, heads, { rng: new Generator(0) });
    const shape = [batch, positions, d];
    const more = (seed: number): [Tensor, Tensor] => [of(shape, seed, 3), of(shape, -seed, 3)];
    return { model, data: batches(more), more, loss: mseLoss };
  },

  cnn({ batch }: { batch: number }): Problem {
    const rng = new Generator(0);
    const model = new Sequential(
      new Conv2d(1, 16, 3, { padding: 1, rng }),
      new ReLU(),
      new MaxPool2d(2),
      new Conv2d(16, 32, 3, { padding: 1, rng }),
      new ReLU(),
      new MaxPool2d(2),
      new Flatten(),
      new Linear(32 * 49, 10, { rng }),
    );
    const more = (seed: number) => images(batch, [1, 28, 28], seed);
    return { model, data: batches(more), more, loss: crossEntropy };
  },
};

/** Networks of usual sizes: the peers have their weights too. */
const large = {
  resnet18: () => ({
    model: resnet18({ classes: 10, stem: 'cifar', rng: new Generator(0) }),
    more: (seed: number) => images(32, [3, 32, 32], seed),
    loss: crossEntropy,
  }),
  mnist: () => ({
    model: mnistCnn(new Generator(0)),
    more: (seed: number) => images(64, [1, 28, 28], seed),
    loss: crossEntropy,
  }),
  chars: () => {
    const { batch, length, vocabulary } = CHARS;
    const text = (seed: number) => tensor(labels(batch * length, vocabulary, seed), { shape: [batch, length] });
    const loss: typeof crossEntropy = (logits, y) => crossEntropy(logits.flatten(0, 1), y.flatten());
    return {
      model: new CharTransformer(CHARS, new Generator(0)),
      more: (seed: number): [Tensor, Tensor] => [text(seed), text(seed + 50)],
      loss,
    };
  },
};

type Network = keyof typeof networks;
/** Batches before the Kronecker optimizers' bases are computed anew; the largest factor has 1569 rows, a batch 64. */
const FIRST = 27;
const SIZES = { mlp: { sizes: [784, 512, 256, 10], batch: 128 }, cnn: { batch: 64 }, transformer: {} };

export const tasks = {
  sgemm({ n }: { n: number }): Task {
    const [a, b] = [of([n, n], 1), of([n, n], 2)];
    return {
      run() {
        const last = a.matmul(b).slice(-1).dataSync();
        return last[0]! + last[n - 1]!;
      },
    };
  },

  add({ n, ops, backward }: { n: number; ops: number; backward: boolean }): Task {
    const [x, y] = [of([n, n], 1), of([n, n], 2)];
    if (backward) x.requiresGrad = true;
    const run = () => {
      let z = x;
      for (let i = 0; i < ops; i++) z = z.add(y);
      if (!backward) return z.dataSync()[0]!;
      z.sum().backward();
      const value = x.grad!.dataSync()[0]!;
      x.grad = null;
      return value;
    };
    return { run, units: ops };
  },

  mlp({ sizes, batch }: { sizes: number[]; batch: number }): Task {
    const { model, data, loss } = networks.mlp({ sizes, batch });
    return training(model, adam(model), data, loss);
  },

  /** Regression with tanh: so small that only what a step costs beside arithmetic counts. */
  tiny({ sizes, batch }: { sizes: number[]; batch: number }): Task {
    const model = mlp(sizes, { activation: 'tanh', rng: new Generator(0) });
    const data = batches((seed): [Tensor, Tensor] => [of([batch, sizes[0]!], seed), of([batch, sizes.at(-1)!], -seed)]);
    return training(model, adam(model), data, mseLoss);
  },

  transformer(): Task {
    const { model, data, loss } = networks.transformer();
    return training(model, adam(model), data, loss);
  },

  cnn({ batch }: { batch: number }): Task {
    const { model, data, loss } = networks.cnn({ batch });
    return training(model, adam(model), data, loss);
  },

  /** The loss of a second step without dropout is checked: it depends on forward, backward and Adam, and rounding is not in it yet. */
  async large({ network, threads = 1 }: { network: keyof typeof large; threads?: number }): Promise<Task> {
    const used = await setThreads(threads);
    if (used !== threads) throw new Error(`${threads} threads were asked for, ${used} are in use`);
    const { model, more, loss } = large[network]();
    setWeights(model);
    const { run } = training(model, adam(model), batches(more), loss);
    const check = () => {
      const dropouts = [...model.namedModules().values()].filter(one => one instanceof Dropout);
      for (const one of dropouts) one.eval();
      run();
      const second = run();
      for (const one of dropouts) one.train();
      return second;
    };
    return { run, check };
  },

  /** Burgers' equation by a network of x and t in float64 (Raissi et al. 2019): a loss of derivatives, which is differentiated again. */
  pinn({ sizes, points }: { sizes: number[]; points: number }): Task {
    const model = mlp(sizes, { activation: 'tanh', dtype: 'float64', rng: new Generator(0) });
    setWeights(model);
    const optimizer = adam(model);
    const column = (n: number, seed: number) => of([n, 1], seed).astype('float64');
    const [x, t] = [column(points, 1), column(points, 2)];
    for (const one of [x, t]) one.requiresGrad = true;
    const n = points / 8;
    const [edge, values] = [concat([column(n, 3), column(n, 4)], 1), column(n, 5)];
    const run = () => {
      optimizer.zeroGrad();
      const u = model.call(concat([x, t], 1));
      const [ux, ut] = grad(u.sum(), [x, t], { createGraph: true });
      const [uxx] = grad(ux.sum(), [x], { createGraph: true });
      const rest = ut.add(u.mul(ux)).sub(uxx.mul(0.01 / Math.PI));
      const loss = rest
        .square()
        .mean()
        .add(mseLoss(model.call(edge), values));
      loss.backward();
      optimizer.step();
      return loss.item();
    };
    return { run };
  },

  eigh({ n }: { n: number }): Task {
    const a = ndarray(gram(n), [n, n]);
    return { run: () => eigh(a).values.get(n - 1) };
  },

  cholesky({ n }: { n: number }): Task {
    const a = ndarray(definite(n), [n, n]);
    return { run: () => cholesky(a).get(n - 1, n - 1) };
  },

  inverse({ n }: { n: number }): Task {
    const a = ndarray(definite(n), [n, n]);
    return { run: () => inverse(a).get(n - 1, n - 1) };
  },

  qr({ n }: { n: number }): Task {
    const a = ndarray(definite(n), [n, n]);
    return {
      run() {
        const { q, r } = qr(a);
        return Math.abs(q.get(n - 1, n - 1)) + Math.abs(r.get(n - 1, n - 1));
      },
    };
  },

  /**
   * Ten steps, of which one updates the factors. The bases are those of a first refresh after batches enough for factors of
   * full rank: with less, STEVE leaves directions out.
   */
  kronecker({
    optimizer,
    network,
    route = 'auto',
  }: {
    optimizer: string;
    network: Network;
    route?: Route | 'auto';
  }): Task {
    const { model, data, more, loss } = networks[network](SIZES[network] as never);
    const make: Record<string, (o: KroneckerOptions) => Optimizer> = {
      adam: () => adam(model),
      kfac: o => new KFAC(model, { lr: 1e-3, damping: 0.01, route, ...o }),
      ekfac: o => new EKFAC(model, { lr: 1e-3, damping: 0.01, route, ...o }),
      steve: o => new STEVE(model, { lr: 1e-3, route, ...o }),
    };
    const first = make[optimizer]!({ refreshEvery: FIRST, factorDecay: 0.99 });
    const warmup = Array.from({ length: FIRST + 1 }, (_, i) => more(100 + i));
    const warm = training(model, first, warmup, loss);
    for (const _ of warmup) warm.run();
    const state = first.stateDict();
    if (first instanceof KroneckerPreconditioner) first.detach();
    const second = make[optimizer]!({ refreshEvery: 1e9, factorEvery: 10 });
    second.loadStateDict(state);
    const { run } = training(model, second, data, loss);
    const ten = () => {
      for (let i = 0; i < 9; i++) run();
      return run();
    };
    return { run: ten, units: 10 };
  },
};
