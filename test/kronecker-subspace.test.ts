// Eigenbases that are followed by products: what a step promises, and optimizers with it on every device.

import assert from 'node:assert/strict';
import { eye, Generator, noGrad, randint, randn, readStateDict, type Tensor, tensor, zeros } from '@otimes/core';
import { eigh } from '@otimes/linalg';
import { crossEntropy, Linear, type Module, ReLU, Sequential } from '@otimes/nn';
import {
  type BasisTracker,
  EKFAC,
  KFAC,
  type KroneckerOptions,
  type KroneckerPreconditioner,
  STEVE,
  subspaceIteration,
} from '@otimes/optim';
import t from 'tap';
import { DEVICES } from './helpers/devices.ts';
import { law } from './helpers/law.ts';

const spread = (n: number, ratio: number) => tensor(Float32Array.from({ length: n }, (_, i) => ratio ** i));

/** Q diag(s) Qᵀ for a random orthonormal Q. */
function symmetric(s: Tensor, seed: number): Tensor {
  const n = s.size;
  const x = randn([n, n], { rng: new Generator(seed), dtype: 'float64' });
  const Q = tensor(eigh(x.add(x.transpose()).ndarray()).vectors).astype('float32');
  return Q.mul(s).matmul(Q.transpose());
}

/** By what an orthonormal U fails to be one, and ‖Uᵀ A U without its diagonal‖ / ‖A‖. */
async function quality(A: Tensor, U: Tensor): Promise<{ skew: number; off: number }> {
  const [a, u] = [await A.cpu(), await U.cpu()];
  const I = eye(u.shape[0]!);
  const B = u.transpose().matmul(a).matmul(u);
  const norm = a.norm().item();
  return {
    skew: u.transpose().matmul(u).sub(I).abs().max().item(),
    off: norm === 0 ? 0 : B.sub(B.mul(I)).norm().item() / norm,
  };
}

const FACTORS: Record<string, () => Tensor> = {
  'of full rank': () => symmetric(spread(12, 0.6), 1),
  'of rank 3 of 12': () => symmetric(spread(12, 0.5).mul(tensor([1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0])), 2),
  'with repeated eigenvalues': () => symmetric(tensor([3, 3, 3, 1, 1, 0.25, 0.25, 0, 0]), 3),
  'of features that differ by 1e6': () => {
    const scale = spread(8, 0.14).unsqueeze(1);
    const x = randn([8, 40], { rng: new Generator(4) }).mul(scale);
    return x.matmul(x.transpose());
  },
  'of one element': () => tensor([[2]]),
  'of zeros': () => zeros([5, 5]),
};

for (const device of DEVICES)
  for (const [what, make] of Object.entries(FACTORS))
    law(t, `${device}: steps on a factor ${what} stay orthonormal and make it diagonal`, async () => {
      const A = make();
      const [there, tracker] = [A.to(device), subspaceIteration({ steps: 20 })];
      const U = tracker.follow(there, tracker.follow(there, eye(A.shape[0]!, { device })));
      const { skew, off } = await quality(A, U);
      assert.ok(skew < 1e-5, `UᵀU differs from the identity by ${skew}`);
      assert.ok(off < 1e-5, `outside of the diagonal ${off}`);
    });

law(t, 'large factors of low rank, from the identity too, keep columns orthonormal to 1e-5 in every step', async () => {
  for (const [n, rank] of [
    [150, 40],
    [200, 200],
    [130, 3],
  ] as const) {
    const x = randn([n, rank], { rng: new Generator(n) }).mul(spread(rank, 0.9));
    const A = x.matmul(x.transpose());
    let [U, last] = [eye(n), Infinity];
    for (let i = 0; i < 6; i++) {
      U = subspaceIteration().follow(A, U);
      const { skew, off } = await quality(A, U);
      assert.ok(skew < 1e-5, `${n}, ${rank}, step ${i}: ${skew}`);
      assert.ok(off < last, `${n}, ${rank}, step ${i}: ${off} after ${last}`);
      last = off;
    }
  }
});

law(t, 'eigenvectors stay where they are, and come in descending order of their eigenvalues', async () => {
  const A = symmetric(spread(9, 0.5), 5);
  const { vectors } = eigh(A.ndarray());
  const U = subspaceIteration().follow(A, tensor(vectors).astype('float32'));
  const s = U.mul(A.matmul(U)).sum(0).dataSync();
  for (const [i, value] of s.entries()) assert.ok(Math.abs(value - 0.5 ** i) < 1e-5, `${i}: ${value}`);
  const turn = U.transpose().matmul(tensor(vectors).astype('float32')).abs();
  assert.ok(turn.max(0).min().item() > 1 - 1e-3);
});

// --- optimizers ---------------------------------------------------------------------------------------------------------------

const net = (device: string): Sequential => {
  const rng = new Generator(1);
  return new Sequential(new Linear(9, 12, { rng }), new ReLU(), new Linear(12, 4, { rng })).to(device);
};

function* batches(device: string, steps: number, seed = 6): Iterable<[Tensor, Tensor]> {
  const rng = new Generator(seed);
  for (let i = 0; i < steps; i++) {
    const y = randint(0, 4, [20], { rng });
    // Labels that depend on the inputs, so that there is something to learn.
    const x = randn([20, 9], { rng }).add(y.astype('float32').unsqueeze(1).mul(spread(9, -0.7)));
    yield [x.to(device), y.to(device)];
  }
}

type Run = { losses: number[]; waited: boolean[]; optimizer: KroneckerPreconditioner; model: Module };

async function run(
  device: string,
  make: (model: Module) => KroneckerPreconditioner,
  o: { steps?: number; from?: Run; seed?: number } = {},
): Promise<Run> {
  const model = net(device);
  const optimizer = make(model);
  if (o.from !== undefined) {
    model.loadStateDict(await readStateDict(o.from.model.stateDict()));
    optimizer.loadStateDict(await readStateDict(o.from.optimizer.stateDict()));
  }
  const [losses, waited]: [number[], boolean[]] = [[], []];
  for (const [x, y] of batches(device, o.steps ?? 12, o.seed)) {
    optimizer.zeroGrad();
    const loss = crossEntropy(model.call(x) as Tensor, y);
    loss.backward();
    const stepped = optimizer.step();
    waited.push(stepped !== undefined);
    await stepped;
    losses.push(await loss.number());
  }
  return { losses, waited, optimizer, model };
}

const KINDS: Record<string, (m: Module, o: KroneckerOptions) => KroneckerPreconditioner> = {
  KFAC: (m, o) => new KFAC(m, { lr: 0.03, damping: 0.1, dampingSplit: 'pi', ...o }),
  EKFAC: (m, o) => new EKFAC(m, { lr: 0.03, damping: 0.1, ...o }),
  STEVE: (m, o) => new STEVE(m, { lr: 0.01, ...o }),
  "STEVE, nullRule 'tolerance'": (m, o) => new STEVE(m, { lr: 0.01, nullRule: 'tolerance', ...o }),
  'STEVE in the basis': (m, o) => new STEVE(m, { lr: 0.01, route: 'resident', ...o }),
};

for (const [name, make] of Object.entries(KINDS))
  law(t, `${name} learns with followed bases as with eigh, the same on every device, and no step waits`, async () => {
    const o = { refreshEvery: 2 };
    const eighs = await run('cpu', m => make(m, o));
    const follows = (device: string) =>
      run(device, m => make(m, { ...o, eigensolver: subspaceIteration({ firstSteps: 6 }) }));
    const cpu = await follows('cpu');
    const last = (losses: number[]) => losses.slice(-3).reduce((sum, loss) => sum + loss / 3, 0);
    assert.ok(last(cpu.losses) < cpu.losses[0]!);
    assert.ok(Math.abs(last(cpu.losses) - last(eighs.losses)) < 0.1 * last(eighs.losses));
    for (const device of DEVICES) {
      const { losses, waited, optimizer } = await follows(device);
      assert.ok(!waited.includes(true));
      for (const [i, loss] of losses.entries())
        assert.ok(Math.abs(loss - cpu.losses[i]!) < 2e-3, `${device}, loss ${i}: ${loss}, expected ${cpu.losses[i]}`);
      const { blocks, refreshes } = await optimizer.readReport();
      assert.deepEqual({ done: refreshes.done, failed: refreshes.failed }, { done: 12, failed: 0 });
      for (const { spectrum, nulls } of blocks) {
        assert.deepEqual(spectrum!.A, spectrum!.A.slice().sort());
        assert.ok(nulls === null || (Number.isInteger(nulls.A) && Number.isInteger(nulls.G)));
      }
    }
  });

for (const device of DEVICES) {
  law(
    t,
    `${device}: the first basis comes from eigh where nothing else is asked for, and only that is awaited`,
    async () => {
      const { waited } = await run(device, m => new STEVE(m, { refreshEvery: 2, eigensolver: subspaceIteration() }));
      assert.deepEqual(waited, [device === 'later', ...new Array<boolean>(11).fill(false)]);
    },
  );

  law(t, `${device}: what cannot be followed keeps its old basis, and is told`, async t => {
    const warned: unknown[] = [];
    const { warn } = console;
    console.warn = (message: unknown) => warned.push(message);
    t.teardown(() => {
      console.warn = warn;
    });
    const bad: Record<string, BasisTracker['follow']> = {
      nan: (_, U) => U.mul(Number.NaN),
      skew: (_, U) => U.mul(1.01),
    };
    for (const [what, follow] of Object.entries(bad)) {
      warned.length = 0;
      const make = (m: Module) => new STEVE(m, { refreshEvery: 3, eigensolver: { follow } });
      const [one, more] = [await run(device, make, { steps: 1 }), await run(device, make, { steps: 5 })];
      const bases = ({ optimizer }: Run) =>
        Promise.all([...'02'].map(async path => Array.from(await optimizer.inspect(path).kfe!.UA!.data())));
      assert.deepEqual(await bases(more), await bases(one), what);
      const { failed, lastError } = (await more.optimizer.readReport()).refreshes;
      assert.deepEqual([failed, warned.length], [4, 4]);
      assert.match(lastError!, /^linear '0': the eigenvectors of factor G could not be followed$/);
      assert.match(String(warned[0]), /^STEVE: a refresh failed and the old basis stays: linear '2': .* factor A /);
    }
  });

  law(t, `${device}: a state that is saved goes on bit for bit`, async () => {
    const make = (m: Module) => new STEVE(m, { refreshEvery: 2, eigensolver: subspaceIteration() });
    const first = await run(device, make, { steps: 5 });
    const [whole, resumed] = [
      await run(device, make, { from: first, seed: 7 }),
      await run(device, make, { from: first, seed: 7 }),
    ];
    assert.deepEqual(resumed.losses, whole.losses);
    // What goes on without having been saved.
    const { model, optimizer } = first;
    const losses: number[] = [];
    for (const [x, y] of batches(device, 12, 7)) {
      optimizer.zeroGrad();
      const loss = crossEntropy(model.call(x) as Tensor, y);
      loss.backward();
      await optimizer.step();
      losses.push(await loss.number());
    }
    assert.deepEqual(resumed.losses, losses);
  });
}

law(t, 'sides at the identity stay there', async () => {
  const o = { refreshEvery: 2, maxFactorDim: 9, eigensolver: subspaceIteration() };
  const { optimizer } = await run('cpu', m => new STEVE(m, o));
  const { UA, UG } = optimizer.inspect('0').kfe!;
  assert.deepEqual([UA, UG], [null, null]);
  assert.deepEqual(optimizer.inspect('2').kfe!.UG!.shape, [4, 4]);
});

law(t, 'a tracker that returns something else is an error that says what, and nothing has changed', async () => {
  const { model, optimizer } = await run(
    'cpu',
    m => new STEVE(m, { refreshEvery: 1, eigensolver: { follow: (_, U) => U.narrow(0, 0, 1) } }),
    { steps: 0 },
  );
  const [[x, y]] = [...batches('cpu', 1)] as [[Tensor, Tensor]];
  const once = () => {
    optimizer.zeroGrad();
    crossEntropy(model.call(x) as Tensor, y).backward();
    void optimizer.step();
  };
  once();
  const values = () => model.parameters().map(p => Array.from(p.dataSync()));
  const before = values();
  assert.throws(once, {
    message: /factor A of linear '2': expected follow\(\) to return float32\[13,13\] on 'cpu', got/,
  });
  assert.deepEqual(values(), before);
  for (const wrong of [{}, { follow: 1 }, 'subspace'])
    assert.throws(() => new STEVE(net('cpu'), { eigensolver: wrong as never }), {
      message: /STEVE: expected eigensolver to be a function, or a tracker such as subspaceIteration\(\)/,
    });
  assert.throws(() => new STEVE(net('cpu'), { refresh: 'background', eigensolver: subspaceIteration() }), {
    message: /'background' decomposes in a worker/,
  });
  noGrad(() => assert.throws(() => subspaceIteration({ steps: 0 }), { message: /subspaceIteration: expected steps/ }));
});
