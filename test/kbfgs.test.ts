// K-BFGS against runs in numpy, secant equations and what they imply, and all of a step or nothing.

import assert from 'node:assert/strict';
import {
  concat,
  eye,
  full,
  Generator,
  loadSafetensors,
  randn,
  saveSafetensors,
  type Tensor,
  tensor,
} from '@otimes/core';
import { eigh, inverse } from '@otimes/linalg';
import {
  BatchNorm2d,
  Conv2d,
  crossEntropy,
  Flatten,
  Linear,
  type Module,
  Sequential,
  Tanh,
  TransformerBlock,
} from '@otimes/nn';
import { Adam, GradScaler, KBFGS, type KBFGSOptions } from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { bitsOf, labels, type Net, nets } from './helpers/family.ts';
import { golden, within } from './helpers/golden.ts';
import { laterDevice } from './helpers/later.ts';
import { law, overSeeds } from './helpers/law.ts';
import { dtype } from './helpers/nets.ts';

laterDevice();

/** One step: both passes. The loss of the first. */
function stepped(model: Module, optimizer: KBFGS, lossOf: () => Tensor): number {
  const pass = () => {
    optimizer.zeroGrad();
    const loss = lossOf();
    loss.backward();
    return loss.item();
  };
  const loss = pass();
  optimizer.step();
  assert.ok(optimizer.wantsCorrection && model.parameters().every(p => p.grad === null));
  pass();
  optimizer.correct();
  return loss;
}

// --- numpy ------------------------------------------------------------------------------------------------------------------

type Run = {
  options: KBFGSOptions;
  damped: number;
  losses: number[];
  weights: number[][][];
  Ha: number[][][];
  Hg: number[][][];
};
const recorded = golden<{ init: number[][][]; batches: { x: number[][]; y: number[] }[]; runs: Run[] }>('kbfgs');

/** A network whose layers have [W | b]. */
function netOf(weights: readonly number[][][]): Sequential {
  const layers = weights.map(rows => {
    const all = tensor(rows, { dtype });
    const [dOut, dIn] = all.shape as [number, number];
    const layer = new Linear(dIn - 1, dOut, { dtype });
    layer.loadStateDict({ weight: all.narrow(1, 0, dIn - 1).clone(), bias: all.narrow(1, dIn - 1, 1).reshape([dOut]) });
    return layer;
  });
  return new Sequential(...layers.flatMap((layer, i) => (i === 0 ? [layer] : [new Tanh(), layer])));
}

const weightOf = (layer: Module) => {
  const [w, b] = layer.parameters();
  return concat([w!.detach(), b!.detach().unsqueeze(1)], 1);
};

law(t, 'the recorded runs have steps that Powell’s rule damps, and steps that it does not', () => {
  const damped = recorded.runs.map(run => run.damped);
  assert.ok(damped.some(count => count > 1) && damped.every(count => count < 9));
});

for (const [i, { options, losses, weights, ...inverses }] of recorded.runs.entries())
  for (const device of ['cpu', 'reference'])
    law(t, `${device}: run ${i} of the paper's algorithm in numpy: ${JSON.stringify(options)}`, () => {
      const model = netOf(recorded.init).to(device) as Sequential;
      const optimizer = new KBFGS(model, options);
      for (const [step, expected] of losses.entries()) {
        const { x, y } = recorded.batches[step % recorded.batches.length]!;
        const [input, target] = [tensor(x, { dtype }).to(device), tensor(y, { dtype: 'int32' }).to(device)];
        const loss = stepped(model, optimizer, () => crossEntropy(model.call(input), target));
        mustBeClose([loss], [expected], within(1e-10), `loss of step ${step}`);
      }
      for (const [k, path] of ['0', '2'].entries()) {
        mustBeClose(weightOf(model.layers[Number(path)]!), weights[k]!, within(1e-10), `weights of ${path}`);
        for (const slot of ['Ha', 'Hg'] as const)
          mustBeClose(optimizer.inspect(path).slots.get(slot)!, inverses[slot][k]!, within(1e-9), `${slot} of ${path}`);
      }
    });

// --- laws -------------------------------------------------------------------------------------------------------------------

/** Some steps of a small net. */
function trained(o: KBFGSOptions, steps: number, seed = 3, { make, shape }: Net = nets.linear!) {
  const rng = new Generator(seed);
  const model = make({ dtype, rng });
  const optimizer = new KBFGS(model, o);
  for (let i = 0; i < steps; i++) {
    const [x, y] = [randn(shape, { dtype, rng }), labels(rng)];
    stepped(model, optimizer, () => crossEntropy(model.call(x), y));
  }
  return { model, optimizer, rng };
}

law(t, 'the first step is that of KFAC with G = 1: D (A + √λ)⁻¹, whatever H_g becomes of it', () => {
  for (const [net, { make, shape }] of Object.entries({ linear: nets.linear!, convolution: nets.convolution! })) {
    const rng = new Generator(1);
    const model = make({ dtype, rng });
    const optimizer = new KBFGS(model, { lr: 0.5, momentum: 0, damping: 0.04, rest: p => new Adam(p) });
    const [x, y] = [randn(shape, { dtype, rng }), labels(rng)];
    const { path } = optimizer.describe()[0]!;
    const [weight, bias] = model.parameters() as Tensor[];
    const flat = (w: Tensor, b: Tensor) => concat([w.detach().reshape([b.size, -1]), b.detach().unsqueeze(1)], 1);
    const before = flat(weight!.clone(), bias!.clone());
    crossEntropy(model.call(x), y).backward();
    const D = flat(weight!.grad!.clone(), bias!.grad!.clone());
    optimizer.step();
    const { A } = optimizer.inspect(path);
    const damped = A!.add(eye(A!.shape[0]!, { dtype }).mul(0.2));
    const expected = D.matmul(tensor(inverse(damped.ndarray()))).mul(0.5);
    mustBeClose(before.sub(flat(weight!, bias!)), expected, within(1e-12), net);
  }
});

law(t, 'on a batch that stays, H_a stays (A + √λ)⁻¹', () => {
  const rng = new Generator(2);
  const layer = new Linear(4, 3, { dtype, rng });
  const optimizer = new KBFGS(layer, { damping: 0.09 });
  const [x, y] = [randn([9, 4], { dtype, rng }), labels(rng, 9)];
  for (let i = 0; i < 6; i++) stepped(layer, optimizer, () => crossEntropy(layer.call(x), y));
  const { A, slots } = optimizer.inspect('');
  const product = A!.add(eye(5, { dtype }).mul(0.3)).matmul(slots.get('Ha')!);
  mustBeClose(product, eye(5, { dtype }), within(1e-11));
});

law(t, 'both inverses stay symmetric, to the bit, and positive definite', () => {
  overSeeds(5, seed => {
    const { optimizer } = trained({ lr: 0.3, damping: 0.1 }, 7, seed);
    for (const { path } of optimizer.describe().filter(({ collector }) => collector !== 'rest')) {
      const { slots } = optimizer.inspect(path);
      for (const slot of ['Ha', 'Hg']) {
        const H = slots.get(slot)!;
        mustBeClose(H, H.transpose(), { rtol: 0, atol: 0 }, `${slot} is symmetric`);
        assert.ok(eigh(H.clone().ndarray()).values.get(0) > 0, `${slot} of ${path}`);
      }
    }
  });
});

law(
  t,
  'where the loss is quadratic in the outputs, H_g has the inverse of its Hessian on what has moved, up to √λ',
  () => {
    overSeeds(5, seed => {
      const rng = new Generator(seed);
      const layer = new Linear(4, 3, { dtype, rng });
      const root = randn([3, 3], { dtype, rng });
      const Q = root.matmul(root.transpose()).add(eye(3, { dtype }).mul(0.5));
      const x = randn([8, 4], { dtype, rng });
      const optimizer = new KBFGS(layer, { lr: 0.1, damping: 0.01, mu1: 1e-6, factorDecay: 0, momentum: 0 });
      const lossOf = () => {
        const z = layer.call(x).sub(2);
        return z.matmul(Q).mul(z).sum().div(16);
      };
      for (let i = 0; i < 4; i++) stepped(layer, optimizer, lossOf);
      const { slots } = optimizer.inspect('');
      const [s, y, Hg] = ['s', 'y', 'Hg'].map(name => slots.get(name)!) as [Tensor, Tensor, Tensor];
      mustBeClose(y, Q.matmul(s), within(1e-12), 'y = Q s');
      mustBeClose(Hg.matmul(y.add(s.mul(0.1))), s, within(1e-11), 'H_g (Q + √λ) s = s');
    });
  },
);

law(t, 'with lr 0 nothing moves, and H_g stays 1', () => {
  const { model, optimizer } = trained({ lr: 0, rest: p => new Adam(p, { lr: 0 }) }, 3);
  mustBeClose(optimizer.inspect('0').slots.get('Hg')!, eye(6, { dtype }), { rtol: 0, atol: 0 });
  const fresh = nets.linear!.make({ dtype, rng: new Generator(3) });
  assert.equal(bitsOf(model.stateDict()), bitsOf(fresh.stateDict()));
});

law(t, 'the loss goes down, for linear layers and convolutions', () => {
  for (const { make, shape } of [nets.linear!, nets.convolution!]) {
    const rng = new Generator(4);
    const model = make({ dtype, rng });
    const optimizer = new KBFGS(model);
    const [x, y] = [randn(shape, { dtype, rng }), labels(rng)];
    const losses = Array.from({ length: 30 }, () => stepped(model, optimizer, () => crossEntropy(model.call(x), y)));
    assert.ok(losses.at(-1)! < 0.5 * losses[0]!, `${losses[0]} → ${losses.at(-1)}`);
  }
});

law(t, 'the sum of losses trains as their mean does', () => {
  const of = (reduction: 'mean' | 'sum') => {
    const rng = new Generator(3);
    const model = nets.linear!.make({ dtype, rng });
    const optimizer = new KBFGS(model, { lr: 0.2, lossReduction: reduction });
    for (let i = 0; i < 5; i++) {
      const [x, y] = [randn([12, 5], { dtype, rng }), labels(rng)];
      stepped(model, optimizer, () => crossEntropy(model.call(x), y, { reduction }));
    }
    return model.parameters().flatMap(p => [...p.dataSync()]);
  };
  mustBeClose(of('sum'), of('mean'), within(1e-11));
});

law(t, 'layers without a bias, groups, and all that is no Linear or Conv2d go to the rest, as what is skipped', () => {
  const model = new Sequential(
    new Conv2d(2, 4, 3, { bias: false }),
    new BatchNorm2d(4),
    new Conv2d(4, 4, 1, { groups: 2 }),
    new Flatten(),
    new Linear(16, 5),
    new Linear(5, 3),
  );
  const optimizer = new KBFGS(model, { overrides: { 4: { lr: 0.5 }, 5: { skip: true } } });
  const rows = optimizer.describe();
  assert.deepEqual(
    rows.filter(({ collector }) => collector !== 'rest').map(({ path }) => path),
    ['4'],
  );
  assert.deepEqual(
    rows.flatMap(({ parameters }) => parameters).sort(),
    [...model.namedParameters()].map(([path]) => path).sort(),
  );
});

// --- state, order, failures -------------------------------------------------------------------------------------------------

law(t, 'save, load, go on = the uninterrupted run, bit for bit, between the passes too', () => {
  const play = (cut: number | null) => {
    let { model, optimizer } = trained({ lr: 0.2 }, 0);
    const rng = new Generator(8);
    const save = (at: number) => {
      if (at !== cut) return;
      const [weights, state] = [model, optimizer].map(x => loadSafetensors(saveSafetensors(x.stateDict())));
      ({ model, optimizer } = trained({ lr: 0.2 }, 2, 9));
      model.loadStateDict(weights!);
      optimizer.loadStateDict(state!);
    };
    for (let i = 0; i < 4; i++) {
      const [x, y] = [randn([12, 5], { dtype, rng }), labels(rng)];
      for (const half of [0, 1]) {
        save(2 * i + half);
        crossEntropy(model.call(x), y).backward();
        if (half === 0) optimizer.step();
        else optimizer.correct();
      }
    }
    return bitsOf({ ...model.stateDict(), ...optimizer.stateDict() });
  };
  const whole = play(null);
  for (const cut of [0, 1, 2, 5, 7]) assert.ok(play(cut) === whole, `cut at ${cut}`);
});

law(
  t,
  'a correction comes once after each step, and with the gradients of a second pass; else it says so and nothing changes',
  () => {
    const { model, optimizer, rng } = trained({}, 1);
    const [x, y] = [randn([12, 5], { dtype, rng }), labels(rng)];
    const pass = () => crossEntropy(model.call(x), y).backward();
    assert.throws(() => optimizer.correct(), /KBFGS.correct: no step waits for it/);
    pass();
    optimizer.step();
    const before = bitsOf(optimizer.stateDict());
    assert.throws(() => optimizer.correct(), /KBFGS: linear '0' was changed by the last step and has no gradient now/);
    pass();
    assert.throws(() => optimizer.step(), /KBFGS: step 1 waits for its correction/);
    assert.equal(bitsOf(optimizer.stateDict()), before);
    optimizer.correct();
    assert.throws(() => optimizer.correct(), /no step waits for it/);
    assert.throws(() => optimizer.correct(...([1] as never[])), /KBFGS.correct: takes no argument/);
  },
);

law(t, 'numbers that are not finite, in either pass, are an error that names the block, and change nothing', () => {
  const rng = new Generator(5);
  const model = nets.linear!.make({ dtype: 'float32', rng });
  const optimizer = new KBFGS(model);
  const [x, y] = [randn([12, 5], { rng }), labels(rng)];
  const all = () => bitsOf({ ...model.stateDict(), ...optimizer.stateDict() });
  const pass = () => {
    optimizer.zeroGrad();
    crossEntropy(model.call(x), y).backward();
  };
  const spoil = (value: number) => {
    const g = model.parameters()[1]!.grad!;
    g.copy_(full(g.shape, value));
  };
  for (const value of [NaN, Infinity, 1e38]) {
    pass();
    if (value === 1e38) optimizer.lr = 1e38;
    spoil(value);
    const before = all();
    assert.throws(() => optimizer.step(), {
      name: 'RangeError',
      message: /KBFGS: the .* of linear '0' has NaN or infinite/,
    });
    assert.ok(all() === before, `step, ${value}`);
    optimizer.lr = 0.3;
    assert.ok(!optimizer.wantsCorrection);
    pass();
    optimizer.step();
    const between = all();
    pass();
    spoil(value);
    assert.throws(() => optimizer.correct(), {
      name: 'RangeError',
      message: /KBFGS: the pair of a second pass of linear '0' has NaN or infinite/,
    });
    assert.ok(all() === between && optimizer.wantsCorrection, `correct, ${value}`);
    pass();
    optimizer.correct();
  }
});

law(t, 'in a transformer the layers that it has train, attention is left to the rest, and a scaler is refused', () => {
  const rng = new Generator(6);
  const model = new Sequential(new TransformerBlock(4, 2, { rng }), new Flatten(), new Linear(12, 3, { rng }));
  const optimizer = new KBFGS(model);
  const [x, y] = [randn([10, 3, 4], { rng }), labels(rng, 10)];
  const losses = Array.from({ length: 15 }, () => stepped(model, optimizer, () => crossEntropy(model.call(x), y)));
  assert.ok(losses.at(-1)! < losses[0]!, String(losses));
  assert.throws(() => new GradScaler().step(optimizer), /GradScaler: expected an optimizer .* not KBFGS/);
});

law(t, 'wrong options are refused, and no hook is left behind', () => {
  const model = nets.linear!.make({ dtype, rng: new Generator(1) });
  const refused: [o: object, message: RegExp][] = [
    [{ refreshEvery: 2 }, /^KBFGS: there is no option 'refreshEvery'/],
    [{ collectors: [] }, /^KBFGS: there is no option 'collectors'/],
    [{ damping: 0 }, /^KBFGS: expected damping > 0, got 0/],
    [{ mu1: 0 }, /^KBFGS: expected mu1 in \(0, 1\), got 0/],
    [{ mu1: 1 }, /^KBFGS: expected mu1 in \(0, 1\), got 1/],
    [{ momentum: 1 }, /^KBFGS: expected momentum in/],
    [{ factorDecay: 1 }, /^KBFGS: expected factorDecay in/],
    [{ overrides: { 0: { structure: 'exact' } } }, /^KBFGS: overrides\['0'\]: there is no option 'structure'/],
  ];
  for (const [o, message] of refused) assert.throws(() => new KBFGS(model, o), { message });
  const { damping, momentum, mu1, factorDecay, lr } = new KBFGS(model);
  assert.deepEqual([damping, momentum, mu1, factorDecay, lr], [0.3, 0.9, 0.2, 0.9, 0.3]);
  const later = nets.linear!.make({ dtype: 'float32', rng: new Generator(1) }).to('later');
  assert.throws(() => new KBFGS(later), /KBFGS: needs values at once, and '0.weight' is on 'later'/);
});
