// First-order optimizers and clipping: the laws of all optimizers, equality with PyTorch, and what is their own.
import assert from 'node:assert/strict';
import { full, ones, ReferenceBackend, registerBackend, type Tensor, tensor, zeros } from '@otimes/core';
import { crossEntropy, Linear, Sequential, Tanh } from '@otimes/nn';
import {
  Adadelta,
  Adagrad,
  Adam,
  Adamax,
  AdamW,
  clipGradNorm,
  clipGradValue,
  GradientOptimizer,
  Lamb,
  Lion,
  NAdam,
  NAdamW,
  type Optimizer,
  RAdam,
  RMSprop,
  ScheduleFreeAdamW,
  SGD,
} from '@otimes/optim';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { golden, type Stored, stored, within } from './helpers/golden.ts';
import { law } from './helpers/law.ts';
import { firstOrder, optimizerLaws } from './suites/optimizers.ts';

for (const one of firstOrder) optimizerLaws(t, one);

registerBackend(new ReferenceBackend('elsewhere'));

/** The options that all of them have. */
type Common = { lr?: number; weightDecay?: number };
type Group = { params: Tensor[]; lr?: number; weightDecay?: number };
type Make = (parameters: Tensor[] | Group[], options?: Common) => GradientOptimizer<{ lr: number }>;
const optimizers: Record<string, Make> = {
  SGD: (p, o) => new SGD(p, o),
  Adagrad: (p, o) => new Adagrad(p, o),
  RMSprop: (p, o) => new RMSprop(p, o),
  Adam: (p, o) => new Adam(p, o),
  AdamW: (p, o) => new AdamW(p, o),
  NAdam: (p, o) => new NAdam(p, o),
  NAdamW: (p, o) => new NAdamW(p, o),
  Adadelta: (p, o) => new Adadelta(p, o),
  Adamax: (p, o) => new Adamax(p, o),
  RAdam: (p, o) => new RAdam(p, o),
  Lion: (p, o) => new Lion(p, o),
  Lamb: (p, o) => new Lamb(p, o),
  ScheduleFreeAdamW: (p, o) => new ScheduleFreeAdamW(p, o),
};

const parameter = (data: number[], shape = [data.length]) =>
  tensor(data, { shape, dtype: 'float64', requiresGrad: true });

/** One step with these gradients. */
function stepWith(optimizer: Optimizer, gradients: Map<Tensor, number[]>): void {
  for (const [p, g] of gradients) p.grad = tensor(g, { shape: p.shape, dtype: p.dtype });
  void optimizer.step();
}

// --- PyTorch ---

type Pair = { w: number[]; b: number[] };
type TorchRun = {
  optimizer: string;
  options: Record<string, number | boolean | number[]>;
  after: Record<string, Pair>;
};
const torch = golden<{ init: Pair; gradients: Pair[]; runs: TorchRun[] }>('torch-optim');
const camelCase = (name: string) => name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());

for (const { optimizer: name, options, after } of torch.runs) {
  const ours: Common = Object.fromEntries(Object.entries(options).map(([key, value]) => [camelCase(key), value]));
  law(t, `${name} ${JSON.stringify(ours)} = PyTorch`, () => {
    const [w, b] = [parameter(torch.init.w, [2, 2]), parameter(torch.init.b)];
    const optimizer = optimizers[name]!([w, b], ours);
    for (const [i, g] of torch.gradients.entries()) {
      stepWith(
        optimizer,
        new Map([
          [w, g.w],
          [b, g.b],
        ]),
      );
      const expected = after[i + 1];
      if (expected === undefined) continue;
      mustBeClose(w.dataSync(), expected.w, within(1e-12), `w after ${i + 1}`);
      mustBeClose(b.dataSync(), expected.b, within(1e-12), `b after ${i + 1}`);
    }
  });
}

// --- golden runs of the whole loop ---

type GoldenRun = {
  id: string;
  hyper: { lr: number };
  sensitivity: number;
  steps: { loss: number; params: Record<string, number[]> }[];
};
const mlp = golden<{ init: Record<string, Stored>; batches: { x: Stored; y: number[] }[]; runs: GoldenRun[] }>('mlp');

for (const [id, make] of Object.entries({ sgd: optimizers.SGD!, adam: optimizers.Adam! }))
  law(t, `the golden run '${id}' of a small network`, () => {
    const { hyper, sensitivity, steps } = mlp.runs.find(run => run.id === id)!;
    const o = { dtype: 'float64' } as const;
    const model = new Sequential(new Linear(5, 4, o), new Tanh(), new Linear(4, 3, o));
    model.loadStateDict(Object.fromEntries(Object.entries(mlp.init).map(([key, value]) => [key, stored(value)])));
    const optimizer = make(model.parameters(), { lr: hyper.lr });
    for (const [i, expected] of steps.entries()) {
      const { x, y } = mlp.batches[i % mlp.batches.length]!;
      optimizer.zeroGrad();
      const loss = crossEntropy(model.call(stored(x)), tensor(y, { dtype: 'int32' }));
      mustBeClose([loss.item()], [expected.loss], within(1e-9), `loss of step ${i}`);
      loss.backward();
      optimizer.step();
    }
    const last = steps.at(-1)!.params;
    for (const [path, p] of model.namedParameters())
      mustBeClose(p.dataSync(), last[path]!, within(100 * sensitivity + 1e-12), path);
  });

// --- groups and options ---

for (const [name, make] of Object.entries(optimizers)) {
  law(t, `${name}: groups with options of their own = an optimizer each`, async () => {
    const [a, b] = [parameter([1, -2]), parameter([3, 0.5, -1])];
    const [a2, b2] = [parameter([1, -2]), parameter([3, 0.5, -1])];
    const together = make([{ params: [a] }, { params: [b], lr: 0.25, weightDecay: 0.5 }], { lr: 0.125 });
    const apart = [make([a2], { lr: 0.125 }), make([b2], { lr: 0.25, weightDecay: 0.5 })];
    for (let i = 0; i < 5; i++) {
      if (i === 3) {
        // What sets `lr` sets it for all groups, in proportion.
        together.lr /= 2;
        for (const one of apart) one.lr /= 2;
      }
      const [ga, gb] = [
        [i + 1, -0.5],
        [0.3, i - 2, 1],
      ];
      stepWith(
        together,
        new Map([
          [a, ga!],
          [b, gb!],
        ]),
      );
      for (const p of [a2, b2]) p.grad = tensor(p === a2 ? ga! : gb!, { dtype: 'float64' });
      for (const one of apart) one.step();
    }
    assert.deepEqual([...a.dataSync(), ...b.dataSync()], [...a2.dataSync(), ...b2.dataSync()]);
  });

  law(t, `${name}: float32 parameters have float32 state`, async () => {
    const p = ones([3], { requiresGrad: true });
    const optimizer = make([p]);
    stepWith(optimizer, new Map([[p, [1, 2, -3]]]));
    assert.equal(p.dtype, 'float32');
    for (const [key, value] of Object.entries(optimizer.stateDict()))
      assert.equal(
        value.dtype,
        /^(lr|0\.step|0\.muProduct|0\.weightSum|0\.largestLr|0\.averaged)$/.test(key) ? 'float64' : 'float32',
        key,
      );
  });

  law(t, `${name}: state lives where its parameter does, also when loaded from elsewhere`, () => {
    const device = 'elsewhere';
    const p = ones([2], { device, requiresGrad: true });
    const optimizer = make([p]);
    const step = () => {
      p.grad = ones([2], { device });
      optimizer.step();
    };
    step();
    const there = optimizer.stateDict();
    const here = Object.fromEntries(Object.entries(there).map(([key, value]) => [key, value.to('cpu')]));
    optimizer.loadStateDict(here);
    for (const [key, value] of Object.entries(optimizer.stateDict()))
      assert.equal(value.device, there[key]!.device, key);
    step();
  });

  law(t, `${name}: parameters that cannot be trained are refused`, () => {
    const p = parameter([1]);
    assert.throws(() => make([]), new RegExp(`${name}: expected at least one parameter, got none`));
    assert.throws(() => make([{ params: [] }]), /expected at least one parameter/);
    assert.throws(() => make([p, parameter([2]), p]), /parameter 2, float64\[1\], is given twice/);
    assert.throws(() => make([{ params: [p] }, { params: [p] }]), /given twice/);
    assert.throws(() => make([p, zeros([2])]), /parameter 1, float32\[2\], is not a leaf that requires a gradient/);
    assert.throws(() => make([p.mul(2)]), /not a leaf/);
  });

  law(t, `${name}: options out of range, and unknown ones, are refused`, () => {
    const p = parameter([1]);
    for (const lr of [-0.1, Number.NaN, Infinity])
      assert.throws(() => make([p], { lr }), {
        name: 'RangeError',
        message: `${name}: expected lr in [0, Infinity), got ${lr}`,
      });
    assert.throws(() => make([p], { weightDecay: -1 }), {
      message: `${name}: expected weightDecay in [0, Infinity), got -1`,
    });
    assert.throws(() => make([{ params: [p], weightDecay: -1 }]), /expected weightDecay in/);
    assert.throws(
      () => make([{ params: [p], lr: 1 }], { lr: 0 }),
      /a group cannot have lr 1 beside an optimizer's lr of 0/,
    );
    const torchStyle: Common = Object.fromEntries([['weight_decay', 1]]);
    assert.throws(() => make([p], torchStyle), /there is no option 'weight_decay', only lr, .*weightDecay/);
  });
}

law(t, 'parameters and groups do not mix', () => {
  const mixed = [parameter([1]), { params: [parameter([2])] }];
  // @ts-expect-error: the types say so too
  assert.throws(() => new SGD(mixed), /expected parameters or groups of parameters, got both/);
});

law(t, 'options of one optimizer alone are checked as well', () => {
  const p = [parameter([1])];
  const nesterov = /nesterov needs a momentum above 0 and a dampening of 0/;
  const refused: [make: () => Optimizer, message: RegExp][] = [
    [() => new SGD(p, { momentum: -1 }), /SGD: expected momentum in \[0, Infinity\), got -1/],
    [() => new SGD(p, { dampening: -1 }), /expected dampening/],
    [() => new SGD(p, { nesterov: true }), nesterov],
    [() => new SGD(p, { nesterov: true, momentum: 0.9, dampening: 0.1 }), nesterov],
    [() => new Adagrad(p, { lrDecay: -1 }), /expected lrDecay/],
    [() => new Adagrad(p, { initialAccumulatorValue: -1 }), /expected initialAccumulatorValue/],
    [() => new Adagrad(p, { eps: -1 }), /expected eps/],
    [() => new RMSprop(p, { alpha: 1 }), /expected alpha in \[0, 1\), got 1/],
    [() => new RMSprop(p, { eps: Number.NaN }), /expected eps/],
    [() => new RMSprop(p, { momentum: -0.1 }), /expected momentum/],
    [() => new Adam(p, { betas: [1, 0.9] }), /expected betas\[0\] in \[0, 1\), got 1/],
    [() => new AdamW(p, { betas: [0.9, -0.1] }), /AdamW: expected betas\[1\] in \[0, 1\), got -0.1/],
    [() => new Adam(p, { eps: -1 }), /expected eps/],
    [() => new NAdam(p, { momentumDecay: -1 }), /expected momentumDecay/],
    [() => new NAdam(p, { betas: [0.9, 1] }), /expected betas\[1\]/],
    [() => new NAdam(p, { eps: -1 }), /expected eps/],
    [() => new NAdamW(p, { momentumDecay: -1 }), /NAdamW: expected momentumDecay/],
    [() => new Adadelta(p, { rho: 1.1 }), /expected rho in \[0, 1\], got 1\.1/],
    [() => new Adamax(p, { betas: [0.9, 1] }), /expected betas\[1\]/],
    [() => new RAdam(p, { eps: -1 }), /expected eps/],
    [() => new Lion(p, { betas: [1, 0.9] }), /expected betas\[0\]/],
    [() => new Lamb(p, { eps: -1 }), /expected eps/],
    [() => new ScheduleFreeAdamW(p, { betas: [0, 0.9] }), /expected betas\[0\] above 0, got 0/],
    [() => new ScheduleFreeAdamW(p, { warmupSteps: -1 }), /expected warmupSteps/],
  ];
  for (const [make, message] of refused) assert.throws(make, message);
});

law(t, 'numbers of a state that no run leaves are refused by name, and all is as before', () => {
  const p = parameter([1]);
  const cases: [one: Optimizer, key: string, wrong: number[], right: number[], expected: string][] = [
    [new NAdam([p]), '0.muProduct', [-1, 1], [0, 0.5], 'one number in [0, 1)'],
    [new NAdamW([p]), '0.muProduct', [-1e-9, 2], [0], 'one number in [0, 1)'],
    [new ScheduleFreeAdamW([p]), '0.weightSum', [-1], [0, 5], 'one finite number ≥ 0'],
    [new ScheduleFreeAdamW([p]), '0.largestLr', [-1], [0], 'one finite number ≥ 0'],
    [new ScheduleFreeAdamW([p]), '0.averaged', [-1, 0.5, 2], [1], '0 or 1'],
  ];
  for (const [one, key, wrong, right, expected] of cases) {
    stepWith(one, new Map([[p, [1]]]));
    const before = one.stateDict();
    const withIt = (value: number) => ({ ...before, [key]: tensor(value, { dtype: 'float64' }) });
    for (const value of wrong) {
      assert.throws(() => one.loadStateDict(withIt(value)), {
        message:
          `${one.constructor.name}.loadStateDict: nothing was loaded, since 1 entry is wrong\n` +
          `  does not fit: ${key} expects ${expected}, got ${value}`,
      });
      assert.equal(one.stateDict()[key]!.item(), before[key]!.item());
    }
    for (const value of right) {
      one.loadStateDict(withIt(value));
      assert.equal(one.stateDict()[key]!.item(), value);
    }
    assert.throws(() => one.loadStateDict(withIt(Number.NaN)), /expects one finite number, got NaN/);
  }
});

law(t, 'a state of an optimizer with momentum does not fit one without, nor the other way round', () => {
  const p = parameter([1]);
  const [plain, heavy] = [new SGD([p]), new SGD([p], { momentum: 0.9 })];
  for (const one of [plain, heavy]) stepWith(one, new Map([[p, [1]]]));
  assert.throws(() => heavy.loadStateDict(plain.stateDict()), /missing: 0\.buf/);
  assert.throws(() => plain.loadStateDict(heavy.stateDict()), /unexpected: 0\.buf float64\[1\]/);
});

law(t, 'a new optimizer is three lines: an update and the names of its state', () => {
  class SignDescent extends GradientOptimizer<{ lr: number }> {
    constructor(parameters: Tensor[], options: { lr?: number } = {}) {
      super(parameters, { lr: 0.5 }, options, () => {});
    }
    protected slotNames = () => [];
    protected update(p: Tensor, g: Tensor, _: unknown, { lr }: { lr: number }): void {
      p.addScaled_(g.sign(), -lr);
    }
  }
  const p = parameter([1, 2, 3]);
  stepWith(new SignDescent([p]), new Map([[p, [7, -9, 0]]]));
  assert.deepEqual(p.toArray(), [0.5, 2.5, 3]);
});

// --- clipping ---

const withGradients = (...gradients: (number[] | null)[]) =>
  gradients.map(g => {
    const p = zeros([g?.length ?? 1], { requiresGrad: true, dtype: 'float64' });
    p.grad = g === null ? null : tensor(g, { dtype: 'float64' });
    return p;
  });

law(t, 'clipGradNorm scales all gradients together to the norm, and leaves smaller ones alone', () => {
  const parameters = withGradients([3, 0], null, [4]);
  assert.equal(clipGradNorm(parameters, Infinity), 5);
  assert.equal(clipGradNorm(parameters, 5.1), 5);
  assert.deepEqual(parameters[0]!.grad!.toArray(), [3, 0]);
  // torch: max_norm / (norm + 1e-6)
  assert.equal(clipGradNorm(parameters, 1), 5);
  const c = 1 / (5 + 1e-6);
  mustBeClose(
    [...parameters[0]!.grad!.dataSync(), ...parameters[2]!.grad!.dataSync()],
    [3 * c, 0, 4 * c],
    within(1e-15),
    'clipped',
  );
  assert.equal(parameters[1]!.grad, null);
  assert.equal(clipGradNorm(withGradients(null), 1), 0);
});

law(t, 'clipGradNorm: the norm and the factor are right wherever float64 holds them', async () => {
  for (const dtype of ['float32', 'float64'] as const)
    for (const s of dtype === 'float32' ? [1e20, 8e37, 1e-20, 1e-30, 1e-37] : [1e20, 1e-30, 1e200, 1e-170])
      for (const count of [1, 10_000]) {
        // Each 3 s and 4 s, in two parameters.
        const parameters = [3, 4].map(v => {
          const p = zeros([count], { dtype, requiresGrad: true });
          p.grad = full([count], v * s, { dtype });
          return p;
        });
        const norm = 5 * s * Math.sqrt(count);
        mustBeClose([await clipGradNorm(parameters, norm / 2)], [norm], { rtol: 2e-6, atol: 0 }, `norm ${s}`);
        for (const [i, p] of parameters.entries())
          mustBeClose(p.grad!.slice([0, 1]).dataSync(), [((3 + i) * s) / 2], { rtol: 4e-6, atol: 0 }, `half of ${s}`);
      }
  // A factor that float32 does not hold with all its digits.
  const p = zeros([1_000_000], { requiresGrad: true });
  p.grad = full([1_000_000], 3e38);
  mustBeClose([await clipGradNorm([p], 300)], [3e41], { rtol: 2e-6, atol: 0 }, 'norm');
  mustBeClose(p.grad.slice([0, 1]).dataSync(), [0.3], { rtol: 4e-6, atol: 0 }, 'clipped');
});

law(t, 'clipGradNorm counts and scales a parameter that is given twice once', () => {
  const [p] = withGradients([8]);
  assert.equal(clipGradNorm([p!, p!], 4), 8);
  mustBeClose(p!.grad!.dataSync(), [4], within(1e-6), 'clipped');
});

for (const bad of [Number.NaN, Infinity, -Infinity])
  law(t, `clipGradNorm: a gradient of ${bad} is an error, and nothing is scaled`, () => {
    const parameters = withGradients([30], null, [1, bad]);
    const message =
      /the norm of the gradients is (NaN|Infinity); the first such gradient is that of parameter 2, float64\[2\]/;
    assert.throws(() => clipGradNorm(parameters, 1), message);
    assert.deepEqual(parameters[0]!.grad!.toArray(), [30]);
  });

law(t, 'clipGradValue limits each element', () => {
  const parameters = withGradients([3, -0.5], null, [-4, 1]);
  clipGradValue(parameters, 1);
  assert.deepEqual(
    parameters.map(p => p.grad?.toArray()),
    [[1, -0.5], undefined, [-1, 1]],
  );
});

law(t, 'clipping: a negative or NaN limit is refused', () => {
  assert.throws(() => clipGradNorm([], -1), /clipGradNorm: expected a maxNorm ≥ 0, got -1/);
  assert.throws(() => clipGradValue([], Number.NaN), /clipGradValue: expected a clipValue ≥ 0, got NaN/);
});
