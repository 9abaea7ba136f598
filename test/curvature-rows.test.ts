// 'ggn' and 'sampled' are means over the rows of the model's output, whatever a layer's first axis is.

import assert from 'node:assert/strict';
import { Generator, grad, oneHot, randint, randn, type Tensor } from '@otimes/core';
import { crossEntropy, Linear, Module, mseLoss } from '@otimes/nn';
import { EKFAC, KFAC } from '@otimes/optim';
import { CurvatureEstimate, type CurvatureOptions, type FisherLoss } from '@otimes/optim/curvature';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { law } from './helpers/law.ts';
import { partsOf, Ranks } from './helpers/ranks.ts';

const [B, T, C] = [4, 5, 3];
const o = (seed: number) => ({ dtype: 'float64', rng: new Generator(seed) }) as const;

/** Logits of a Linear on [B, T, 6], or on rows of their own, in a shape. */
class Positions extends Module {
  readonly h = new Linear(6, C, o(5));
  readonly shaped: (z: Tensor) => Tensor;
  constructor(shaped: (z: Tensor) => Tensor) {
    super();
    this.shaped = shaped;
  }
  override forward(x: Tensor): Tensor {
    return this.shaped(this.h.call(x));
  }
}

/** Every |a|² is 2 with the homogeneous 1, so that a trace of A ⊗ G is exactly one of the loss Hessian. */
const x = oneHot(randint(0, 6, [B, T], { rng: new Generator(1) }), 6, { dtype: 'float64' });
const labels = randint(0, C, [B, T], { rng: new Generator(2) });
const targets = randn([B, T, C], o(3));

type Case = { loss: FisherLoss; x: Tensor; shaped: (z: Tensor) => Tensor; lossOf: (z: Tensor) => Tensor };
const flat = (z: Tensor) => z.reshape(-1, C);
const asIs = (z: Tensor) => z;
const ofRows = (z: Tensor) => crossEntropy(z, labels.flatten());
const CASES: Record<string, Case> = {
  'cross-entropy, positions are the batch': { loss: 'crossEntropy', x: x.reshape(-1, 6), shaped: asIs, lossOf: ofRows },
  'cross-entropy, logits [B·T, C]': { loss: 'crossEntropy', x, shaped: flat, lossOf: ofRows },
  'cross-entropy, logits [B, C, T]': {
    loss: 'crossEntropy',
    x,
    shaped: z => z.transpose(1, 2),
    lossOf: z => crossEntropy(z, labels),
  },
  'cross-entropy, logits [B, C, T, 1]': {
    loss: 'crossEntropy',
    x,
    shaped: z => z.transpose(1, 2).unsqueeze(3),
    lossOf: z => crossEntropy(z, labels.unsqueeze(2)),
  },
  'mse, positions are the batch': {
    loss: 'mse',
    x: x.reshape(-1, 6),
    shaped: asIs,
    lossOf: z => mseLoss(z, flat(targets)),
  },
  'mse, output [B·T, C]': { loss: 'mse', x, shaped: flat, lossOf: z => mseLoss(z, flat(targets)) },
  'mse, output [B, T, C]': { loss: 'mse', x, shaped: asIs, lossOf: z => mseLoss(z, targets) },
};

const trace = (X: Tensor): number => (X.toArray() as number[][]).reduce((sum, row, i) => sum + row[i]!, 0);

/** The trace of a loss's Hessian, by differentiating twice. */
function hessianTrace(loss: Tensor, parameters: readonly Tensor[]): number {
  const gradients = grad(loss, [...parameters], { createGraph: true });
  let sum = 0;
  for (const [k, g] of gradients.entries())
    for (let i = 0; i < g.size; i++) sum += grad(g.flatten().slice(i), [parameters[k]!])[0]!.flatten().slice(i).item();
  return sum;
}

function factorsOf({ loss, x, shaped, lossOf }: Case, options: CurvatureOptions, passes = 1) {
  const model = new Positions(shaped);
  const curvature = new CurvatureEstimate(model, { loss, rng: new Generator(7), ...options });
  for (let pass = 0; pass < passes; pass++) {
    lossOf(model.call(x)).backward();
    curvature.add();
  }
  return curvature.factors('h');
}

for (const [title, one] of Object.entries(CASES)) {
  const model = new Positions(one.shaped);
  const expected = hessianTrace(one.lossOf(model.call(one.x)), model.parameters());

  law(t, `${title}: the trace of ggn's A ⊗ G is that of the loss Hessian`, () => {
    const { A, G } = factorsOf(one, { fisher: 'ggn' });
    mustBeClose([trace(A) * trace(G)], [expected], { rtol: 1e-10 });
  });

  law(t, `${title}: the trace of sampled's is that in the mean`, () => {
    const { A, G } = factorsOf(one, { fisher: 'sampled' }, 400);
    mustBeClose([trace(A) * trace(G)], [expected], { rtol: 0.05 });
  });

  law(t, `${title}: ggn and sampled are those of positions as the batch`, () => {
    const tokens = CASES[`${title.split(',')[0]}, positions are the batch`]!;
    for (const fisher of ['ggn', 'sampled'] as const)
      for (const side of ['A', 'G'] as const)
        mustBeClose(factorsOf(one, { fisher })[side], factorsOf(tokens, { fisher })[side], {
          rtol: 1e-11,
          atol: 1e-13,
        });
  });
}

/** Five rows of output for each example, which meet in the one use that the layer has. */
class Mixing extends Module {
  readonly h = new Linear(6, C, o(5));
  readonly weights = randn([T, 1], o(6));
  override forward(x: Tensor): Tensor {
    return this.h.call(x).unsqueeze(1).mul(this.weights).reshape(-1, C);
  }
}
for (const loss of ['crossEntropy', 'mse'] as const) {
  const lossOf = (z: Tensor) => (loss === 'mse' ? mseLoss(z, flat(targets)) : ofRows(z));
  const inputs = x.narrow(1, 0, 1).squeeze(1);
  const model = new Mixing();
  const expected = hessianTrace(lossOf(model.call(inputs)), model.parameters());

  law(t, `${loss}: of rows that meet in a layer ggn is right in the mean`, () => {
    const curvature = new CurvatureEstimate(model, { fisher: 'ggn', loss, rng: new Generator(1) });
    for (let pass = 0; pass < 600; pass++) {
      lossOf(model.call(inputs)).backward();
      curvature.add();
    }
    curvature.detach();
    const { A, G } = curvature.factors('h');
    mustBeClose([trace(A) * trace(G)], [expected], { rtol: 0.05 });
  });

  law(t, `${loss}: second moments of EKFAC are means over the rows of the output`, () => {
    for (const fisher of ['ggn', 'sampled'] as const) {
      const means = [0, 0];
      for (let seed = 0; seed < 200; seed++)
        for (const [i, make] of [() => new Mixing(), () => new Positions(flat)].entries()) {
          const own = make();
          const optimizer = new EKFAC(own, { fisher, loss, lr: 0, factorDecay: 0, rng: new Generator(seed) });
          lossOf(own.call(i === 0 ? inputs : x)).backward();
          optimizer.step();
          means[i]! += optimizer.inspect('h').slots.get('S')!.sum().item() / 200;
        }
      const positions = new Positions(flat);
      const ofPositions = hessianTrace(lossOf(positions.call(x)), positions.parameters());
      mustBeClose(means, [expected, ofPositions], { rtol: 0.1 }, fisher);
    }
  });
}

law(t, 'several passes, and several processes, are one batch of all rows', async () => {
  const one = CASES['cross-entropy, logits [B·T, C]']!;
  const whole = factorsOf(one, { fisher: 'ggn' });
  const partLoss = (model: Module, sizes: readonly number[], i: number) =>
    crossEntropy(model.call(partsOf(x, sizes)[i]!), partsOf(labels, sizes)[i]!.flatten());

  const model = new Positions(flat);
  const passes = new CurvatureEstimate(model, { fisher: 'ggn', loss: 'crossEntropy' });
  for (const i of [0, 1]) partLoss(model, [2, 2], i).mul(0.5).backward();
  passes.add();

  const batches = new CurvatureEstimate(model, { fisher: 'ggn', loss: 'crossEntropy' });
  passes.detach();
  for (const i of [0, 1]) {
    partLoss(model, [1, 3], i).backward();
    batches.add();
  }
  assert.match(String(batches), new RegExp(`'h' 3 × 7, ${B * T} examples`));

  const processes = new Ranks(2).communicators.map(communicator => {
    const own = new Positions(flat);
    return { own, curvature: new CurvatureEstimate(own, { fisher: 'ggn', loss: 'crossEntropy', communicator }) };
  });
  await Promise.all(
    processes.map(async ({ own, curvature }, i) => {
      partLoss(own, [1, 3], i).backward();
      await curvature.add();
    }),
  );
  for (const curvature of [passes, batches, processes[0]!.curvature, processes[1]!.curvature])
    for (const side of ['A', 'G'] as const)
      mustBeClose(curvature.factors('h')[side], whole[side], { rtol: 1e-11, atol: 1e-13 }, side);
});

law(t, 'a step is the same for the mean over the rows and for their sum', () => {
  for (const fisher of ['ggn', 'sampled'] as const) {
    const weights = (['mean', 'sum'] as const).map(reduction => {
      const model = new Positions(flat);
      const optimizer = new KFAC(model, { fisher, loss: 'crossEntropy', lossReduction: reduction });
      crossEntropy(model.call(x), labels.flatten(), { reduction }).backward();
      optimizer.step();
      return model.h.weight.detach();
    });
    mustBeClose(weights[0]!, weights[1]!, { rtol: 1e-10, atol: 1e-12 });
  }
});

law(t, 'one row an example: ggn draws nothing', () => {
  const model = new Positions(asIs);
  const rng = new Generator(3);
  const before = String(rng.getState());
  const curvature = new CurvatureEstimate(model, { fisher: 'ggn', loss: 'mse', rng });
  mseLoss(model.call(x), targets).backward();
  curvature.add();
  assert.equal(String(rng.getState()), before);
});

law(t, 'logits with the classes last are refused, though the loss moves or flattens them itself', () => {
  for (const [lossOf, of] of [
    [(z: Tensor) => ofRows(flat(z)), x],
    [(z: Tensor) => crossEntropy(z.transpose(1, 2), labels), x],
    [(z: Tensor) => crossEntropy(flat(z), labels.narrow(1, 0, 1).flatten()), x.narrow(1, 0, 1)],
  ] as const)
    for (const fisher of ['ggn', 'sampled'] as const) {
      const model = new Positions(asIs);
      const curvature = new CurvatureEstimate(model, { fisher, loss: 'crossEntropy' });
      assert.throws(
        () => lossOf(model.call(of)).backward(),
        /ShapeError: fisher: cross-entropy needs logits \[batch, classes, …\], the model returned float64\[4,\d,3\] with the classes last: return z\.reshape\(-1, 3\)/,
      );
      assert.throws(() => curvature.add(), /no backward pass has reached/);
    }
});
