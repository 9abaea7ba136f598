// KFAC, EKFAC and STEVE with structured sides: each step is that of the dense matrices that the packed factors and bases stand for.

import { Generator, randint, randn, type Tensor, zeros } from '@otimes/core';
import { Conv2d, crossEntropy, Flatten, Linear, type Module, Sequential, Tanh } from '@otimes/nn';
import { type BlockState, EKFAC, KFAC, type KroneckerOptions, STEVE } from '@otimes/optim';
import { KroneckerOperator } from '@otimes/optim/curvature';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { law } from './helpers/law.ts';
import { dense } from './helpers/sides.ts';
import { blocksOf, exampleGradients, gradientMatrix } from './suites/exactness.ts';

const dtype = 'float64';
const close = { rtol: 1e-8, atol: 1e-10 };

/** Of both sides of a convolution with groups and without, and of linear layers with and without a bias. */
const STRUCTURES: Record<string, KroneckerOptions> = {
  blocks: { structure: 'blocks', blockDim: 4 },
  taps: { structure: 'taps' },
  channels: { structure: 'channels' },
  'taps, and blocks of G': { structure: { A: 'taps', G: 'blocks' }, blockDim: 2 },
  'blocks, and G at the identity': { structure: { A: 'blocks', G: 'identity' }, blockDim: 10 },
  'A diagonal, and G exact': { structure: { A: 'diagonal', G: 'exact' } },
  'both diagonal': { structure: 'diagonal' },
  'one of each': {
    overrides: {
      '0': { structure: 'taps' },
      '2': { structure: 'channels' },
      '5': { structure: 'blocks', blockDim: 3 },
    },
  },
};

const netOf = (seed: number) => {
  const o = { rng: new Generator(seed), dtype } as const;
  return new Sequential(
    new Conv2d(2, 4, 3, { padding: 1, ...o }),
    new Tanh(),
    new Conv2d(4, 4, [2, 3], { stride: 2, groups: 2, bias: false, ...o }),
    new Flatten(),
    new Tanh(),
    new Linear(24, 5, o),
    new Tanh(),
    new Linear(5, 3, { bias: false, ...o }),
  );
};

const batchOf = (seed: number, B = 40) => {
  const rng = new Generator(seed);
  return { x: randn([B, 2, 6, 6], { rng, dtype }), y: randint(0, 3, [B], { rng }) };
};

function backward(model: Module, { x, y }: { x: Tensor; y: Tensor }): void {
  for (const p of model.parameters()) p.grad = null;
  crossEntropy(model.call(x) as Tensor, y).backward();
}

/** [W | b] of a block; of a convolution's group its rows. */
function weightsOf({ block }: BlockState): Tensor {
  const group = /groups\.(\d+)$/.exec(block.path);
  const own = block.parameters.map(p =>
    group === null ? p.detach() : p.detach().narrow(0, Number(group[1]) * block.dOut, block.dOut),
  );
  return gradientMatrix(own).clone();
}

const denseFactors = ({ A, G, sideA, sideG }: BlockState) => ({
  A: dense(sideA, A!, { factor: true }),
  G: dense(sideG, G!, { factor: true }),
});
const denseBasis = ({ kfe, sideA, sideG }: BlockState) => ({ UA: dense(sideA, kfe!.UA), UG: dense(sideG, kfe!.UG) });
const project = (D: Tensor, { UA, UG }: { UA: Tensor; UG: Tensor }) => UG.transpose().matmul(D).matmul(UA);
const unproject = (D: Tensor, { UA, UG }: { UA: Tensor; UG: Tensor }) => UG.matmul(D).matmul(UA.transpose());

for (const [name, structure] of Object.entries(STRUCTURES)) {
  t.test(name, async t => {
    for (const dampingSplit of ['eigen', 'pi'] as const)
      for (const sharing of ['expand', 'reduce'] as const)
        law(t, `KFAC, ${dampingSplit}, ${sharing}: a step divides by the dense A ⊗ G with its damping`, () => {
          const model = netOf(1);
          const o = { lr: 0.1, damping: 0.02, trust: false, factorDecay: 0.5, refreshEvery: 1, sharing } as const;
          const optimizer = new KFAC(model, { ...o, dampingSplit, ...structure });
          for (let step = 0; step < 3; step++) {
            backward(model, batchOf(step + 1));
            const before = blocksOf(optimizer).map(weightsOf);
            const Ds = blocksOf(optimizer).map(({ block }) => block.gradient()!.clone());
            void optimizer.step();
            for (const [i, state] of blocksOf(optimizer).entries()) {
              const operator = KroneckerOperator.fromFactors(denseFactors(state));
              const update = operator.solve(Ds[i]!, { damping: 0.02, split: dampingSplit });
              mustBeClose(weightsOf(state), before[i]!.sub(update.mul(0.1)), close, `${state.label}, step ${step}`);
            }
          }
        });

    law(t, 'EKFAC: S is made of the squares of the examples in the dense basis, of one pass and of several', () => {
      for (const parts of [1, 2]) {
        const model = netOf(2);
        const o = {
          lr: 0.1,
          damping: 0.02,
          klClip: false,
          averageNull: false,
          factorDecay: 0.5,
          refreshEvery: 2,
        } as const;
        const optimizer = new EKFAC(model, { ...o, ...structure });
        const S = new Map<BlockState, Tensor>();
        for (let step = 0; step < 4; step++) {
          const { x, y } = batchOf(step + 5, 6);
          for (const p of model.parameters()) p.grad = null;
          for (let part = 0; part < parts; part++) {
            const at = (z: Tensor) => z.narrow(0, (part * 6) / parts, 6 / parts);
            crossEntropy(model.call(at(x)), at(y))
              .mul(1 / parts)
              .backward();
          }
          const before = blocksOf(optimizer).map(weightsOf);
          const Ds = blocksOf(optimizer).map(({ block }) => block.gradient()!.clone());
          const examples = blocksOf(optimizer).map(state =>
            groupOf(state, exampleGradients(model, state, x, y, 'crossEntropy')),
          );
          void optimizer.step();
          for (const [i, state] of blocksOf(optimizer).entries()) {
            const basis = denseBasis(state);
            const { sA, sG } = state.kfe!;
            const s = examples[i]!.map(D => project(D, basis).square())
              .reduce((a, b) => a.add(b))
              .mul(1 / 6);
            const old = step % 2 === 0 ? sG.unsqueeze(1).mul(sA) : S.get(state)!;
            S.set(state, old.mul(0.5).add(s.mul(0.5)));
            mustBeClose(state.slots.get('S')!, S.get(state)!, close, `S of ${state.label}, step ${step}`);
            const update = unproject(project(Ds[i]!, basis).div(S.get(state)!.add(0.02)), basis);
            mustBeClose(weightsOf(state), before[i]!.sub(update.mul(0.1)), close, `${state.label}, step ${step}`);
          }
        }
      }
    });

    for (const secondMoment of ['batch', 'example'] as const)
      law(t, `STEVE, ${secondMoment}: moments are Adam's in the dense basis, and turn with it`, () => {
        const model = netOf(3);
        const o = { lr: 0.01, nullRule: 'none', graft: false, factorDecay: 0.5, refreshEvery: 2 } as const;
        const optimizer = new STEVE(model, { ...o, secondMoment, ...structure });
        const kept = new Map<BlockState, { m: Tensor; v: Tensor; basis: { UA: Tensor; UG: Tensor } }>();
        for (let step = 1; step <= 5; step++) {
          const { x, y } = batchOf(step, 8);
          backward(model, { x, y });
          const before = blocksOf(optimizer).map(weightsOf);
          const Ds = blocksOf(optimizer).map(({ block }) => block.gradient()!.clone());
          const examples =
            secondMoment === 'batch'
              ? Ds.map(D => [D])
              : blocksOf(optimizer).map(state => groupOf(state, exampleGradients(model, state, x, y, 'crossEntropy')));
          void optimizer.step();
          for (const [i, state] of blocksOf(optimizer).entries()) {
            const basis = denseBasis(state);
            const blank = () => zeros(state.sizes, { dtype });
            const last = kept.get(state) ?? { m: blank(), v: blank(), basis };
            const turn = {
              UA: last.basis.UA.transpose().matmul(basis.UA),
              UG: last.basis.UG.transpose().matmul(basis.UG),
            };
            const squares = { UA: turn.UA.square(), UG: turn.UG.square() };
            const D = project(Ds[i]!, basis);
            const s = examples[i]!.map(one => project(one, basis).square())
              .reduce((a, b) => a.add(b))
              .mul(1 / examples[i]!.length);
            const m = project(last.m, turn).mul(0.9).add(D.mul(0.1));
            const v = project(last.v, squares).mul(0.999).add(s.mul(0.001));
            kept.set(state, { m, v, basis });
            mustBeClose(state.slots.get('m')!, m, close, `m of ${state.label}, step ${step}`);
            mustBeClose(state.slots.get('v')!, v, close, `v of ${state.label}, step ${step}`);
            const normalised = m.div(1 - 0.9 ** step).div(
              v
                .div(1 - 0.999 ** step)
                .sqrt()
                .add(1e-8),
            );
            const update = unproject(normalised, basis);
            mustBeClose(
              weightsOf(state),
              before[i]!.sub(update.mul(0.01)),
              { rtol: 1e-6, atol: 1e-8 },
              `${state.label}, step ${step}`,
            );
          }
        }
      });

    law(t, 'the basis is an operator as that of the dense factors is', () => {
      const model = netOf(4);
      const optimizer = new KFAC(model, { lr: 0, ...structure });
      backward(model, batchOf(1));
      void optimizer.step();
      for (const state of blocksOf(optimizer)) {
        const [own, whole] = [
          KroneckerOperator.fromBasis(state.kfe!),
          KroneckerOperator.fromFactors(denseFactors(state)),
        ];
        const X = randn([2, ...state.sizes], { rng: new Generator(1), dtype });
        mustBeClose(own.matvec(X), whole.matvec(X), close);
        mustBeClose(own.solve(X, { damping: 0.1 }), whole.solve(X, { damping: 0.1 }), close);
        mustBeClose(own.inverseDiagonal({ damping: 0.1 }), whole.inverseDiagonal({ damping: 0.1 }), close);
        mustBeClose(own.diagonal(), whole.diagonal(), close);
        mustBeClose(own.logdet({ damping: 0.1 }), whole.logdet({ damping: 0.1 }), close);
      }
    });
  });
}

/** Of gradients of all groups' rows those of a block. */
function groupOf({ block }: BlockState, Ds: readonly Tensor[]): readonly Tensor[] {
  const group = /groups\.(\d+)$/.exec(block.path);
  return group === null ? Ds : Ds.map(D => D.narrow(0, Number(group[1]) * block.dOut, block.dOut));
}
