// SINGD against runs in numpy, in the limits in which it is KFAC or SGD, and its invariances.

import assert from 'node:assert/strict';
import { concat, eye, Generator, ones, randint, randn, type Tensor, tensor } from '@otimes/core';
import { eigh } from '@otimes/linalg';
import { crossEntropy, Linear, type Module, Sequential, Tanh } from '@otimes/nn';
import { KFAC, Kfe, type Optimizer, SGD, SINGD, type SINGDOptions } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { golden, within } from './helpers/golden.ts';
import { law, overSeeds } from './helpers/law.ts';
import { dtype } from './helpers/nets.ts';
import { optimizerLaws } from './suites/optimizers.ts';

for (const [name, o] of Object.entries<SINGDOptions>({
  SINGD: { lr: 0.02, lrCov: 0.1, refreshEvery: 3 },
  'SINGD, diagonal and at the identity': {
    ...{ lr: 0.02, lrCov: 0.1, momentum: 0, normalizeLrCov: true },
    ...{ refreshEvery: 1, structure: { A: 'diagonal', G: 'identity' } },
  },
  'SINGD, IKFAC in blocks': {
    ...{ lr: 0.05, lrCov: 0.1, momentum: 0.5, adaptive: false, weightDecay: 0.01 },
    ...{ refreshEvery: 2, structure: 'blocks', blockDim: 2, stagger: true },
  },
}))
  optimizerLaws(t, { name, make: m => new SINGD(m, o) });

// --- numpy ------------------------------------------------------------------------------------------------------------------

type Run = { options: SINGDOptions; losses: number[]; weights: number[][][]; K: number[][][]; C: number[][][] };
const recorded = golden<{ init: number[][][]; batches: { x: number[][]; y: number[] }[]; runs: Run[] }>('singd');
const matrix = (rows: readonly (readonly number[])[]) =>
  tensor(
    rows.map(row => [...row]),
    { dtype },
  );

/** A network whose layers have [W | b]. */
function netOf(weights: readonly number[][][]): Sequential {
  const layers = weights.map(rows => {
    const all = matrix(rows);
    const [dOut, dIn] = all.shape as [number, number];
    const layer = new Linear(dIn - 1, dOut, { dtype });
    layer.loadStateDict({ weight: all.narrow(1, 0, dIn - 1).clone(), bias: all.narrow(1, dIn - 1, 1).reshape([dOut]) });
    return layer;
  });
  return new Sequential(...layers.flatMap((layer, i) => (i === 0 ? [layer] : [new Tanh(), layer])));
}

/** [W | b] of a layer. */
const weightOf = (layer: Module) => {
  const [w, b] = layer.parameters();
  return concat([w!.detach(), b!.detach().unsqueeze(1)], 1);
};

const inverseFactor = (optimizer: SINGD, path: string, slot: 'K' | 'C') => optimizer.inspect(path).slots.get(slot)!;

/** The matrix that a factor [n, n], [n] or [] stands for. */
const whole = (K: Tensor, n: number) => (K.rank === 2 ? K : eye(n, { dtype }).mul(K));

for (const [i, { options, losses, weights, K, C }] of recorded.runs.entries())
  law(t, `run ${i} of the paper's equations in numpy: ${JSON.stringify(options)}`, () => {
    const model = netOf(recorded.init);
    const optimizer = new SINGD(model, options);
    for (const [step, expected] of losses.entries()) {
      const { x, y } = recorded.batches[step % recorded.batches.length]!;
      optimizer.zeroGrad();
      const loss = crossEntropy(model.call(matrix(x)), tensor(y, { dtype: 'int32' }));
      mustBeClose([loss.item()], [expected], within(1e-11), `loss of step ${step}`);
      loss.backward();
      void optimizer.step();
    }
    for (const [k, path] of ['0', '2'].entries()) {
      mustBeClose(weightOf(model.layers[Number(path)]!), weights[k]!, within(1e-11), `weights of ${path}`);
      for (const [slot, all] of [
        ['K', K],
        ['C', C],
      ] as const) {
        const found = whole(inverseFactor(optimizer, path, slot), all[k]!.length);
        mustBeClose(found, all[k]!, within(1e-11), `${slot} of ${path}`);
      }
    }
  });

// --- limits -----------------------------------------------------------------------------------------------------------------

/** Parameters after some steps on seeded batches. */
function train(make: (model: Module) => Optimizer, reduction: 'mean' | 'sum' = 'mean', steps = 7): number[] {
  const rng = new Generator(3);
  const o = { dtype, rng } as const;
  const model = new Sequential(new Linear(5, 4, o), new Tanh(), new Linear(4, 3, o));
  const optimizer = make(model);
  for (let step = 0; step < steps; step++) {
    const [x, y] = [randn([8, 5], o), randint(0, 3, [8], { rng })];
    optimizer.zeroGrad();
    crossEntropy(model.call(x), y, { reduction }).backward();
    void optimizer.step();
  }
  return model.parameters().flatMap(p => Array.from(p.dataSync()));
}

/** Steps of a layer without bias, with rows x as inputs and rows g as gradients of one example's loss at its output. */
function pushed(o: SINGDOptions, x: Tensor, g: Tensor, steps: number, seed = 5) {
  const rng = new Generator(seed);
  const layer = new Linear(x.shape[1]!, g.shape[1]!, { dtype, bias: false, rng });
  const optimizer = new SINGD(layer, { refreshEvery: 1, ...o });
  for (let step = 0; step < steps; step++) {
    optimizer.zeroGrad();
    layer.call(x).mul(g).sum().div(x.shape[0]!).backward();
    void optimizer.step();
  }
  const [K, C] = [inverseFactor(optimizer, '', 'K'), inverseFactor(optimizer, '', 'C')];
  return { layer, optimizer, weight: layer.parameters()[0]!, K, C };
}

const second = (x: Tensor) => x.transpose().matmul(x).div(x.shape[0]!);
const inverse = (M: Tensor): Tensor => {
  const { values, vectors } = eigh(M.clone().ndarray());
  const U = tensor(vectors);
  return U.div(tensor(values)).matmul(U.transpose());
};
const squared = (K: Tensor) => K.matmul(K.transpose());
const shifted = (M: Tensor, by: number) => M.add(eye(M.shape[0]!, { dtype }).mul(by));
const rows = (seed: number, count: number, n: number) => randn([count, n], { dtype, rng: new Generator(seed) });

law(t, 'with lrCov 0, K and C stay 1 and SINGD is SGD with momentum', () => {
  const o = { lr: 0.1, momentum: 0.9 };
  mustBeClose(
    train(m => new SINGD(m, { ...o, lrCov: 0 })),
    train(m => new SGD(m.parameters(), o)),
    within(1e-13),
  );
});

law(t, 'with A = G = 1 and λ = 0, K and C stay 1, bit for bit, and so do their momenta at 0', () => {
  const x = eye(4, { dtype }).mul(2);
  const { K, C, optimizer } = pushed({ damping: 0, lrCov: 0.1 }, x, x, 5);
  for (const M of [K, C]) assert.deepEqual(M.dataSync(), eye(4, { dtype }).dataSync());
  for (const slot of ['mK', 'mC'])
    assert.ok(
      optimizer
        .inspect('')
        .slots.get(slot)!
        .dataSync()
        .every(one => one === 0),
    );
});

law(t, 'IKFAC on factors that stay becomes KFAC: K Kᵀ = (A + λ)⁻¹ and C Cᵀ = (G + λ)⁻¹', () => {
  overSeeds(5, seed => {
    const [x, g] = [rows(seed, 12, 4), rows(seed + 1, 12, 3)];
    const { K, C } = pushed({ lr: 0, adaptive: false, damping: 0.1, lrCov: 0.1 }, x, g, 400);
    mustBeClose(squared(K), inverse(shifted(second(x), 0.1)), within(1e-6), 'K Kᵀ');
    mustBeClose(squared(C), inverse(shifted(second(g), 0.1)), within(1e-6), 'C Cᵀ');
  });
});

law(t, 'SINGD on factors that stay becomes KFAC: without λ, C Cᵀ D K Kᵀ = G⁻¹ D A⁻¹', () => {
  overSeeds(5, seed => {
    const [x, g, D] = [rows(seed, 12, 4), rows(seed + 1, 12, 3), rows(seed + 2, 3, 4)];
    const { K, C } = pushed({ lr: 0, damping: 0, lrCov: 0.05 }, x, g, 600);
    const natural = inverse(second(g))
      .matmul(D)
      .matmul(inverse(second(x)));
    mustBeClose(squared(C).matmul(D).matmul(squared(K)), natural, within(1e-6));
  });
});

law(t, 'with λ each side is (s A + λ s′)⁻¹, s and s′ the means of the traces of CᵀGC and CᵀC', () => {
  overSeeds(5, seed => {
    const [x, g] = [rows(seed, 12, 4), rows(seed + 1, 12, 3)];
    const { K, C } = pushed({ lr: 0, damping: 0.1, lrCov: 0.05 }, x, g, 600);
    const mean = (M: Tensor) => M.mul(eye(M.shape[0]!, { dtype })).sum().item() / M.shape[0]!;
    const within_ = (other: Tensor, factor: Tensor) => mean(other.transpose().matmul(factor).matmul(other));
    const plain = (other: Tensor) => mean(other.transpose().matmul(other));
    const expected = (of: Tensor, other: Tensor, factor: Tensor) =>
      inverse(shifted(second(of).mul(within_(other, factor)), 0.1 * plain(other)));
    mustBeClose(squared(K), expected(x, C, second(g)), within(1e-5), 'K Kᵀ');
    mustBeClose(squared(C), expected(g, K, second(x)), within(1e-5), 'C Cᵀ');
  });
});

law(
  t,
  "IKFAC differs from the inverse of KFAC's running average by β₁²: half the step, a quarter of the distance",
  () => {
    overSeeds(5, seed => {
      const [x, g] = [rows(seed, 12, 4), rows(seed + 1, 12, 3)];
      const distance = (beta: number) => {
        const { K } = pushed({ lr: 0, adaptive: false, damping: 0.1, lrCov: beta }, x, g, 1);
        // S ← (1 − β) S + β (A + λ), of S = 1.
        const S = shifted(shifted(second(x), 0.1).mul(beta), 1 - beta);
        return squared(K).sub(inverse(S)).norm().item();
      };
      for (const beta of [1e-2, 1e-3]) {
        const ratio = distance(beta) / distance(beta / 2);
        assert.ok(ratio > 3.6 && ratio < 4.4, `β ${beta}: ${ratio}`);
      }
    });
  },
);

law(t, 'where A and G are diagonal, the structures diagonal, blocks and exact are one', () => {
  const axes = (n: number) => concat([eye(n, { dtype }).mul(1.5), eye(n, { dtype }).mul(-0.5)], 0);
  const scales = (n: number) =>
    tensor(
      Array.from({ length: n }, (_, i) => 1 + i / 2),
      { dtype },
    );
  const [x, g] = [axes(4).mul(scales(4)), concat([axes(3), ones([2, 3], { dtype }).mul(0)], 0).mul(scales(3))];
  const after = (structure: 'exact' | 'diagonal' | 'blocks') =>
    pushed({ lr: 0.1, lrCov: 0.2, structure, blockDim: 2 }, x, g, 9).weight;
  for (const structure of ['diagonal', 'blocks'] as const)
    mustBeClose(after(structure), after('exact'), within(1e-13), structure);
});

law(t, 'blocks of one coordinate are the diagonal, and one block is exact', () => {
  const of = (o: SINGDOptions) => pushed({ lr: 0.1, lrCov: 0.2, ...o }, rows(1, 12, 4), rows(2, 12, 3), 7).weight;
  mustBeClose(of({ structure: 'blocks', blockDim: 1 }), of({ structure: 'diagonal' }), within(1e-13));
  mustBeClose(of({ structure: 'blocks', blockDim: 9 }), of({ structure: 'exact' }), { rtol: 0, atol: 0 });
});

// --- invariances ------------------------------------------------------------------------------------------------------------

law(t, 'the sum of losses trains as their mean does', () => {
  const of = (lossReduction: 'mean' | 'sum') =>
    train(m => new SINGD(m, { lr: 0.1, lrCov: 0.1, refreshEvery: 2, lossReduction }), lossReduction);
  mustBeClose(of('sum'), of('mean'), within(1e-12));
});

law(t, 'orthogonal coordinates of the inputs, and of the outputs, change nothing', () => {
  overSeeds(5, seed => {
    const basis = (n: number) =>
      tensor(
        eigh(
          second(rows(seed + n, 9, n))
            .clone()
            .ndarray(),
        ).vectors,
      );
    const [x, g, U, V] = [rows(seed, 12, 4), rows(seed + 1, 12, 3), basis(4), basis(3)];
    const start = pushed({}, x, g, 0).weight.detach();
    const o = { lr: 0.1, lrCov: 0.1 };
    const moved = pushed(o, x, g, 5).weight.sub(start);
    const turned = pushed(o, x.matmul(U), g.matmul(V), 5).weight.sub(start);
    mustBeClose(turned, V.transpose().matmul(moved).matmul(U), within(1e-11));
  });
});

law(t, 'without λ only the product A ⊗ G counts: what one gains and the other loses changes no K', () => {
  overSeeds(5, seed => {
    const [x, g] = [rows(seed, 12, 4), rows(seed + 1, 12, 3)];
    const of = (by: number) => pushed({ damping: 0, lrCov: 0.1 }, x.mul(by), g.div(by), 5);
    const [one, other] = [of(1), of(3)];
    mustBeClose(one.K, other.K, within(1e-12), 'K');
    mustBeClose(one.C, other.C, within(1e-12), 'C');
  });
});

// --- what it does without ---------------------------------------------------------------------------------------------------

law(t, 'nothing is decomposed, and no basis is refreshed', () => {
  const { of } = Kfe;
  const counted = (make: (m: Module) => Optimizer) => {
    let calls = 0;
    Kfe.of = (...given) => {
      calls++;
      return of.call(Kfe, ...given);
    };
    try {
      train(make);
    } finally {
      Kfe.of = of;
    }
    return calls;
  };
  assert.equal(
    counted(m => new SINGD(m, { refreshEvery: 2 })),
    0,
  );
  assert.ok(counted(m => new KFAC(m, { refreshEvery: 2 })) > 0, 'what counts does count');
});

law(t, 'the report has no spectra, and describe() names the structures', () => {
  const model = netOf(recorded.init);
  const optimizer = new SINGD(model, { structure: { A: 'diagonal' } });
  crossEntropy(model.call(matrix(recorded.batches[0]!.x)), tensor([0, 1, 2, 0, 1, 2], { dtype: 'int32' })).backward();
  void optimizer.step();
  const { blocks } = optimizer.report();
  for (const { spectrum, effectiveRank, damping } of blocks)
    assert.deepEqual([spectrum, effectiveRank, damping], [null, null, null]);
  assert.deepEqual(optimizer.describe()[0]!.structure, { A: 'diagonal', G: 'exact' });
  assert.equal(
    Object.keys(optimizer.stateDict()).some(key => /\.(UA|UG|sA|nG)$/.test(key)),
    false,
  );
});

law(t, 'steps between two updates of K use what is there, and a K that somebody wrote to is seen', () => {
  const { optimizer, layer } = pushed({ refreshEvery: 100, momentum: 0, lr: 1 }, rows(1, 6, 4), rows(2, 6, 3), 3);
  for (const name of ['K', 'C'] as const) {
    const M = inverseFactor(optimizer, '', name);
    M.copy_(eye(M.shape[0]!, { dtype }).mul(2));
    const before = layer.parameters()[0]!.detach().clone();
    const [x, g] = [rows(3, 6, 4), rows(4, 6, 3)];
    optimizer.zeroGrad();
    layer.call(x).mul(g).sum().div(6).backward();
    const [K, C] = [inverseFactor(optimizer, '', 'K'), inverseFactor(optimizer, '', 'C')];
    const D = layer.parameters()[0]!.grad!.clone();
    void optimizer.step();
    const expected = squared(C).matmul(D).matmul(squared(K));
    mustBeClose(before.sub(layer.parameters()[0]!), expected, within(1e-13), name);
  }
});
