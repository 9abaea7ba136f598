// The weights of a module: plain tensors in their place, modes, calls with others, training a part of them.

import assert from 'node:assert/strict';
import { noGrad, ones, ReferenceBackend, randn, registerBackend, type Tensor, zeros } from '@otimes/core';
import {
  BatchNorm2d,
  Buffer,
  Conv2d,
  Dropout,
  Embedding,
  GroupNorm,
  LayerNorm,
  Linear,
  Module,
  mlp,
  Parameter,
  Sequential,
  summary,
  Tanh,
  vit,
} from '@otimes/nn';
import { Adam, KFAC, SGD } from '@otimes/optim';
import t from 'tap';
import { law } from './helpers/law.ts';
import { holding, names, same, weights, x } from './helpers/modules.ts';

/** Puts a tensor where TypeScript does not let it. */
const put = (module: Module, name: string, value: unknown) => Reflect.set(module, name, value);
const LOST =
  /is a plain tensor, so it is not trained: .*new Parameter\(…\) or Buffer.*noGrad\(\(\) => layer\.weight\.copy_\(…\)\)/;

law(t, 'a plain tensor is no weight: an error that names the path, from all that walks a layer of the library', () => {
  const linear = new Linear(3, 2);
  // @ts-expect-error A Tensor is no Parameter.
  linear.weight = randn([2, 3]);
  const norm = new BatchNorm2d(2);
  // @ts-expect-error A Tensor is no Buffer.
  norm.runningMean = zeros([2]);
  class Masked extends Linear {
    mask = ones([2]);
  }
  const doors: ((model: Module) => unknown)[] = [
    model => model.parameters(),
    model => model.namedParameters(),
    model => model.namedBuffers(),
    model => [...model.namedModules().values()].map(one => one.namedParameters({ recurse: false })),
    model => model.stateDict(),
    model => model.loadStateDict({}),
    model => model.to('cpu'),
    model => new Adam(model.parameters()),
    model => new KFAC(model),
    model => model.call(x(1, 3)),
  ];
  for (const door of doors) {
    assert.throws(() => door(linear), LOST);
    assert.throws(() => door(linear), /Linear: 'weight' is/);
    assert.throws(() => door(new Sequential(new Sequential(new Tanh(), linear))), /Sequential: '0\.1\.weight' is/);
    assert.throws(() => door(norm), /BatchNorm2d: 'running_mean' is/);
  }
  for (const [name, layer] of [
    ['bias', new Linear(3, 2, { bias: false })],
    ['weight', new Masked(3, 2)],
    ['weight', new Embedding(3, 2)],
    ['bias', new Conv2d(1, 1, 1)],
    ['weight', new LayerNorm(2)],
    ['bias', new GroupNorm(1, 2)],
    ['position', vit({ imageSize: 2, patch: 1, dim: 2, heads: 1, depth: 1, classes: 2 })],
  ] as const) {
    for (const value of [ones([2]), ones([2], { requiresGrad: true }), ones([2], { requiresGrad: true }).mul(2)]) {
      put(layer, name, value);
      assert.throws(() => layer.parameters(), new RegExp(`'${name}' is a plain tensor, so`));
    }
    put(layer, name, new Parameter(ones([2])));
    assert.ok(layer.namedParameters().has(name));
  }
  assert.deepEqual(names(new Masked(3, 2)), ['weight', 'bias']);
  noGrad(() => new Linear(3, 2).weight.copy_(randn([2, 3])));
});

law(
  t,
  'of any module, a field in which a parameter or buffer was found must have one, and others may have constants',
  () => {
    class Scaled extends Module {
      gain: unknown = new Parameter(ones([3]));
      mean: unknown = new Buffer(zeros([3]));
      parts: unknown[] = [new Parameter(ones([1])), ones([1])];
      offset = zeros([3]);
      override forward(x: Tensor): Tensor {
        return x.add(this.offset);
      }
    }
    for (const [name, path] of [
      ['gain', 'gain'],
      ['mean', 'mean'],
      ['parts', 'parts.0'],
    ] as const) {
      const model = new Scaled();
      assert.deepEqual(names(model), ['gain', 'parts.0']);
      model.offset = ones([3]);
      put(model, name, name === 'parts' ? [ones([1])] : ones([3]));
      assert.throws(() => model.stateDict(), new RegExp(`Scaled: '${path}' is a plain tensor, so`));
      put(model, name, null);
      assert.ok(!Object.keys(model.stateDict()).includes(path));
    }
  },
);

function frozen<M extends Module>(layer: M): M {
  Object.freeze(layer);
  return layer;
}

/** A layer with its weight in a field that is defined so. */
function defined(field: (w: Parameter) => PropertyDescriptor): Module {
  class Defined extends Module {
    first = new Linear(2, 2);
    constructor() {
      super();
      Object.defineProperty(this, 'w', { enumerable: true, configurable: true, ...field(new Parameter(ones([2]))) });
    }
    override forward(x: Tensor): Tensor {
      return this.first.call(x);
    }
  }
  return new Sequential(new Linear(2, 2), new Defined());
}

law(
  t,
  'what cannot be put into its place on another device is an error that names the path, and nothing has moved',
  () => {
    registerBackend(new ReferenceBackend('elsewhere'));
    const parameter = () => new Parameter(ones([2]));
    for (const [what, model, path] of [
      ['a read-only field', defined(value => ({ value })), '1.w'],
      ['a field with a getter alone', defined(w => ({ get: () => w })), '1.w'],
      ['a field with a setter that forgets', defined(w => ({ get: () => w, set() {} })), '1.w'],
      ['a frozen layer', new Sequential(new Linear(2, 2), frozen(new Linear(2, 2))), '1.weight'],
      ['a sealed list that is read-only', holding(Object.freeze([[parameter()], parameter()])), 'field.1'],
      [
        'a frozen record',
        holding({ a: new Map([[1, parameter()]]), b: Object.freeze({ c: parameter() }) }),
        'field.b.c',
      ],
    ] as const) {
      const before = [...model.namedParameters()];
      assert.throws(
        () => model.to('elsewhere'),
        new RegExp(
          `^TypeError: ${model instanceof Sequential ? 'Sequential' : 'Holder'}\\.to: nothing was changed, since '${path}' cannot be set`,
        ),
        what,
      );
      assert.ok(
        [...model.namedParameters()].every(([name, p], i) => name === before[i]![0] && p === before[i]![1]),
        what,
      );
      new SGD(model.parameters()).step();
      model.to('cpu');
    }
    let kept = parameter();
    const open = defined(() => ({ get: () => kept, set: (p: Parameter) => (kept = p) }));
    open.to('elsewhere');
    assert.equal(kept.device, 'elsewhere');
    const map = holding(Object.freeze(new Map([[1, parameter()]])));
    assert.ok(
      map
        .to('elsewhere')
        .parameters()
        .every(p => p.device === 'elsewhere'),
    );
  },
);

law(t, 'a mode is switched in the whole tree, or in none of it with an error that names the frozen layer', () => {
  const model = new Sequential(new Dropout(0.5), new Sequential(frozen(new Linear(2, 2))), new Dropout(0.5));
  const training = () => [...model.namedModules().values()].map(module => module.training);
  assert.throws(
    () => model.eval(),
    /^TypeError: Sequential\.eval: nothing was changed, since '1\.0\.training' cannot be set: it is frozen/,
  );
  assert.deepEqual(training(), [true, true, true, true, true]);
  assert.throws(() => summary(model, [1, 2]), /Sequential\.eval: .*'1\.0\.training'/);
  assert.deepEqual(training(), [true, true, true, true, true]);
  model.train();
  const still = frozen(new Linear(2, 2).eval());
  const other = new Sequential(new Dropout(0.5), still);
  assert.throws(() => other.train(), /Sequential\.train: .*'1\.training'/);
  other.eval();
  assert.ok([...other.namedModules().values()].every(module => !module.training));
  summary(other, [1, 2]);
});

law(t, 'a call may run with other tensors in the place of weights, which are put back after it', () => {
  class Twice extends Module {
    inner = new Linear(3, 3);
    override forward(x: Tensor): Tensor {
      const { weight } = this.inner;
      put(this.inner, 'weight', weight.mul(2));
      this.namedModules();
      const y = this.inner.call(x);
      this.inner.weight = weight;
      return y;
    }
  }
  const model = new Twice();
  const input = x(2, 3);
  const y = model.call(input);
  y.sum().backward();
  assert.deepEqual(names(model), ['inner.weight', 'inner.bias']);
  assert.ok(model.inner.weight.grad !== null);
  const fresh = new Linear(3, 3);
  const { weight } = fresh;
  put(fresh, 'weight', weight.mul(2));
  const first = fresh.call(input);
  put(fresh, 'weight', ones([3, 3]));
  fresh.call(input);
  fresh.weight = weight;
  first.sum().backward();
  assert.deepEqual(names(fresh), ['weight', 'bias']);
});

law(t, 'a part of a model may be trained alone, and a model may use another that has its own optimizer', () => {
  const model = mlp([3, 4, 2]);
  const head = new SGD(model.layers.layers[2]!.parameters(), { lr: 0.1 });
  const before = weights(model);
  model.call(x(2, 3)).sum().backward();
  head.step();
  const after = weights(model);
  same(after.slice(0, 2), before.slice(0, 2));
  assert.notDeepEqual(after[2]!.toArray(), before[2]!.toArray());
  const [first, second] = [new Linear(3, 3), new Linear(3, 2)];
  const alone = new SGD(first.parameters());
  second
    .call(first.call(x(1, 3)))
    .sum()
    .backward();
  alone.step();
});

law(t, 'an optimizer from before model.to() says so at its step; a new one trains', () => {
  registerBackend(new ReferenceBackend('elsewhere'));
  const model = mlp([3, 2]);
  const old = new Adam(model.parameters());
  model.to('elsewhere');
  const input = x(2, 3).to('elsewhere');
  model.call(input).sum().backward();
  assert.throws(
    () => old.step(),
    /Adam: the model moved to another device or dtype, .* make the optimizer after model\.to/,
  );
  const before = weights(model);
  new Adam(model.parameters(), { lr: 0.1 }).step();
  assert.notDeepEqual(weights(model)[0]!.toArray(), before[0]!.toArray());
});

law(t, 'a frozen parameter stays as it is, gradient or not, and is trained again when it is set free', () => {
  const model = mlp([3, 2]);
  const [weight, bias] = model.parameters() as [Parameter, Parameter];
  const optimizer = new SGD(model.parameters(), { lr: 0.1, momentum: 0.9, weightDecay: 0.1 });
  const step = () => {
    model.call(x(2, 3)).sum().backward();
    optimizer.step();
  };
  step();
  weight.requiresGrad = false;
  const [before, other] = [weight.detach().clone(), bias.detach().clone()];
  step();
  assert.deepEqual(weight.toArray(), before.toArray());
  assert.notDeepEqual(bias.toArray(), other.toArray());
  weight.requiresGrad = true;
  optimizer.zeroGrad();
  step();
  assert.notDeepEqual(weight.toArray(), before.toArray());
  const grad = weight.grad!.toArray();
  optimizer.zeroGrad();
  step();
  assert.deepEqual(weight.grad!.toArray(), grad, 'gradients do not add up over steps');
});
