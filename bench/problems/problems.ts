/**
 * Small problems on which optimizers have gone wrong: each is a network, a loss a step, and an error that is to fall to a target
 * within a number of steps. Targets are what Adam with lr 0.01 reaches within about half of the limit
 * (`--curve`), so that a problem asks for no more than that.
 */

import { concat, full, Generator, grad, noGrad, rand, randn, type Tensor, tensor, zeros } from '@otimes/core';
import { averagePool2 } from '@otimes/data';
import {
  bceWithLogits,
  Conv2d,
  crossEntropy,
  Flatten,
  Linear,
  MaxPool2d,
  Module,
  mlp,
  mseLoss,
  ReLU,
  Sequential,
} from '@otimes/nn';
import { loadDigits } from '../../examples/digits/load.ts';

/** A problem with the weights and the data of one seed. */
export type Setup = {
  readonly model: Module<readonly Tensor[], Tensor>;
  /** The loss of a step, from 0 on. */
  readonly loss: (step: number) => Tensor;
  /** What is to fall; leaves no trace in the model. */
  readonly error: () => number;
};

export type Problem = {
  readonly name: string;
  /** Of the error. */
  readonly target: number;
  /** Steps; more are a miss. */
  readonly limit: number;
  readonly setup: (seed: number) => Setup;
};

type Net = Module<readonly Tensor[], Tensor>;
type Loss = (z: Tensor, y: Tensor) => Tensor;

/** Batches of a data set, in turn; the error is the loss over all of it, or the share of wrong labels. */
function fitting(
  model: Net,
  x: Tensor,
  y: Tensor,
  lossOf: Loss,
  batch: number,
  counts: 'loss' | 'wrong' = 'loss',
): Setup {
  const batches = Math.floor(x.shape[0]! / batch);
  const part = (z: Tensor, i: number) => z.narrow(0, (i % batches) * batch, batch);
  return {
    model,
    loss: i => lossOf(model.call(part(x, i)), part(y, i)),
    error: () =>
      noGrad(() => {
        const z = model.call(x);
        return counts === 'loss' ? lossOf(z, y).item() : z.argmax(1).ne(y).astype('float32').mean().item();
      }),
  };
}

/** y = scale · sin 3x for 256 points of N(0, 1). */
function sine(net: (rng: Generator) => Net, { scale = 1, batch = 64 } = {}): Problem['setup'] {
  return seed => {
    const rng = new Generator(seed);
    const x = randn([256, 1], { rng });
    // In units of the targets, so that one target serves all scales.
    const units: Loss = (z, y) => mseLoss(z, y);
    const setup = fitting(net(rng), x, x.mul(3).sin().mul(scale), units, batch);
    return { ...setup, error: () => setup.error() / scale ** 2 };
  };
}

const relu = (...sizes: number[]) => {
  return (rng: Generator): Net => mlp(sizes, { rng });
};

const tanh = (...sizes: number[]) => {
  return (rng: Generator): Net => mlp(sizes, { activation: 'tanh', rng });
};

/** 256 points of five features that are N(0, 1) but for `raw`, and two classes that depend on the others. */
function rawColumn(raw: (rng: Generator) => Tensor): Problem['setup'] {
  return seed => {
    const rng = new Generator(seed);
    const x = randn([256, 4], { rng });
    const weights = tensor([[2], [-1], [1], [0.5]]);
    const labels = x.matmul(weights).squeeze(1).gt(0.3).astype('int32');
    return fitting(new Linear(5, 2, { rng }), concat([raw(rng), x], 1), labels, crossEntropy, 64, 'wrong');
  };
}

/** Regression on features of five orders of magnitude, with an offset. */
function unnormalised(seed: number): Setup {
  const rng = new Generator(seed);
  const z = randn([256, 5], { rng });
  const y = z
    .mul(tensor([1, -1, 1, -1, 1]))
    .sum(1, { keepdim: true })
    .mul(0.5)
    .tanh();
  const x = z.mul(tensor([0.01, 0.1, 1, 10, 100])).add(tensor([0.03, 0.1, 1, -10, 50]));
  return fitting(mlp([5, 32, 1], { activation: 'tanh', rng }), x, y, mseLoss, 64);
}

/** Half of the hidden units are dead: no input reaches them. */
function deadUnits(seed: number): Setup {
  const rng = new Generator(seed);
  const first = new Linear(4, 32, { rng });
  const model: Net = new Sequential(first, new ReLU(), new Linear(32, 1, { rng }));
  noGrad(() => first.bias!.narrow(0, 0, 16).copy_(full([16], -20)));
  const x = randn([256, 4], { rng });
  const y = x
    .narrow(1, 0, 1)
    .mul(x.narrow(1, 1, 1))
    .add(x.narrow(1, 2, 1).abs());
  return fitting(model, x, y, mseLoss, 64);
}

/** y = x₁/5000 − x₂/5000 + .7 with x of ±5000: weights of 2e-4, and a bias. */
function biasBesideLarge(seed: number): Setup {
  const rng = new Generator(seed);
  const x = rand([256, 2], { rng }).sub(0.5).mul(10000);
  const y = x
    .matmul(tensor([[1 / 5000], [-1 / 5000]]))
    .squeeze(1)
    .gt(-0.7)
    .astype('int32');
  return fitting(new Linear(2, 2, { rng }), x, y, crossEntropy, 64, 'wrong');
}

function deepLinear(seed: number): Setup {
  const rng = new Generator(seed);
  const layers = Array.from({ length: 6 }, () => new Linear(8, 8, { rng }));
  const [x, map] = [randn([256, 8], { rng }), randn([8, 8], { rng }).mul(Math.sqrt(1 / 8))];
  return fitting(new Sequential(...layers), x, x.matmul(map), mseLoss, 64);
}

function logistic(seed: number): Setup {
  const rng = new Generator(seed);
  const x = randn([512, 20], { rng });
  // Correlated features, and labels of which some are wrong.
  const mixed = x.matmul(randn([20, 20], { rng }).mul(0.3)).add(x.narrow(1, 0, 1));
  const y = x
    .narrow(1, 0, 3)
    .sum(1)
    .add(randn([512], { rng }).mul(0.5))
    .gt(0)
    .astype('int32');
  return fitting(new Linear(20, 2, { rng }), mixed, y, crossEntropy, 64);
}

/** −u″ = π² sin πx on (0, 1), u = 0 at both ends; the error is the mean of (u − sin πx)². */
function pinn(seed: number): Setup {
  const o = { dtype: 'float64' } as const;
  const rng = new Generator(seed);
  const model: Net = mlp([1, 16, 16, 1], { activation: 'tanh', rng, ...o });
  const x = rand([32, 1], { rng, ...o });
  x.requiresGrad = true;
  const source = x
    .detach()
    .mul(Math.PI)
    .sin()
    .mul(Math.PI ** 2);
  const ends = tensor([[0], [1]], o);
  const grid = rand([100, 1], { rng, ...o });
  const exact = grid.mul(Math.PI).sin();
  return {
    model,
    loss: () => {
      const inside = { createGraph: true };
      const [du] = grad(model.call(x).sum(), [x], inside);
      const [ddu] = grad(du!.sum(), [x], inside);
      return mseLoss(ddu!.neg(), source).add(model.call(ends).square().mean());
    },
    error: () => noGrad(() => mseLoss(model.call(grid), exact).item()),
  };
}

// --- digits --------------------------------------------------------------------------------------------------------------

let digits: { readonly images: Tensor; readonly labels: Tensor } | null = null;

/** 1,000 digits of 14×14 pixels from 0 to 1, and their labels. */
function digits14(): { readonly images: Tensor; readonly labels: Tensor } {
  if (digits === null) {
    const { train } = loadDigits();
    const [images, labels] = [train.images.narrow(0, 0, 1000), train.labels.narrow(0, 0, 1000)];
    digits = { images: averagePool2(images).contiguous(), labels: labels.contiguous() };
  }
  return digits;
}

function autoencoder(seed: number): Setup {
  const x = digits14().images.reshape(-1, 196);
  return fitting(tanh(196, 32, 8, 32, 196)(new Generator(seed)), x, x, mseLoss, 100);
}

/** Means and log variances of four hidden numbers, and the logits of the pixels. */
class Variational extends Module<readonly Tensor[], Tensor> {
  readonly encoder: Linear;
  readonly heads: Linear;
  readonly decoder: Sequential;
  /** Of the noise; the same for the same step. */
  rng = new Generator(0);
  /** Kullback–Leibler divergence of the last batch, a mean over its examples. */
  divergence: Tensor = zeros([]);

  constructor(rng: Generator) {
    super();
    this.encoder = new Linear(196, 64, { rng });
    this.heads = new Linear(64, 8, { rng });
    this.decoder = new Sequential(new Linear(4, 64, { rng }), new ReLU(), new Linear(64, 196, { rng }));
  }

  override forward(x: Tensor): Tensor {
    const code = this.heads.call(this.encoder.call(x).relu());
    const [mean, logVar] = [code.narrow(1, 0, 4), code.narrow(1, 4, 4)];
    const terms = mean.square().add(logVar.exp()).sub(logVar).sub(1).mul(0.5);
    this.divergence = terms.sum(1).mean();
    const noise = randn(mean.shape, { rng: this.rng });
    return this.decoder.call(mean.add(logVar.mul(0.5).exp().mul(noise)));
  }
}

function variational(seed: number): Setup {
  const x = digits14().images.reshape(-1, 196);
  const model = new Variational(new Generator(seed));
  const lossOf: Loss = (z, y) => bceWithLogits(z, y).mul(196).add(model.divergence);
  const setup = fitting(model, x, x, lossOf, 100);
  const at = (seed: number) => {
    model.rng = new Generator(seed);
  };
  return {
    model,
    loss(i) {
      at(i);
      return setup.loss(i);
    },
    error() {
      at(-1);
      return setup.error();
    },
  };
}

/** A convolutional network on digits whose brightness varies from .1 to 10. */
function variedCnn(seed: number): Setup {
  const rng = new Generator(seed);
  const { images, labels } = digits14();
  const brightness = rand([1000, 1, 1, 1], { rng }).mul(2).sub(1).mul(Math.LN10).exp();
  const x = images.unsqueeze(1).mul(brightness).contiguous();
  const model: Net = new Sequential(
    new Conv2d(1, 6, 3, { padding: 1, rng }),
    new ReLU(),
    new MaxPool2d(2),
    new Conv2d(6, 12, 3, { padding: 1, rng }),
    new ReLU(),
    new MaxPool2d(2),
    new Flatten(),
    new Linear(108, 10, { rng }),
  );
  return fitting(model, x, labels, crossEntropy, 50, 'wrong');
}

const column = (from: number, to: number) => (rng: Generator) =>
  rand([256, 1], { rng })
    .mul(to - from)
    .add(from);

export const PROBLEMS: readonly Problem[] = [
  { name: 'sin 3x, tanh 1-64-1', limit: 600, target: 0.05, setup: sine(tanh(1, 64, 1)) },
  { name: 'sin 3x, tanh 1-32-32-32-1', limit: 400, target: 0.02, setup: sine(tanh(1, 32, 32, 32, 1)) },
  { name: 'sin 3x, ReLU 1-32-32-1', limit: 400, target: 0.03, setup: sine(relu(1, 32, 32, 1)) },
  { name: 'targets of 100', limit: 800, target: 0.2, setup: sine(relu(1, 32, 32, 1), { scale: 100 }) },
  { name: 'targets of .01', limit: 400, target: 0.3, setup: sine(tanh(1, 32, 32, 1), { scale: 0.01 }) },
  { name: 'batches of 1', limit: 800, target: 0.1, setup: sine(tanh(1, 32, 32, 1), { batch: 1 }) },
  { name: 'batches of 4', limit: 800, target: 0.07, setup: sine(tanh(1, 32, 32, 1), { batch: 4 }) },
  { name: 'features of .01 to 100', limit: 400, target: 0.1, setup: unnormalised },
  { name: 'half of the units dead', limit: 400, target: 0.06, setup: deadUnits },
  { name: 'raw column 2000 ± 5', limit: 400, target: 0.1, setup: rawColumn(column(1995, 2005)) },
  { name: 'raw column 0 ± 5000', limit: 400, target: 0.1, setup: rawColumn(column(-5000, 5000)) },
  { name: 'inputs of ±5000 with a bias', limit: 400, target: 0.1, setup: biasBesideLarge },
  { name: 'deep linear, 6 layers', limit: 800, target: 0.03, setup: deepLinear },
  { name: 'logistic regression', limit: 400, target: 0.29, setup: logistic },
  { name: 'PINN, float64', limit: 400, target: 1e-4, setup: pinn },
  { name: 'autoencoder, digits', limit: 200, target: 0.028, setup: autoencoder },
  { name: 'variational autoencoder, digits', limit: 200, target: 51, setup: variational },
  { name: 'CNN, digits of varied brightness', limit: 200, target: 0.15, setup: variedCnn },
];
