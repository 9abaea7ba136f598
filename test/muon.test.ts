// Muon against plain loops, and its laws: singular values, equivariance, scale.
import assert from 'node:assert/strict';
import { Generator, noGrad, randn, type Tensor, tensor, zeros } from '@otimes/core';
import { eigh, qr } from '@otimes/linalg';
import { Conv2d, Linear, Module } from '@otimes/nn';
import { AdamW, Muon, type MuonOptions, SGD } from '@otimes/optim';
import fc from 'fast-check';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { law } from './helpers/law.ts';
import { optimizerLaws } from './suites/optimizers.ts';

const dtype = 'float64';

optimizerLaws(t, { name: 'Muon', make: m => new Muon(m, { lr: 0.05 }) });
optimizerLaws(t, {
  name: 'Muon without Nesterov, decayed, with SGD for the rest',
  make: m =>
    new Muon(m, { lr: 0.03, nesterov: false, weightDecay: 0.1, rest: p => new SGD(p, { lr: 0.05, momentum: 0.9 }) }),
});

// --- by plain loops ---------------------------------------------------------------------------------------------------------

type Matrix = number[][];
const times = (x: Matrix, y: Matrix): Matrix =>
  x.map(row => y[0]!.map((_, j) => row.reduce((sum, value, k) => sum + value * y[k]![j]!, 0)));
const transposed = (x: Matrix): Matrix => x[0]!.map((_, j) => x.map(row => row[j]!));
const combined = (p: number, x: Matrix, q: number, y: Matrix): Matrix =>
  x.map((row, i) => row.map((value, j) => p * value + q * y[i]![j]!));

/** Five Newton–Schulz steps, as Jordan et al. print them, times √max(1, rows / columns). */
function orthogonalized(g: Matrix): Matrix {
  const norm = Math.sqrt(g.flat().reduce((sum, x) => sum + x * x, 0)) + 1e-7;
  let X = g.map(row => row.map(x => x / norm));
  const tall = g.length > g[0]!.length;
  if (tall) X = transposed(X);
  for (let i = 0; i < 5; i++) {
    const A = times(X, transposed(X));
    X = combined(3.4445, X, 1, times(combined(-4.775, A, 2.0315, times(A, A)), X));
  }
  if (tall) X = transposed(X);
  const scale = Math.sqrt(Math.max(1, g.length / g[0]!.length));
  return X.map(row => row.map(x => scale * x));
}

/** A matrix of a tensor [rows, …]. */
const matrixOf = (x: Tensor): Matrix => x.flatten(1).toArray() as Matrix;

/** One matrix of zeros, whose gradients a law gives itself. */
class Given extends Module {
  readonly layer: Linear;
  constructor(rows: number, columns: number, o: { dtype?: 'float32' | 'float64'; device?: string } = {}) {
    super();
    this.layer = new Linear(columns, rows, { bias: false, dtype, ...o });
    noGrad(() => this.layer.weight.copy_(zeros([rows, columns], { dtype, ...o })));
  }
  override forward(x: Tensor): Tensor {
    return this.layer.call(x);
  }
}

/** What a first step takes off the weights at lr 1, for a gradient [rows, columns]: of all momenta the same but for rounding. */
function updateOf(g: Tensor, o: MuonOptions = {}): Tensor {
  const [rows, columns] = g.shape as [number, number];
  const model = new Given(rows, columns, { dtype: g.dtype as 'float64' });
  const optimizer = new Muon(model, { lr: 1, momentum: 0, ...o });
  model.layer.weight.grad = g;
  optimizer.step();
  return model.layer.weight.detach().neg();
}

for (const nesterov of [true, false])
  law(t, `equals plain loops over several steps, with weight decay (nesterov ${nesterov})`, () => {
    const [lr, beta, weightDecay] = [0.1, 0.9, 0.3];
    const rng = new Generator(4);
    for (const layer of [
      new Linear(4, 7, { dtype, rng }),
      new Linear(7, 4, { dtype, rng }),
      new Conv2d(2, 5, [3, 2], { dtype, rng }),
      new Conv2d(4, 6, 3, { dtype, rng, groups: 2 }),
    ]) {
      const { weight, bias } = layer;
      const optimizer = new Muon(layer, { lr, momentum: beta, nesterov, weightDecay });
      let W = matrixOf(weight.detach());
      let m: Matrix = W.map(row => row.map(() => 0));
      const b = bias!.detach().clone();
      b.requiresGrad = true;
      const rest = new AdamW([b], { lr: 3e-4, betas: [0.9, 0.95], eps: 1e-10, weightDecay: 0 });
      for (let step = 0; step < 5; step++) {
        weight.grad = randn(weight.shape, { dtype, rng });
        bias!.grad = b.grad = randn(bias!.shape, { dtype, rng });
        const g = matrixOf(weight.grad);
        m = combined(beta, m, 1 - beta, g);
        const O = orthogonalized(nesterov ? combined(1 - beta, g, beta, m) : m);
        W = combined(1 - lr * weightDecay, W, -lr, O);
        optimizer.step();
        rest.step();
        mustBeClose(weight.detach().flatten(1), W, { rtol: 1e-10, atol: 1e-12 }, `${layer} after step ${step}`);
        mustBeClose(bias!.detach(), b.detach(), { rtol: 0, atol: 0 }, 'the rest');
      }
    }
  });

// --- laws -------------------------------------------------------------------------------------------------------------------

const orthogonal = (n: number, rng: Generator): Tensor => tensor(qr(randn([n, n], { dtype, rng }).ndarray()).q);

/** A matrix with these singular values. */
function withSpectrum(rows: number, columns: number, spectrum: readonly number[], rng: Generator): Tensor {
  const S = zeros([rows, columns], { dtype });
  spectrum.forEach((s, i) => {
    S.slice(i, i).copy_(tensor(s, { dtype }));
  });
  return orthogonal(rows, rng).matmul(S).matmul(orthogonal(columns, rng));
}

/** In ascending order. */
function singularValues(x: Tensor): number[] {
  const [rows, columns] = x.shape as [number, number];
  const smaller = rows < columns ? x.matmul(x.transpose()) : x.transpose().matmul(x);
  return Array.from(eigh(smaller.ndarray()).values.data, value => Math.sqrt(Math.max(0, value)));
}

const sizes = fc.record({
  seed: fc.integer({ min: 1, max: 1e6 }),
  rows: fc.integer({ min: 1, max: 16 }),
  columns: fc.integer({ min: 1, max: 16 }),
});

law(
  t,
  'all singular values of an update are in [.5, 1.3] √max(1, rows / columns), for gradients of condition up to 100',
  () => {
    const holds = ({
      seed,
      rows,
      columns,
      condition,
    }: {
      seed: number;
      rows: number;
      columns: number;
      condition: number;
    }) => {
      const rng = new Generator(seed);
      const n = Math.min(rows, columns);
      const spectrum = Array.from({ length: n }, (_, i) =>
        i === 0 ? 1 : i === n - 1 ? 1 / condition : condition ** -rng.uniform(),
      );
      const update = updateOf(withSpectrum(rows, columns, spectrum, rng));
      const scale = Math.sqrt(Math.max(1, rows / columns));
      const found = singularValues(update);
      assert.ok(found[0]! >= 0.5 * scale && found.at(-1)! <= 1.3 * scale, `${found} of ${spectrum}, scale ${scale}`);
    };
    fc.assert(
      fc.property(
        fc.record({
          seed: fc.integer({ min: 1, max: 1e6 }),
          rows: fc.integer({ min: 1, max: 16 }),
          columns: fc.integer({ min: 1, max: 16 }),
          condition: fc.double({ min: 1, max: 100, noNaN: true }),
        }),
        holds,
      ),
      { seed: 42, numRuns: 60 },
    );
  },
);

law(
  t,
  'near the end: singular values from .0016 of the Frobenius norm on reach .68, and smaller ones grow at most 485-fold',
  () => {
    const rng = new Generator(3);
    for (const small of [0.1, 0.01, 0.0017, 0.0005, 1e-5]) {
      const [least, most] = singularValues(updateOf(withSpectrum(2, 2, [Math.sqrt(1 - small ** 2), small], rng)));
      assert.ok(most! < 1.21, `${most}`);
      if (small > 0.0016) assert.ok(least! > 0.68, `${small} → ${least}`);
      else assert.ok(least! <= 485 * small && least! > 470 * small, `${small} → ${least}`);
    }
  },
);

law(t, 'orthogonal equivariance: the update of U g Vᵀ is U update Vᵀ', () => {
  fc.assert(
    fc.property(sizes, ({ seed, rows, columns }) => {
      const rng = new Generator(seed);
      const g = randn([rows, columns], { dtype, rng });
      const [U, V] = [orthogonal(rows, rng), orthogonal(columns, rng)];
      const turned = updateOf(U.matmul(g).matmul(V.transpose()));
      mustBeClose(turned, U.matmul(updateOf(g)).matmul(V.transpose()), { rtol: 0, atol: 1e-11 });
    }),
    { seed: 42, numRuns: 40 },
  );
});

law(t, 'the update of gᵀ is that of g, transposed, but for √max(1, rows / columns)', () => {
  const g = randn([7, 3], { dtype, rng: new Generator(1) });
  mustBeClose(
    updateOf(g),
    updateOf(g.transpose())
      .transpose()
      .mul(Math.sqrt(7 / 3)),
    { atol: 1e-12 },
  );
});

law(t, 'scale invariance, up to 1e-7 over the norm of the gradient', () => {
  const g = randn([6, 4], { dtype, rng: new Generator(2) });
  const update = updateOf(g);
  for (const scale of [1e-3, 1, 1e3, 1e30])
    mustBeClose(
      updateOf(g.mul(scale)),
      update,
      { rtol: 0, atol: 1e-4 / Math.min(1000, 1000 * scale) },
      `times ${scale}`,
    );
  mustBeClose(updateOf(g.mul(1e4)), updateOf(g.mul(1e8)), { rtol: 0, atol: 1e-9 });
  assert.deepEqual([...updateOf(zeros([2, 3], { dtype })).dataSync()].map(Math.abs), [0, 0, 0, 0, 0, 0]);
});

law(t, 'float32: the update is that of float64 to rounding', () => {
  const g = randn([9, 5], { dtype, rng: new Generator(6) });
  const narrow = updateOf(g.astype('float32'));
  assert.equal(narrow.dtype, 'float32');
  mustBeClose(narrow, updateOf(g), { rtol: 0, atol: 2e-5 });
  assert.ok(singularValues(updateOf(g.astype('float32').mul(1e30)).astype(dtype)).every(s => s > 0.5));
});
