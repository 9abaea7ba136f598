/** L-BFGS: PyTorch's runs, its laws, and what happens when a closure fails. */

import assert from 'node:assert/strict';
import { Generator, ones, packCheckpoint, randn, type Tensor, tensor, unpackCheckpoint } from '@otimes/core';
import { Linear, mseLoss, Sequential, Tanh } from '@otimes/nn';
import { constantLr, LBFGS, type LBFGSOptions, Schedule } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { golden, within } from './helpers/golden.ts';
import { laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';

laterDevice();

type Run = {
  options: { line_search_fn?: string } & Record<string, number>;
  steps: { loss: number; x: number[]; y: number[]; calls: number }[];
};
const torch = golden<{ lbfgs: Run[] }>('torch-optim');

const NAMES: Record<string, string> = {
  max_iter: 'maxIter',
  max_eval: 'maxEval',
  history_size: 'historySize',
  lr: 'lr',
};
const ours = ({ line_search_fn: search, ...numbers }: Run['options']): LBFGSOptions => ({
  ...Object.fromEntries(Object.entries(numbers).map(([name, value]) => [NAMES[name]!, value])),
  lineSearch: search === undefined ? null : 'strongWolfe',
});

/** The function that PyTorch minimised, on a device. */
class Valley {
  readonly x: Tensor;
  readonly y: Tensor;
  readonly optimizer: LBFGS;
  calls = 0;

  constructor(options: LBFGSOptions, device = 'cpu') {
    const at = { dtype: 'float64', requiresGrad: true, device } as const;
    this.x = tensor([-1.2, 1, 0.5, -0.5], at);
    this.y = tensor([[0.3, -0.4]], at);
    this.optimizer = new LBFGS([this.x, this.y], options);
  }

  loss(): Tensor {
    const { x, y } = this;
    const [left, right] = [x.slice([0, -1]), x.slice([1])];
    const valley = right.sub(left.square()).square().mul(100).add(left.sub(1).square()).sum();
    return valley.add(y.square().sum().mul(x.slice(0).square().add(1)));
  }

  closure = (): Tensor => {
    this.calls++;
    this.optimizer.zeroGrad();
    const loss = this.loss();
    loss.backward();
    return loss;
  };

  async values(): Promise<number[]> {
    return [...(await this.x.data()), ...(await this.y.data())];
  }
}

for (const device of ['cpu', 'later'])
  for (const { options, steps } of torch.lbfgs)
    law(
      t,
      `${device}, ${JSON.stringify(ours(options))} = PyTorch: weights, losses and calls of the closure`,
      async () => {
        const run = new Valley(ours(options), device);
        for (const [i, expected] of steps.entries()) {
          const loss = await run.optimizer.step(run.closure);
          mustBeClose([loss], [expected.loss], within(1e-9), `loss ${i}`);
          mustBeClose(await run.values(), [...expected.x, ...expected.y], within(1e-7), `weights ${i}`);
          assert.equal(run.calls, expected.calls, `calls ${i}`);
        }
        assert.equal(run.optimizer.evaluations, run.calls);
      },
    );

law(
  t,
  'on a quadratic function of n weights with a line search it ends at the minimum, in few more than n iterations',
  () => {
    const n = 8;
    const rng = new Generator(3);
    const half = randn([n, n], { dtype: 'float64', rng });
    const A = half.matmul(half.transpose());
    const wanted = randn([n], { dtype: 'float64', rng });
    const p = ones([n], { dtype: 'float64', requiresGrad: true });
    const optimizer = new LBFGS([p], {
      lineSearch: 'strongWolfe',
      maxIter: 5 * n,
      toleranceGrad: 1e-10,
      toleranceChange: 0,
    });
    void optimizer.step(() => {
      optimizer.zeroGrad();
      const rest = p.sub(wanted);
      const loss = A.matmul(rest).mul(rest).sum().mul(0.5);
      loss.backward();
      return loss;
    });
    mustBeClose(p.dataSync(), wanted.dataSync(), within(1e-7), 'minimum');
  },
);

law(t, 'a step makes its first iteration whatever maxEval is: at first lr · min(1, 1 / Σ|g|) down the gradient', () => {
  for (const options of [{ maxIter: 1 }, { maxEval: 1 }, { maxEval: 1, lineSearch: 'strongWolfe' }] as LBFGSOptions[]) {
    const x = tensor([3, -1, 4], { dtype: 'float64', requiresGrad: true });
    const optimizer = new LBFGS([x], { ...options, lr: 0.5 });
    optimizer.step(() => {
      optimizer.zeroGrad();
      const loss = x.square().sum().mul(0.5);
      loss.backward();
      return loss;
    });
    if (options.lineSearch === undefined)
      mustBeClose(x.detach(), tensor([3, -1, 4], { dtype: 'float64' }).mul(1 - 0.5 / 8), { rtol: 1e-14 });
    else assert.ok(x.detach().square().sum().item() < 26);
    assert.ok(optimizer.evaluations <= (options.lineSearch === undefined ? 2 : 26));
  }
});

law(t, 'save, load, go on = the uninterrupted run, bit for bit', async () => {
  for (const options of [
    { maxIter: 3, lineSearch: 'strongWolfe' },
    { maxIter: 3, historySize: 2, lr: 0.001 },
  ] as const) {
    const whole = new Valley(options);
    for (let i = 0; i < 6; i++) await whole.optimizer.step(whole.closure);
    for (const cut of [0, 1, 3]) {
      const [first, second] = [new Valley(options), new Valley({ ...options, lr: 0.5 })];
      for (let i = 0; i < cut; i++) await first.optimizer.step(first.closure);
      await second.optimizer.step(second.closure);
      await unpackCheckpoint(await packCheckpoint({ optimizer: first.optimizer }), { optimizer: second.optimizer });
      second.x.detach().copy_(first.x.detach());
      second.y.detach().copy_(first.y.detach());
      for (let i = cut; i < 6; i++) await second.optimizer.step(second.closure);
      assert.deepEqual(await second.values(), await whole.values());
    }
  }
});

law(t, 'a closure that fails, now or within a line search, leaves weights and memory as they were', async () => {
  for (const device of ['cpu', 'later'])
    for (const failsAt of [1, 3]) {
      const run = new Valley({ maxIter: 4, lineSearch: 'strongWolfe' }, device);
      const twin = new Valley({ maxIter: 4, lineSearch: 'strongWolfe' }, device);
      for (const one of [run, twin]) await one.optimizer.step(one.closure);
      const before = await run.values();
      let calls = 0;
      const failing = async () =>
        run.optimizer.step(() => {
          if (++calls === failsAt) throw new Error('no more data');
          return run.closure();
        });
      await assert.rejects(failing(), /^Error: no more data/);
      assert.deepEqual(await run.values(), before);
      for (const one of [run, twin]) await one.optimizer.step(one.closure);
      assert.deepEqual(await run.values(), await twin.values());
    }
});

law(t, 'a loss that is not finite is told at the first weights, and avoided by a line search', async () => {
  const barrier = (lineSearch: 'strongWolfe' | null) => {
    const p = tensor([2], { dtype: 'float64', requiresGrad: true });
    const optimizer = new LBFGS([p], { lineSearch, lr: 10, maxIter: 30 });
    const closure = () => {
      optimizer.zeroGrad();
      const loss = p.sub(p.log().mul(0.5)).sum();
      loss.backward();
      return loss;
    };
    return { p, step: () => optimizer.step(closure) };
  };
  const searched = barrier('strongWolfe');
  await searched.step();
  mustBeClose(searched.p.dataSync(), [0.5], within(1e-6), 'the minimum of p − ½ log p');
  const plain = barrier(null);
  assert.throws(plain.step, /LBFGS: expected a finite loss, got NaN after a step of lr/);
  assert.deepEqual(plain.p.toArray(), [2]);
  const p = tensor([Number.NaN], { requiresGrad: true });
  const optimizer = new LBFGS([p]);
  assert.throws(
    () =>
      optimizer.step(() => {
        const loss = p.sum();
        loss.backward();
        return loss;
      }),
    /expected a finite loss at the first weights, got NaN/,
  );
});

law(t, 'a network is trained, float32 too, with a schedule that has nothing to set', () => {
  const rng = new Generator(1);
  const model = new Sequential(new Linear(2, 8, { rng }), new Tanh(), new Linear(8, 1, { rng }));
  const x = randn([64, 2], { rng });
  const y = x
    .slice(null, [0, 1])
    .mul(x.slice(null, [1]))
    .add(0.5);
  const optimizer = new LBFGS(model.parameters(), { lineSearch: 'strongWolfe' });
  const schedule = new Schedule(optimizer, constantLr());
  const losses: number[] = [];
  for (let i = 0; i < 10; i++, schedule.step())
    losses.push(
      optimizer.step(() => {
        optimizer.zeroGrad();
        const loss = mseLoss(model.call(x), y);
        loss.backward();
        return loss;
      }) as number,
    );
  assert.ok(losses.at(-1)! < 0.02 * losses[0]!, String(losses));
});

law(t, 'wrong calls and states say what was expected', () => {
  const p = ones([2], { requiresGrad: true });
  const optimizer = new LBFGS([p]);
  const step = (closure: unknown) => () => optimizer.step(closure as never);
  const cases: [() => unknown, RegExp][] = [
    [step(undefined), /LBFGS.step: expected the closure to be a function that computes the loss .* got undefined/],
    [step(() => undefined), /expected the closure to return the loss, got undefined/],
    [step(async () => 1), /got a promise; closures are synchronous/],
    [step(() => ones([2])), /expected the closure to return a scalar loss, got float32\[2\]/],
    [step(() => 1), /no parameter has a gradient after the closure; does it call backward\(\)\?/],
    [() => new LBFGS([p], { lineSearch: 'strong_wolfe' as never }), /here it is 'strongWolfe'/],
    [() => new LBFGS([p], { maxIter: 0 }), /expected maxIter in \[1, Infinity\), got 0/],
    [() => new LBFGS([p], { lr: -1 }), /expected lr in/],
    [
      () => new LBFGS([p, ones([1], { dtype: 'float64', requiresGrad: true })]),
      /one dtype on one device, got float32\[2\] on 'cpu' and float64\[1\] on 'cpu'/,
    ],
    [() => optimizer.loadStateDict({}), /nothing was loaded, since .* missing: lr/s],
  ];
  for (const [call, message] of cases) assert.throws(call, message);
  assert.deepEqual(p.toArray(), [1, 1]);
});

law(t, 'a step on a device that is read with await must end before the next begins', async () => {
  const run = new Valley({ lineSearch: 'strongWolfe' }, 'later');
  const first = run.optimizer.step(run.closure);
  assert.throws(() => run.optimizer.step(run.closure), /a step is not finished; await it/);
  await first;
  await run.optimizer.step(run.closure);
});
