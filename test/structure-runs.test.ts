// Training with structured factors: in the background, saved and loaded, followed by products, and beside null directions.

import assert from 'node:assert/strict';
import { Generator, randint, randn, type StateDict, type Tensor, where } from '@otimes/core';
import { eigh } from '@otimes/linalg';
import { Conv2d, crossEntropy, Flatten, Linear, type Module, Sequential, Tanh } from '@otimes/nn';
import {
  EKFAC,
  KFAC,
  type KroneckerOptions,
  type KroneckerPreconditioner,
  STEVE,
  subspaceIteration,
} from '@otimes/optim';
import { Side } from '@otimes/optim/curvature';
import t from 'tap';
import { Kfe } from '../optim/src/curvature/basis.ts';
import { stillDiagonal } from '../optim/src/curvature/decompose/stays.ts';
import { NullSpace } from '../optim/src/curvature/nulls.ts';
import { mustBeClose } from './helpers/allclose.ts';
import { bitsOf, warningsOf } from './helpers/family.ts';
import { law, overSeeds } from './helpers/law.ts';
import { basisOf, dense, factorOf, sideOf } from './helpers/sides.ts';
import { blocksOf } from './suites/exactness.ts';

const STRUCTURES: Record<string, KroneckerOptions> = {
  blocks: { structure: 'blocks', blockDim: 5 },
  taps: { structure: 'taps' },
  'A diagonal': { structure: { A: 'diagonal' } },
  'channels, G in blocks': { structure: { A: 'channels', G: 'blocks' }, blockDim: 2 },
};
const OPTIMIZERS: Record<string, (m: Module, o: KroneckerOptions) => KroneckerPreconditioner> = {
  KFAC: (m, o) => new KFAC(m, { damping: 0.1, momentum: 0.5, ...o }),
  EKFAC: (m, o) => new EKFAC(m, { damping: 0.1, ...o }),
  STEVE: (m, o) => new STEVE(m, o),
};

class Run {
  readonly model: Module;
  readonly optimizer: KroneckerPreconditioner;
  step = 0;

  constructor(make: (m: Module, o: KroneckerOptions) => KroneckerPreconditioner, o: KroneckerOptions) {
    const rng = new Generator(1);
    this.model = new Sequential(new Conv2d(2, 4, 3, { rng }), new Tanh(), new Flatten(), new Linear(16, 3, { rng }));
    this.optimizer = make(this.model, { refreshEvery: 3, ...o });
  }

  to(step: number): this {
    for (; this.step < step; this.step++) {
      const rng = new Generator(this.step + 100);
      this.optimizer.zeroGrad();
      crossEntropy(this.model.call(randn([8, 2, 4, 4], { rng })) as Tensor, randint(0, 3, [8], { rng })).backward();
      void this.optimizer.step();
    }
    return this;
  }

  get bits(): string {
    return bitsOf(this.model.stateDict());
  }
}

for (const [name, make] of Object.entries(OPTIMIZERS))
  for (const [what, structure] of Object.entries(STRUCTURES)) {
    const sync = () => new Run(make, structure);

    law(t, `${name}, ${what}: saved, loaded and gone on is the run without a break, bit for bit`, () => {
      const whole = sync().to(9).bits;
      for (const o of [structure, { ...structure, refresh: 'background', refreshLag: 2 } as const]) {
        const want = o === structure ? whole : new Run(make, o).to(9).bits;
        for (const cut of [1, 5, 7]) {
          const first = new Run(make, o).to(cut);
          const second = new Run(make, o);
          second.model.loadStateDict(first.model.stateDict());
          second.optimizer.loadStateDict(first.optimizer.stateDict());
          second.step = cut;
          assert.equal(second.to(9).bits, want, `after ${cut}`);
        }
      }
    });

    law(
      t,
      `${name}, ${what}: bases of the background are those of the step, to the last bit, and take over later`,
      () => {
        const background = { ...structure, refresh: 'background', refreshLag: 3 } as const;
        const [now, later] = [new Run(make, { ...structure, lr: 0 }), new Run(make, { ...background, lr: 0 })];
        now.to(4);
        later.to(7);
        for (const [i, { kfe }] of blocksOf(now.optimizer).entries()) {
          const other = blocksOf(later.optimizer)[i]!.kfe!;
          for (const part of ['UA', 'UG', 'sA', 'sG', 'nA', 'nG'] as const)
            assert.deepEqual(other[part]?.dataSync(), kfe![part]?.dataSync(), part);
        }
      },
    );

    law(t, `${name}, ${what}: loading under another structure is an error that names both, and loads nothing`, () => {
      const saved = sync().to(2).optimizer.stateDict();
      const other = new Run(make, { structure: 'exact' }).to(1);
      const before = [bitsOf(other.optimizer.stateDict()), other.bits];
      const own = {
        blocks: "2 'blocks'",
        taps: "'taps'",
        'A diagonal': "'diagonal'",
        'channels, G in blocks': "'channels'",
      }[what]!;
      assert.throws(
        () => other.optimizer.loadStateDict(saved),
        (error: Error) =>
          error.message.includes(`does not fit: conv2d '0': factor A was saved as ${own} and is 'exact' here`) &&
          error.message.includes('give structure, blockDim and maxFactorDim as they were when it was saved') &&
          error.message.includes(`${name}.loadStateDict: nothing was loaded`) &&
          !error.message.includes('unexpected'),
      );
      assert.deepEqual([bitsOf(other.optimizer.stateDict()), other.bits], before);
    });

    law(t, `${name}, ${what}: a step that fails on the way changes nothing`, () => {
      const run = sync().to(4);
      const before = bitsOf(run.optimizer.stateDict());
      run.optimizer.zeroGrad();
      crossEntropy(run.model.call(randn([8, 2, 4, 4]).mul(Number.NaN)) as Tensor, randint(0, 3, [8])).backward();
      assert.throws(() => run.optimizer.step(), /no parameter was changed/);
      assert.equal(bitsOf(run.optimizer.stateDict()), before);
    });
  }

law(t, 'bases that are followed by products come to those of the eigensolver, part by part', () => {
  for (const structure of Object.values(STRUCTURES)) {
    const run = new Run(OPTIMIZERS.KFAC!, {
      ...structure,
      lr: 0,
      factorDecay: 0.99,
      refreshEvery: 1,
      eigensolver: subspaceIteration({ steps: 20, firstSteps: 20 }),
    });
    run.to(40);
    for (const { kfe, A, G, sideA, sideG } of blocksOf(run.optimizer))
      for (const [side, U, F] of [
        [sideA, kfe!.UA, A!],
        [sideG, kfe!.UG, G!],
      ] as const) {
        if (!side.turns) continue;
        const [D, W] = [dense(side, F, { factor: true }), dense(side, U)];
        const inBasis = W.transpose().matmul(D).matmul(W);
        const diagonal = inBasis.reshape([-1]).slice([null, null, side.n + 1]);
        assert.ok(inBasis.square().sum().sub(diagonal.square().sum()).item() < 1e-4 * inBasis.square().sum().item());
      }
  }
});

law(t, 'a side that cannot be followed keeps its basis, all of its parts, and that is told', () => {
  let calls = 0;
  const tracker = {
    follow: (_: Tensor, U: Tensor) => (U.shape[0] === 9 && calls++ > 0 ? U.mul(2) : U),
  };
  const run = new Run(OPTIMIZERS.KFAC!, { structure: 'taps', refreshEvery: 1, eigensolver: tracker });
  run.to(2);
  const before = run.optimizer.inspect('0').kfe!.UA!.dataSync().slice();
  const said = warningsOf(() => run.to(3));
  assert.deepEqual(said, [
    "KFAC: a refresh failed and the old basis stays: conv2d '0': the eigenvectors of factor A could not be followed",
  ]);
  assert.deepEqual(run.optimizer.inspect('0').kfe!.UA!.dataSync(), before);
});

law(t, 'null directions are those of the sides, and coordinates of either are masked and averaged', () =>
  overSeeds(60, seed => {
    const o = { rng: new Generator(seed), dtype: 'float64' } as const;
    const [A, G] = [Side.channels(13, 4, { bias: true }), Side.blocks(6, 3)];
    const spectrum = (side: Side, ranks: number) => {
      const F = factorOf(side, randn([ranks, side.n], o));
      const U = basisOf(side, o)!;
      return side.spectrum(
        side.matrices(F).map((one, i) => {
          const V = side.matrices(U)[i]!;
          return {
            s: V.mul(one.matmul(V)).sum(0),
            n: V.square().transpose().matmul(one.square().sqrt().sum(1).unsqueeze(1)).squeeze(1),
          };
        }),
      );
    };
    const [a, g] = [spectrum(A, 1 + (seed % 3)), spectrum(G, 1 + (seed % 2))];
    // Some eigenvalues that are 0, as those of a basis of few examples are.
    const thinned = ({ s, n }: { s: Tensor; n: Tensor }, k: number) => ({ s: where(randn(s.shape, o).gt(k), s, 0), n });
    const [ofA, ofG] = [thinned(a, seed % 2 ? 0.3 : -9), thinned(g, seed % 3 ? 0.3 : -9)];
    const nullOf = ({ s, n }: { s: Tensor; n: Tensor }) =>
      Array.from(
        s.dataSync(),
        (value, i) => Number(value) <= 30 * 2 ** -52 * Number(n.dataSync()[i]) + 1e-14 * s.max().item(),
      );
    const [nullA, nullG] = [nullOf(ofA), nullOf(ofG)];
    const nulls = NullSpace.of(ofA, ofG);
    if (![...nullA, ...nullG].includes(true)) {
      assert.equal(nulls, null);
      return;
    }
    const counts = [nullA, nullG].map(one => one.filter(Boolean).length);
    assert.deepEqual([nulls!.counts.A, nulls!.counts.G], counts);
    const mask = nullG.map(row => nullA.map(column => Number(row || column)));
    mustBeClose(nulls!.mask().astype('float64'), mask, { rtol: 0, atol: 0 });
    const X = randn([6, 13], o).mul(1e-15);
    const [x, nA, nG] = [X.toArray() as number[][], ofA.n.dataSync(), ofG.n.dataSync()];
    const noise = x.map((row, i) =>
      row.map((value, j) =>
        Number(
          mask[i]![j] === 1 && Math.abs(value) <= 30 * 2 ** -52 * Math.sqrt(Number(nG[i])) * Math.sqrt(Number(nA[j])),
        ),
      ),
    );
    mustBeClose(nulls!.noise(X).astype('float64'), noise, { rtol: 0, atol: 0 });
    const averaged = x.map(row => [...row]);
    const mean = (values: number[]) => values.reduce((p, q) => p + q, 0) / values.length;
    for (const row of averaged) {
      const m = mean(row.filter((_, j) => nullA[j]));
      for (const j of row.keys()) if (nullA[j]) row[j] = m;
    }
    for (const j of nullA.keys()) {
      const m = mean(averaged.filter((_, i) => nullG[i]).map(row => row[j]!));
      for (const [i, row] of averaged.entries()) if (nullG[i]) row[j] = m;
    }
    mustBeClose(nulls!.average(X), averaged, { rtol: 1e-9, atol: 1e-25 });
  }),
);

law(t, 'a basis stays as the dense factor would let it, by what lies outside of the diagonal of the whole of it', () =>
  overSeeds(80, seed => {
    const o = { rng: new Generator(seed), dtype: 'float64' } as const;
    const of = { channels: 3, taps: 4, bias: seed % 2 === 0, blockDim: 5 } as const;
    const A = sideOf({ ...of, structure: (['taps', 'channels', 'blocks'] as const)[seed % 3]! });
    const G = Side.exact(2);
    const rows = randn([30, A.n], o);
    const [F, H] = [factorOf(A, rows), factorOf(G, randn([9, 2], o))];
    const kfe = Kfe.of(F, H, eigh, [2, A.n], { A, G });
    const next = F.add(factorOf(A, randn([30, A.n], o).mul(0.5)));
    const [D, W] = [dense(A, next, { factor: true }), dense(A, kfe.UA)];
    const inBasis = W.transpose().matmul(D).matmul(W);
    const diagonal = inBasis.reshape([-1]).slice([null, null, A.n + 1]);
    const outside = Math.sqrt(inBasis.square().sum().sub(diagonal.square().sum()).item()) / D.norm().item();
    const stays = (share: number) => stillDiagonal(kfe, next, H, share);
    assert.equal(stays(outside * 0.999), null);
    const kept = stays(outside * 1.001)!;
    mustBeClose(kept.sA, diagonal, { rtol: 1e-9, atol: 1e-12 });
    assert.equal(kept.UA, kfe.UA);
  }),
);

law(t, 'STEVE leaves null directions out with every structure, and reports them', () => {
  for (const structure of Object.values(STRUCTURES))
    for (const nullRule of ['noise', 'tolerance'] as const) {
      const run = new Run((m, o) => new STEVE(m, { ...o, nullRule }), structure);
      // Inputs of one channel that is 0 leave what reads it where it was, to the last bit.
      const before: StateDict = Object.fromEntries(
        Object.entries(run.model.stateDict()).map(([key, x]) => [key, x.clone()]),
      );
      for (let step = 0; step < 2; step++) {
        const rng = new Generator(step);
        run.optimizer.zeroGrad();
        const x = randn([8, 2, 4, 4], { rng });
        x.narrow(1, 1, 1).copy_(x.narrow(1, 1, 1).mul(0));
        crossEntropy(run.model.call(x) as Tensor, randint(0, 3, [8], { rng })).backward();
        void run.optimizer.step();
      }
      const [old, now] = [before['0.weight']!, run.model.stateDict()['0.weight']!];
      mustBeClose(now.narrow(1, 1, 1), old.narrow(1, 1, 1), { rtol: 1e-6, atol: 1e-6 });
      const { nulls } = run.optimizer.report().blocks[0]!;
      if (nullRule === 'noise') assert.ok(nulls!.A >= 9, `${nulls!.A}`);
      assert.ok(nulls!.masked >= 9 * 4);
    }
});
