// What SOAP, Shampoo and KL-Shampoo are in the limit, and what they do not depend on.
import assert from 'node:assert/strict';
import { eye, Generator, noGrad, randn, type StateDict, type Tensor, tensor, zeros } from '@otimes/core';
import { eigh, qr } from '@otimes/linalg';
import { Linear } from '@otimes/nn';
import { Adagrad, Adam, KLShampoo, type Optimizer, SGD, Shampoo, SOAP, type SOAPOptions } from '@otimes/optim';
import fc from 'fast-check';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { law } from './helpers/law.ts';

const dtype = 'float64';

/** One matrix [rows, columns] of zeros, whose gradients a law gives itself. */
function matrix(rows: number, columns: number): Linear {
  const layer = new Linear(columns, rows, { bias: false, dtype });
  noGrad(() => layer.weight.copy_(zeros([rows, columns], { dtype })));
  return layer;
}

/** A copy of the weight after each step, and the optimizer. */
function run<O extends Optimizer>(make: (layer: Linear) => O, gradients: readonly Tensor[], from?: StateDict) {
  const [rows, columns] = gradients[0]!.shape as [number, number];
  const layer = matrix(rows, columns);
  const optimizer = make(layer);
  if (from !== undefined) optimizer.loadStateDict(from);
  const weights = gradients.map(g => {
    layer.weight.grad = g;
    optimizer.step();
    return layer.weight.detach().clone();
  });
  return { weights, optimizer, state: (key: string) => optimizer.stateDict()[`matrices.weight.${key}`]! };
}

const gradientsOf = (count: number, rows: number, columns: number, seed: number): Tensor[] => {
  const rng = new Generator(seed);
  return Array.from({ length: count }, () => randn([rows, columns], { dtype, rng }));
};
const orthogonal = (n: number, rng: Generator): Tensor => tensor(qr(randn([n, n], { dtype, rng }).ndarray()).q);

function mustAgree(actual: readonly Tensor[], expected: readonly Tensor[], atol = 1e-12): void {
  assert.equal(actual.length, expected.length);
  for (const [i, x] of actual.entries()) mustBeClose(x, expected[i]!, { rtol: 1e-9, atol }, `step ${i}`);
}

// --- SOAP -------------------------------------------------------------------------------------------------------------------

const plainSoap: SOAPOptions = { lr: 0.1, weightDecay: 0, eps: 1e-30 };
const adam = (layer: Linear) => new Adam([layer.weight], { lr: 0.1, betas: [0.95, 0.95], eps: 1e-30 });

law(t, 'SOAP with bases that stay the identity is Adam that has not seen the first gradient', () => {
  const gradients = gradientsOf(25, 4, 3, 1);
  const soap = run(m => new SOAP(m, { ...plainSoap, maxFactorDim: 1 }), gradients);
  mustAgree(soap.weights.slice(1), run(adam, gradients.slice(1)).weights);
  mustBeClose(soap.weights[0]!, zeros([4, 3], { dtype }), { rtol: 0, atol: 0 }, 'the first step');
});

law(t, 'SOAP that never refreshes is Adam in the eigenbasis of the first gradient', () => {
  const gradients = gradientsOf(25, 4, 4, 2);
  const soap = run(m => new SOAP(m, { ...plainSoap, refreshEvery: 1000 }), gradients);
  const [first] = gradients as [Tensor];
  const [QL, QR] = [first.matmul(first.transpose()), first.transpose().matmul(first)].map(F =>
    tensor(eigh(F.ndarray()).vectors),
  ) as [Tensor, Tensor];
  const turned = gradients.slice(1).map(g => QL.transpose().matmul(g).matmul(QR));
  const back = run(adam, turned).weights.map(w => QL.matmul(w).matmul(QR.transpose()));
  mustAgree(soap.weights.slice(1), back, 1e-10);
});

law(t, 'one-sided SOAP is SOAP whose larger side stays the identity, of a square matrix the columns', () => {
  for (const [rows, columns] of [
    [3, 4],
    [4, 3],
  ] as const) {
    const gradients = gradientsOf(25, rows, columns, 3);
    const o = { ...plainSoap, refreshEvery: 3 };
    const one = run(m => new SOAP(m, { ...o, oneSided: true }), gradients);
    mustAgree(one.weights, run(m => new SOAP(m, { ...o, maxFactorDim: 3 }), gradients).weights, 0);
    const flipped = run(
      m => new SOAP(m, { ...o, oneSided: true }),
      gradients.map(g => g.transpose()),
    );
    mustAgree(
      flipped.weights.map(w => w.transpose()),
      one.weights,
      1e-9,
    );
  }
  const keys = Object.keys(run(m => new SOAP(m, { oneSided: true }), gradientsOf(1, 3, 3, 1)).optimizer.stateDict());
  assert.deepEqual(
    keys.map(key => key.split('.').at(-1)),
    ['lr', 'step', 'm', 'v', 'L', 'QL'],
  );
});

/** Q of the Gram–Schmidt process, which is that of the QR decomposition with a positive diagonal. */
function gramSchmidt(X: Tensor): Tensor {
  const columns = X.transpose().toArray() as number[][];
  const found: number[][] = [];
  const dot = (x: number[], y: number[]) => x.reduce((sum, value, i) => sum + value * y[i]!, 0);
  for (const column of columns) {
    let rest = column;
    // Twice, for the digits.
    for (const q of [...found, ...found]) {
      const along = dot(q, rest);
      rest = rest.map((value, i) => value - along * q[i]!);
    }
    const norm = Math.sqrt(dot(rest, rest));
    found.push(rest.map(value => value / norm));
  }
  return tensor(found, { dtype }).transpose();
}

law(t, 'a refresh is one step of the power method, sorted, and Q of its QR but for signs; moments come along', () => {
  for (const seed of [1, 2, 3, 4]) {
    const gradients = gradientsOf(4, 5, 4, seed);
    const o = { ...plainSoap, lr: 0, shampooBeta: 0.5 };
    const [before, kept, after] = [
      run(m => new SOAP(m, { ...o, refreshEvery: 1000 }), gradients.slice(0, 3)),
      run(m => new SOAP(m, { ...o, refreshEvery: 1000 }), gradients),
      run(m => new SOAP(m, { ...o, refreshEvery: 3 }), gradients),
    ];
    const orders = (['L', 'R'] as const).map(side => {
      const [F, Q] = [after.state(side), before.state(`Q${side}`)];
      const estimates = [...F.matmul(Q).mul(Q).sum(0).dataSync()];
      const order = estimates.map((_, i) => i).sort((i, j) => estimates[j]! - estimates[i]!);
      const expected = gramSchmidt(F.matmul(Q).indexSelect(1, tensor(order, { dtype: 'int32' })));
      const signs = expected.transpose().matmul(after.state(`Q${side}`));
      mustBeClose(signs.abs(), eye(order.length, { dtype }), { atol: 1e-10 }, side);
      return tensor(order, { dtype: 'int32' });
    });
    const v = kept.state('v').indexSelect(0, orders[0]!).indexSelect(1, orders[1]!);
    mustBeClose(after.state('v'), v, { atol: 1e-12 }, 'v');
    const inWeights = ({ state }: typeof kept) => state('QL').matmul(state('m')).matmul(state('QR').transpose());
    mustBeClose(inWeights(after), inWeights(kept), { atol: 1e-12 }, 'm');
  }
});

law(t, 'signs of basis vectors do not matter: with some turned round the run is the same', () => {
  const gradients = gradientsOf(20, 4, 5, 6);
  const make = (m: Linear) => new SOAP(m, { ...plainSoap, refreshEvery: 4 });
  const begun = run(make, gradients.slice(0, 6));
  const saved = begun.optimizer.stateDict();
  const [left, right] = [tensor([1, -1, -1, 1], { dtype }), tensor([-1, 1, 1, -1, 1], { dtype })];
  const turned = {
    ...saved,
    'matrices.weight.QL': saved['matrices.weight.QL']!.mul(left),
    'matrices.weight.QR': saved['matrices.weight.QR']!.mul(right),
    'matrices.weight.m': saved['matrices.weight.m']!.mul(left.unsqueeze(1)).mul(right),
  };
  const others = gradients.slice(6);
  mustAgree(run(make, others, turned).weights, run(make, others, saved).weights);
});

law(t, 'SOAP with normalized gradients moves by lr times the bias correction, in the root mean square', () => {
  const o = { lr: 0.1, weightDecay: 0, normalizeGrads: true, refreshEvery: 3 };
  const { weights } = run(m => new SOAP(m, o), gradientsOf(8, 4, 3, 8));
  for (let step = 1; step < weights.length; step++) {
    const moved = weights[step]!.sub(weights[step - 1]!)
      .square()
      .mean()
      .sqrt()
      .item();
    const correction = Math.sqrt(1 - 0.95 ** step) / (1 - 0.95 ** step);
    mustBeClose([moved], [0.1 * correction], { rtol: 1e-10 });
  }
});

// --- Shampoo ----------------------------------------------------------------------------------------------------------------

const grafting = 'none';

law(t, 'Shampoo with a large ε is SGD with momentum and √ε as the divisor of its learning rate', () => {
  const gradients = gradientsOf(12, 4, 3, 1);
  const shampoo = run(m => new Shampoo(m, { grafting, lr: 0.1, eps: 1e14, refreshEvery: 1 }), gradients);
  const sgd = run(m => new SGD([m.weight], { lr: 0.1, momentum: 0.9 }), gradients);
  mustAgree(
    shampoo.weights.map(w => w.mul(1e7)),
    sgd.weights,
    1e-9,
  );
});

law(t, 'Shampoo of gradients that are diagonal is Adagrad', () => {
  const rng = new Generator(2);
  const gradients = Array.from({ length: 15 }, () => eye(4, { dtype }).mul(randn([4], { dtype, rng })));
  const shampoo = run(m => new Shampoo(m, { grafting, lr: 0.1, momentum: 0, eps: 1e-24, refreshEvery: 1 }), gradients);
  mustAgree(shampoo.weights, run(m => new Adagrad([m.weight], { lr: 0.1, eps: 1e-12 }), gradients).weights, 1e-9);
});

law(t, 'the first update of Shampoo is the orthogonal factor of the gradient, whatever its scale', () => {
  for (const scale of [1e-3, 1, 1e3]) {
    const [g] = gradientsOf(1, 4, 4, 3).map(x => x.mul(scale)) as [Tensor];
    const U = run(m => new Shampoo(m, { grafting, lr: 1, eps: 1e-24 * scale ** 2 }), [g]).weights[0]!.neg();
    mustBeClose(U.transpose().matmul(U), eye(4, { dtype }), { atol: 1e-8 });
    const stretch = U.transpose().matmul(g);
    mustBeClose(stretch, stretch.transpose(), { atol: 1e-8 * scale }, 'the other factor is symmetric');
    assert.ok(eigh(stretch.ndarray()).values.data.every(value => value > 0));
  }
});

law(t, 'of a side that stays the identity the other side takes the power over', () => {
  const [g] = gradientsOf(1, 3, 5, 4) as [Tensor];
  const U = run(m => new Shampoo(m, { grafting, lr: 1, eps: 1e-20, maxFactorDim: 4 }), [g]).weights[0]!.neg();
  mustBeClose(U.matmul(U.transpose()), eye(3, { dtype }), { atol: 1e-8 }, 'L^-½ D');
});

law(t, 'an average of one gradient has no bias: Shampoo with β < 1 begins as the sum does', () => {
  const gradients = gradientsOf(1, 4, 3, 5);
  const first = (beta: number) => run(m => new Shampoo(m, { grafting, beta }), gradients).weights;
  mustAgree(first(0.9), first(1), 1e-12);
  mustAgree(first(0), first(1), 1e-12);
});

law(t, 'a grafted update is as long as that of the method', () => {
  const gradients = gradientsOf(6, 4, 3, 6);
  const o = { lr: 0.1, momentum: 0, refreshEvery: 2 };
  const lengths = (weights: readonly Tensor[]) =>
    weights.map((w, i) => (i === 0 ? w : w.sub(weights[i - 1]!)).norm().item());
  const grafted = (grafting: 'sgd' | 'adam') =>
    lengths(run(m => new Shampoo(m, { ...o, grafting }), gradients).weights);
  mustBeClose(grafted('sgd'), lengths(run(m => new SGD([m.weight], { lr: 0.1 }), gradients).weights), { rtol: 1e-10 });
  mustBeClose(grafted('adam'), lengths(run(m => new Adam([m.weight], { lr: 0.1 }), gradients).weights), {
    rtol: 1e-10,
  });
});

// --- KL-Shampoo -------------------------------------------------------------------------------------------------------------

law(t, 'gradients √n A Q B with random rotations Q: KL-Shampoo finds A Aᵀ ⊗ Bᵀ B, and whitens them', () => {
  const n = 4;
  const rng = new Generator(5);
  const spread = (x: Tensor) => x.mul(0.3).add(eye(n, { dtype }));
  const [A, B] = [spread(randn([n, n], { dtype, rng })), spread(randn([n, n], { dtype, rng }))];
  const gradients = Array.from({ length: 400 }, () => A.matmul(orthogonal(n, rng)).matmul(B).mul(Math.sqrt(n)));
  const o = { lr: 1, weightDecay: 0, betas: [0, 0.9] as const, refreshEvery: 1, clamping: false };
  const { weights, state } = run(m => new KLShampoo(m, o), gradients);
  const [L, R] = [state('L'), state('R')];
  // Of L ⊗ R alone the scale of one is known.
  const scale = L.mul(L)
    .sum()
    .div(L.mul(A.matmul(A.transpose())).sum())
    .item();
  mustBeClose(L.mul(1 / scale), A.matmul(A.transpose()), { atol: 1e-6 }, 'L');
  mustBeClose(R.mul(scale), B.transpose().matmul(B), { atol: 1e-6 }, 'R');
  for (const [side, F] of [
    ['L', L],
    ['R', R],
  ] as const)
    mustBeClose(state(`s${side}`).sum(), F.mul(eye(n, { dtype })).sum(), { rtol: 1e-6 }, `eigenvalues of ${side}`);
  const U = weights.at(-1)!.sub(weights.at(-2)!).neg();
  mustBeClose(U.matmul(U.transpose()).mul(1 / n), eye(n, { dtype }), { atol: 1e-5 }, 'an update');
});

law(t, 'KL-Shampoo with one side alone is Shampoo of that side with power −1/2', () => {
  const gradients = gradientsOf(30, 3, 5, 7);
  const o = { lr: 1, weightDecay: 0, betas: [0, 0.9] as const, refreshEvery: 1, clamping: false, maxFactorDim: 4 };
  const { weights, state } = run(m => new KLShampoo(m, o), gradients);
  let L = zeros([3, 3], { dtype });
  for (const g of gradients) L = L.mul(0.9).add(g.matmul(g.transpose()).mul(0.1 / 5));
  mustBeClose(state('L'), L, { atol: 1e-12 });
  const last = weights.at(-1)!.sub(weights.at(-2)!).neg();
  const [g, whole] = [gradients.at(-1)!, run(m => new KLShampoo(m, o), gradients.slice(0, -1)).state];
  const Q = whole('QL');
  const expected = Q.matmul(Q.transpose().matmul(g).div(whole('sL').sqrt().add(1e-8).unsqueeze(1)));
  mustBeClose(last, expected, { rtol: 1e-7, atol: 1e-9 });
});

// --- coordinates ------------------------------------------------------------------------------------------------------------

const inAnyCoordinates: Record<string, (layer: Linear) => Optimizer> = {
  SOAP: m => new SOAP(m, { lr: 0.1, weightDecay: 0.1, refreshEvery: 2 }),
  'one-sided SOAP, of the rows': m => new SOAP(m, { lr: 0.1, oneSided: true, refreshEvery: 2 }),
  Shampoo: m => new Shampoo(m, { lr: 0.1, refreshEvery: 2, grafting }),
  'Shampoo grafted to SGD': m => new Shampoo(m, { lr: 0.1, beta: 0.9, grafting: 'sgd', refreshEvery: 2 }),
  KLShampoo: m => new KLShampoo(m, { lr: 0.1, refreshEvery: 2, clamping: false }),
};
for (const [name, make] of Object.entries(inAnyCoordinates))
  law(t, `${name}: the run of P D Q is that of D, turned by the orthogonal P and Q`, () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1e6 }), fc.constantFrom([3, 3], [4, 5]), (seed, [rows, columns]) => {
        const rng = new Generator(seed);
        const oneSided = name.startsWith('one-sided');
        const P = orthogonal(rows!, rng);
        const Q = oneSided ? eye(columns!, { dtype }) : orthogonal(columns!, rng);
        const turn = (x: Tensor) => P.matmul(x).matmul(Q);
        const gradients = gradientsOf(8, rows!, columns!, seed);
        mustAgree(run(make, gradients.map(turn)).weights, run(make, gradients).weights.map(turn), 1e-6);
      }),
      { seed: 42, numRuns: 15 },
    );
  });

law(t, 'P D Q tells Adam from SOAP: the first-order update is another one in other coordinates', () => {
  const rng = new Generator(1);
  const [P, gradients] = [orthogonal(3, rng), gradientsOf(8, 3, 3, 1)];
  const turned = run(
    adam,
    gradients.map(g => P.matmul(g)),
  ).weights.at(-1)!;
  assert.ok(
    turned
      .sub(P.matmul(run(adam, gradients).weights.at(-1)!))
      .norm()
      .item() > 0.05,
  );
});
