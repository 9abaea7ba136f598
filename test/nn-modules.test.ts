// Modules of @otimes/nn as programs build them: what is found, what is told, what is kept, how they look, and all of it on
// another device.
import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import {
  defaultGenerator,
  Generator,
  noGrad,
  ones,
  ReferenceBackend,
  randint,
  randn,
  registerBackend,
  type StateDict,
  scope,
  type Tensor,
  tensor,
  zeros,
} from '@otimes/core';
import { DataLoader, normalize, TensorDataset } from '@otimes/data';
import {
  BatchNorm2d,
  Buffer,
  Conv2d,
  crossEntropy,
  Dropout,
  Embedding,
  fromPyTorch,
  GroupNorm,
  init,
  LayerNorm,
  Linear,
  Module,
  MultiHeadAttention,
  mlp,
  Parameter,
  resnet18,
  Sequential,
  summary,
  Tanh,
  TransformerBlock,
  vit,
} from '@otimes/nn';
import { Adagrad, Adam, AdamW, KFAC, NAdam, type Optimizer, RMSprop, Schedule, SGD, stepLr } from '@otimes/optim';
import t from 'tap';
import { law } from './helpers/law.ts';

const float64 = { dtype: 'float64' } as const;
const x = (...shape: number[]) => randn(shape, { rng: new Generator(3) });
const names = (model: Module) => [...model.namedParameters().keys()];
const weights = (model: Module) => model.parameters().map(p => p.detach().clone());
const same = (a: readonly Tensor[], b: readonly Tensor[]) =>
  assert.deepEqual(
    a.map(one => one.toArray()),
    b.map(one => one.toArray()),
  );

/** A module with a field, which it passes its input through if that has layers. */
function holding(field: object): Module & { field: object } {
  class Holder extends Module {
    field = field;
    out = new Linear(3, 2);
    override forward(x: Tensor): Tensor {
      let y = x;
      for (const module of this.namedModules().values())
        if (module instanceof Linear && module !== this.out) y = module.call(y);
      return this.out.call(y);
    }
  }
  return new Holder();
}

// --- what is found ---

const containers: Record<string, [field: () => object, paths: string[]]> = {
  'a record': [() => ({ cat: new Linear(3, 3, { bias: false }) }), ['field.cat.weight']],
  'a map': [() => new Map([['cat', new Linear(3, 3, { bias: false })]]), ['field.cat.weight']],
  'a map with numbers': [() => new Map([[7, new Linear(3, 3, { bias: false })]]), ['field.7.weight']],
  'a set': [() => new Set([new Linear(3, 3, { bias: false })]), ['field.0.weight']],
  'nested lists': [
    () => [[new Tanh(), new Linear(3, 3, { bias: false })], [new Linear(3, 3, { bias: false })]],
    ['field.0.1.weight', 'field.1.0.weight'],
  ],
  'a list of records': [() => [{ linear: new Linear(3, 3, { bias: false }) }], ['field.0.linear.weight']],
  'a record without a prototype': [
    () => Object.assign(Object.create(null), { a: new Linear(3, 3, { bias: false }) }),
    ['field.a.weight'],
  ],
  'a record of parameters': [
    () => ({ a: new Parameter(ones([2])), b: [new Parameter(ones([2]))] }),
    ['field.a', 'field.b.0'],
  ],
};
for (const [what, [field, paths]] of Object.entries(containers))
  law(t, `layers and parameters in ${what} are found, saved, loaded, moved, switched and trained`, () => {
    registerBackend(new ReferenceBackend('elsewhere'));
    const model = holding(field());
    assert.deepEqual(names(model), [...paths, 'out.weight', 'out.bias']);
    const before = weights(model);
    const optimizer = new SGD(model.parameters(), { lr: 0.1 });
    model.call(x(4, 3)).square().sum().backward();
    for (const p of model.parameters()) if (p.grad === null) p.grad = ones(p.shape);
    optimizer.step();
    model.parameters().forEach((p, i) => {
      assert.ok(p.sub(before[i]!).abs().max().item() > 0, paths[i]);
    });
    const again = holding(field());
    again.loadStateDict(model.stateDict());
    same(weights(again), weights(model));
    again.eval();
    assert.ok([...again.namedModules().values()].every(module => !module.training));
    again.to('elsewhere');
    assert.ok(again.parameters().every(p => p.device === 'elsewhere'));
    assert.deepEqual(names(again), names(model));
    same(weights(again), weights(model));
  });

law(t, 'a list that holds itself ends, and what is in it is found once', () => {
  const list: unknown[] = [new Linear(3, 3, { bias: false })];
  list.push(list, { list });
  assert.deepEqual(names(holding(list)), ['field.0.weight', 'out.weight', 'out.bias']);
});

class Trainer {
  inner: object;
  constructor(inner: object) {
    this.inner = inner;
  }
}

law(t, 'parameters takes the option of namedParameters, and what lists or saves without options refuses all', () => {
  const model = holding([new Parameter(ones([2]))]);
  for (const o of [undefined, {}, { recurse: true }, { recurse: false }])
    same(model.parameters(o), [...model.namedParameters(o).values()]);
  assert.equal(model.parameters({ recurse: false }).length, 1);
  assert.equal(model.parameters().length, 3);
  const call = (method: keyof Module, given: unknown) => () =>
    Reflect.apply(model[method] as () => void, model, [given]);
  assert.throws(
    call('parameters', false),
    /parameters: expected options such as \{ recurse \}, got false; did you mean/,
  );
  assert.throws(call('parameters', { recursive: false }), /parameters: there is no option 'recursive', only recurse/);
  for (const method of ['stateDict', 'namedBuffers', 'namedModules', 'eval'] as const) {
    assert.throws(call(method, { prefix: 'a' }), new RegExp(`TypeError: ${method}: there is no option 'prefix'`));
    assert.throws(call(method, false), new RegExp(`TypeError: ${method}: expected no options, got false`));
  }
  assert.ok(model.training);
});

law(t, 'what is not found is an error that names the field', () => {
  const told = (model: Module, message: RegExp) => {
    assert.throws(() => model.parameters(), message);
    assert.throws(() => model.stateDict(), message);
    assert.throws(() => model.eval(), message);
  };
  told(holding(new Trainer(new Linear(1, 1))), /Holder: 'field\.inner' is not found, since Trainer is no module/);
  told(holding([{ a: new Trainer({ b: [new Parameter(ones([1]))] }) }]), /'field\.0\.a\.inner\.b\.0' is not found/);
  told(holding({ w: ones([2], { requiresGrad: true }) }), /'field\.w' is a plain tensor .* new Parameter/);
  told(
    holding({ 'a.b': new Parameter(ones([1])), a: { b: new Parameter(ones([1])) } }),
    /'field\.a\.b' is the name of two/,
  );
  const child: { parent?: Module } & Module = new Sequential();
  const parent = holding({ child });
  child.parent = parent;
  told(parent, /Holder: 'field\.child\.parent' leads back to a module above it/);
  told(child, /Sequential: 'parent\.field\.child' leads back/);
});

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

law(t, 'a module without forward says so', () => {
  class Silent extends Module {
    override forward(x: Tensor): Tensor {
      return x;
    }
  }
  Reflect.deleteProperty(Silent.prototype, 'forward');
  assert.throws(() => new Silent().call(x(1)), /Silent: expected its forward to be a function, got undefined/);
});

law(t, 'what is no tensor in a state says what to do with it', () => {
  const model = new Linear(1, 1);
  const load = (state: object) => model.loadStateDict(state as StateDict);
  assert.throws(() => load({ weight: [[1]], bias: ones([1]) }), /weight .*got \[\[1\]\], not a tensor\(…\)/);
  assert.throws(() => load({ weight: new Float32Array(1) }), /got a Float32Array, not a tensor\(…\)/);
  assert.throws(() => load({ model: model.stateDict() }), /unexpected: model \{ weight, bias \}, not a tensor/);
});

law(t, 'an instance of another class may lead to what is found elsewhere, and a layer may remember an input', () => {
  const model = holding({});
  model.field = new Trainer(model);
  assert.deepEqual(names(model), ['out.weight', 'out.bias']);
  class Probe extends Linear {
    seen: Tensor[] = [];
    override forward(x: Tensor): Tensor {
      this.seen.push(x);
      return super.forward(x);
    }
  }
  const probe = new Probe(3, 2);
  const input = x(1, 3);
  input.requiresGrad = true;
  probe.call(input).sum().backward();
  assert.deepEqual(names(probe), ['weight', 'bias']);
});

law(t, 'a layer in a #private field is told at the first step; one that an optimizer has is not', () => {
  class Hidden extends Module {
    readonly #inner: Linear | null;
    readonly #gain: Parameter;
    out = new Linear(3, 2);
    constructor(inner: boolean, gain: boolean) {
      super();
      this.#inner = inner ? new Linear(3, 3) : null;
      this.#gain = new Parameter(ones([1]), { requiresGrad: gain });
    }
    override forward(x: Tensor): Tensor {
      return this.out.call((this.#inner?.call(x) ?? x).mul(this.#gain));
    }
    hidden(): Tensor[] {
      return [...(this.#inner?.parameters() ?? []), this.#gain];
    }
  }
  const step = (model: Hidden, optimizer: Optimizer) => {
    model.call(x(2, 3)).square().sum().backward();
    void optimizer.step();
  };
  for (const [inner, gain] of [
    [true, false],
    [false, true],
  ] as const) {
    const model = new Hidden(inner, gain);
    const optimizer = new Adam(model.parameters());
    assert.throws(() => step(model, optimizer), /Adam: a parameter float32\[(3,3|3|1)\] gets gradients, but no module/);
    // It stays an error, and is none for other models.
    assert.throws(() => step(model, optimizer), /#private/);
    const other = mlp([3, 2]);
    const fine = new Adam(other.parameters());
    other.call(x(2, 3)).sum().backward();
    fine.step();
  }
  const given = new Hidden(true, true);
  step(given, new Adam([...given.parameters(), ...given.hidden()]));
  const frozen = new Hidden(true, false);
  for (const p of frozen.hidden()) p.requiresGrad = false;
  step(frozen, new SGD(frozen.parameters()));
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
  assert.throws(() => old.step(), /Adam: the model moved to another device, .* make the optimizer after model\.to/);
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

// --- what is kept ---

/** Ways in which a program keeps what it sees between the layers of a container. */
const keepers: Record<string, (see: (x: Tensor) => void) => Module> = {
  'a subclass': see => {
    class Remembers extends Linear {
      override forward(x: Tensor): Tensor {
        const y = super.forward(x);
        for (const one of [x, y, y.mul(2)]) see(one);
        return y;
      }
    }
    return new Remembers(4, 4);
  },
  'a subclass of a subclass': see => {
    class Base extends Tanh {}
    class Remembers extends Base {
      override forward(x: Tensor): Tensor {
        see(x);
        return super.forward(x);
      }
    }
    return new Remembers();
  },
  'a subclass that overrides call': see => {
    class Calls extends Linear {
      override call(x: Tensor): Tensor {
        const y = super.call(x);
        see(y.mul(2));
        return y;
      }
    }
    return new Calls(4, 4);
  },
  'a forward of its own': see => {
    const layer = new Linear(4, 4);
    const { forward } = layer;
    layer.forward = x => {
      see(x.mul(3));
      const y = forward.call(layer, x);
      see(y);
      return y;
    };
    return layer;
  },
  'a substituted forward': see => {
    const layer = new Linear(4, 4);
    layer.substitute(x => {
      see(x.mul(2));
      return layer.forward(x);
    });
    return layer;
  },
  'a hook that computes': see => {
    const layer = new Linear(4, 4);
    layer.onForward((_, __, y) => see((y as Tensor).mul(2)));
    return layer;
  },
  'a hook before': see => {
    const layer = new Linear(4, 4);
    layer.beforeForward((_, [x]) => see((x as Tensor).mul(2)));
    return layer;
  },
  'a container': see => {
    class Remembers extends Sequential {
      override forward(x: Tensor): Tensor {
        see(x);
        const y = super.forward(x);
        see(y);
        return y;
      }
    }
    return new Remembers(new Linear(4, 4), new Tanh());
  },
};

/** Containers of the library around a layer [..., 4] → [..., 4]. */
const around: Record<string, (layer: Module) => Module> = {
  Sequential: layer => new Sequential(new Linear(4, 4), layer, new Tanh()),
  'Sequential in a Sequential': layer =>
    new Sequential(new Linear(4, 4), new Sequential(new Tanh(), layer), new Tanh()),
  TransformerBlock: layer => {
    const block = new TransformerBlock(4, 2, { mlpRatio: 1 });
    Reflect.set(block, 'activation', layer);
    return new Sequential(block, new Tanh());
  },
  MultiHeadAttention: layer => {
    const attention = new MultiHeadAttention(4, 2);
    Reflect.set(attention, 'v', layer);
    return new Sequential(new Tanh(), attention);
  },
};
for (const [where, wrap] of Object.entries(around))
  law(t, `${where}: a layer of the program's own keeps what it sees, after backward and under noGrad`, () => {
    for (const [how, make] of Object.entries(keepers))
      for (const recording of [true, false]) {
        const seen: Tensor[] = [];
        const model = wrap(make(one => void seen.push(one)));
        const run = () => model.call(x(2, 3, 4));
        if (recording) run().sum().backward();
        else noGrad(run);
        assert.ok(seen.length > 0, how);
        for (const one of seen) assert.ok(one.sum().item() < Infinity, how);
      }
  });

law(t, 'a container of layers of the library keeps nothing, wherever else a layer remembers', () => {
  const insides = (model: Sequential) => {
    const seen: Tensor[] = [];
    model.layers[1]!.onForward((_, __, y) => void seen.push(y as Tensor), { borrows: true });
    model.call(x(2, 4)).sum().backward();
    return seen.map(one => one.storage.released);
  };
  insides(
    new Sequential(
      new Linear(4, 4),
      keepers['a subclass']!(() => {}),
      new Tanh(),
    ),
  );
  assert.deepEqual(insides(new Sequential(new Linear(4, 4), new Tanh(), new Linear(4, 2))), [true]);
  for (const layer of [new Linear(1, 1), new Tanh(), mlp([1, 1]), new Sequential()]) assert.ok(!layer.keepsTensors());
});

// --- hooks and forward passes that are not what they should be ---

const wrong: Record<string, [make: () => Module, message: RegExp]> = {
  'an async forward hook': [
    () => hooked(m => m.onForward(async () => {})),
    /Tanh: expected a forward hook to return nothing, .* got a promise; hooks are synchronous/,
  ],
  'a forward hook that returns a number': [() => hooked(m => m.onForward(() => 3)), /got 3/],
  'a forward hook that returns null': [() => hooked(m => m.onForward(() => null)), /got null/],
  'an async hook before': [
    () => hooked(m => m.beforeForward((async () => {}) as never)),
    /Tanh: a hook before the forward pass must return nothing.*a promise/,
  ],
  'a hook before that returns an input': [
    () => hooked(m => m.beforeForward(((_: unknown, [x]: Tensor[]) => x!.mul(2)) as never)),
    /cannot change the input; got float32/,
  ],
  'an async forward': [
    () => new Sequential(returning(async (x: Tensor) => x)),
    /Odd: expected forward to return a tensor or other result, got a promise; forward passes are synchronous/,
  ],
  'a last layer that gives a number': [
    () =>
      new Sequential(
        new Linear(3, 2),
        returning(() => 3),
      ),
    /^TypeError: Sequential: expected the output of layer 1, Odd, to be a tensor, got 3;/,
  ],
  'a layer in between that gives a list': [
    () =>
      new Sequential(
        new Linear(3, 2),
        returning(y => [y]),
        new Tanh(),
      ),
    /^TypeError: Sequential: expected the output of layer 1, Odd, to be a tensor, got \[float32\[2,2\]\];/,
  ],
  'a forward without a return': [() => returning(() => undefined), /Odd: .* got undefined; is its return missing\?/],
};
function hooked(add: (layer: Module) => unknown): Module {
  const layer = new Tanh();
  add(layer);
  return new Sequential(new Linear(3, 3), layer, new Linear(3, 2));
}
function returning(forward: (x: Tensor) => unknown): Module {
  class Odd extends Module {
    override forward(x: Tensor): Tensor {
      return forward(x) as Tensor;
    }
  }
  return new Odd();
}
for (const [what, [make, message]] of Object.entries(wrong))
  law(t, `${what} is an error that says so`, () => {
    const model = make();
    assert.throws(() => model.call(x(2, 3)), message);
    // The next call is a call like the first.
    assert.throws(() => model.call(x(2, 3)), message);
  });

law(t, 'calls and constructors say what was meant', () => {
  const from = (run: () => unknown, message: RegExp) => assert.throws(run, message);
  from(() => Reflect.construct(Sequential, [[new Tanh()]]), /Sequential: expected layer 0 .*new Sequential\(a, b\)/);
  from(
    () => Reflect.construct(Sequential, [(x: Tensor) => x]),
    /Sequential: expected layer 0 to be a module, got a function/,
  );
  from(
    () => Reflect.construct(Adam, [mlp([1, 1])]),
    /Adam: expected parameters .*did you mean model\.parameters\(\)\?/,
  );
  from(
    () => Reflect.construct(SGD, [mlp([1, 1]).parameters(), 0.1]),
    /SGD: expected options such as \{ lr, .* got 0\.1/,
  );
  from(() => Reflect.construct(SGD, [mlp([1, 1]).namedParameters()]), /SGD: parameter 0 .* give the values\(\)/);
  const optimizer = new Adam(mlp([1, 1]).parameters());
  from(() => Reflect.apply(optimizer.step, optimizer, [() => 1]), /Adam\.step: takes no argument, got a function/);
  from(() => new Conv2d(3, 4, 3).call(x(1, 8, 8, 3)), /Conv2d: expected an input \[N, 3, H, W\].*channels come first/);
  from(
    () => crossEntropy(x(2, 5, 7), randint(0, 7, [2, 5])),
    /crossEntropy: expected labels int32\[2,7\].*classes stand on axis 1/,
  );
  from(
    () => Reflect.apply(Linear.prototype.call, new Linear(1, 1), [[1]]),
    /Linear: expected its input to be a tensor/,
  );
  from(() => Reflect.apply(Linear.prototype.call, new Linear(1, 1), [x(1, 1), 2]), /Linear: expected 1 input, got 2/);
  const attention = new MultiHeadAttention(2, 1);
  from(
    () => Reflect.apply(attention.call, attention, [x(1, 1, 2), undefined, 3]),
    /MultiHeadAttention: expected 2 inputs, got 3/,
  );
  Reflect.set(
    attention,
    'o',
    returning(() => 3),
  );
  from(() => attention.call(x(1, 1, 2)), /MultiHeadAttention: expected its output to be a tensor, got 3/);
  from(() => Reflect.apply(Sequential.prototype.forward, new Sequential(), [3]), /Sequential: expected its output/);
  const { weight } = new Linear(1, 1, { bias: false }).stateDict();
  from(() => new Linear(1, 1).loadStateDict({ weight: weight! }), /nothing was loaded, since 1 entry is wrong/);
  from(
    () => new Schedule(optimizer, () => Number.NaN),
    /Schedule: expected the rule to give a rate ≥ 0 at step 0, got NaN/,
  );
});

law(t, 'messages name layers and optimizers as they are written, whatever a minifier makes of the classes', () => {
  for (const [made, name] of [
    [new Linear(1, 1), 'Linear'],
    [new Adam(mlp([1, 1]).parameters()), 'Adam'],
    [mlp([1, 1]), 'MLP'],
  ] as const)
    assert.ok(Object.hasOwn(made.constructor, 'builtIn') && String(made).startsWith(name), name);
  const Qx = class extends Linear {};
  Object.defineProperty(Qx, 'name', { value: 'q' });
  assert.match(String(new Qx(1, 1)), /^Linear\(/);
});

// --- how things look ---

law(t, 'a model prints as its tree, in the console, in templates and in JSON', () => {
  const model = mlp([4, 3, 2], { dropout: 0.5 });
  const tree = `MLP(
  (layers): Sequential(
    (0): Linear(weight [3, 4], bias [3]) 15 parameters
    (1): ReLU()
    (2): Dropout(p 0.5)
    (3): Linear(weight [2, 3], bias [2]) 8 parameters
  )
) 23 parameters`;
  assert.equal(String(model), tree);
  assert.equal(inspect(model), tree);
  assert.equal(JSON.parse(JSON.stringify({ model })).model, tree);
  const shared = new Linear(2, 2);
  assert.match(String(new Sequential(shared, shared)), /\) 6 parameters$/);
  assert.equal(String(new Conv2d(1, 2, 3)), inspect(new Conv2d(1, 2, 3)));
  assert.match(String(new Conv2d(1, 2, 3)), /kernel \[3, 3\], stride \[1, 1\].* groups 1\) 20 parameters/);
  const child: { parent?: Module } & Module = new Sequential();
  const parent = holding({ child });
  child.parent = parent;
  assert.match(String(parent), /\(field\.child\): Sequential\(\n {4}\(parent\): …/);
  assert.match(String(new Parameter(ones([2]))), /^tensor\(\[1, 1\], float32\[2\], requiresGrad\)$/);
});

law(t, 'optimizers, schedules, datasets, loaders and generators print what they are', () => {
  const model = mlp([2, 1]);
  const adam = new Adam(model.parameters(), { lr: 0.01 });
  assert.equal(
    inspect(adam),
    'Adam(lr 0.01, betas [0.9, 0.999], eps 1e-8, weightDecay 0, amsgrad false)\n  3 numbers in 2 parameters',
  );
  assert.equal(inspect(new Schedule(adam, stepLr({ stepSize: 2 }))), 'Schedule(step 0, lr 0.01)');
  const dataset = new TensorDataset(x(5, 2), zeros([5], { dtype: 'int32' }));
  assert.equal(inspect(dataset), 'TensorDataset(5 samples [float32[2], int32[]])');
  assert.equal(
    `${new DataLoader(dataset, { batchSize: 2 })}`,
    'DataLoader(TensorDataset(5 samples [float32[2], int32[]]), batchSize 2, shuffle false: 3 batches)',
  );
  assert.match(inspect(new Generator(1)), /^Generator\(state -?\d+, /);
  assert.doesNotThrow(() => JSON.stringify({ adam, dataset, model }));
});

law(t, 'summary: a table of 80 columns, and nothing has changed after it', () => {
  class Noisy extends Module {
    norm = new BatchNorm2d(2);
    drop = new Dropout(0.5);
    seen = new Parameter(ones([2, 1, 1]), { requiresGrad: false });
    override forward(x: Tensor): Tensor {
      return this.drop.call(this.norm.call(x.mul(this.seen).add(randn([1]))));
    }
  }
  const model = new Noisy();
  model.drop.eval();
  let hooks = 0;
  model.norm.onForward(() => void hooks++);
  const [state, rng] = [model.stateDict(), defaultGenerator().getState()];
  assert.equal(
    summary(model, [3, 2, 4, 4]),
    `Path     Layer        Output        Parameters
──────────────────────────────────────────────
(model)  Noisy        [3, 2, 4, 4]           2
norm     BatchNorm2d  [3, 2, 4, 4]           4
drop     Dropout      [3, 2, 4, 4]
──────────────────────────────────────────────
6 parameters, 4 of them trained, 24 bytes`,
  );
  assert.deepEqual([model.training, model.norm.training, model.drop.training, hooks], [true, true, false, 0]);
  assert.deepEqual(defaultGenerator().getState(), rng);
  same(Object.values(model.stateDict()), Object.values(state));
  assert.throws(() => summary(model, [3, 5, 4, 4]), /./);
  assert.deepEqual([model.training, model.norm.training, model.drop.training], [true, true, false]);
});

law(t, 'summary takes tensors, several inputs and lines that are too long', () => {
  class Pair extends Module<[a: Tensor, b: Tensor], Tensor[]> {
    aVeryLongNameOfAFieldThatIsHardToFitIntoATable = new Embedding(5, 2);
    unused = new Linear(1, 1);
    override forward(a: Tensor, b: Tensor): Tensor[] {
      return [this.aVeryLongNameOfAFieldThatIsHardToFitIntoATable.call(a), b, b, b, b, b];
    }
  }
  const text = summary(new Pair(), zeros([2], { dtype: 'int32' }), [1000, 1000]);
  assert.ok(
    text.split('\n').every(line => line.length <= 80),
    text,
  );
  assert.match(text, /aVeryLong.*… +Embedding +\[2, 2\] +10\n/);
  assert.match(text, /unused +Linear +not called +2\n/);
  assert.throws(() => summary(new Linear(1, 1)), /summary: expected an input/);
  assert.equal(
    summary(new Linear(1, 1, float64), [1, 1])
      .split('\n')
      .at(-1),
    '2 parameters, 16 bytes',
  );
});

// --- state ---

law(t, 'loading a state is all or nothing, whatever is wrong with an entry; another device is none of it', () => {
  registerBackend(new ReferenceBackend('elsewhere'));
  const make = (seed: number) => mlp([4, 5, 3], { rng: new Generator(seed) });
  const spoil: Record<string, [(s: StateDict) => void, RegExp]> = {
    released: [
      s => scope(() => void Reflect.set(s, 'layers.2.bias', zeros([3]))),
      /released: layers\.2\.bias float32\[3\] has no values/,
    ],
    undefined: [
      s => void Reflect.set(s, 'layers.2.bias', undefined),
      /layers\.2\.bias expects float32\[3\], got undefined/,
    ],
    array: [
      s => void Reflect.set(s, 'layers.2.bias', [1, 2, 3]),
      /layers\.2\.bias expects float32\[3\], got \[1, 2, 3\]/,
    ],
  };
  for (const strict of [true, false])
    for (const [what, [wrong, message]] of Object.entries(spoil)) {
      const [model, state] = [make(2), make(1).stateDict()];
      wrong(state);
      const before = weights(model);
      assert.throws(() => model.loadStateDict(state, { strict }), message, what);
      same(weights(model), before);
    }
  const [model, other] = [make(2), make(1)];
  const elsewhere = Object.fromEntries(Object.entries(other.stateDict()).map(([k, v]) => [k, v.to('elsewhere')]));
  model.loadStateDict(elsewhere);
  same(weights(model), weights(other));
  assert.throws(() => model.loadStateDict(Promise.resolve({}) as never), /got a promise; await it/);
  // Entries may be the parameters themselves, in other places.
  const pair = new Sequential(new Linear(2, 2, { bias: false }), new Linear(2, 2, { bias: false }));
  const [a, b] = weights(pair);
  pair.loadStateDict({ '0.weight': pair.parameters()[1]!.detach(), '1.weight': pair.parameters()[0]!.detach() });
  same(weights(pair), [b!, a!]);
});

law(t, 'optimizers and schedules refuse numbers that they could not be made with, and are as before', () => {
  const number = (value: number) => tensor(value, float64);
  const model = mlp([2, 2]);
  const optimizer = new Adam(model.parameters());
  model.call(x(1, 2)).sum().backward();
  optimizer.step();
  const schedule = new Schedule(optimizer, stepLr({ stepSize: 2 }));
  for (const [what, holder, key, values] of [
    ['Adam', optimizer, 'lr', [Number.NaN, -1, Infinity]],
    ['Adam', optimizer, '0.step', [Number.NaN, -1, 0.5, Infinity]],
    ['Schedule', schedule, 'step', [Number.NaN, -1, 0.5]],
    ['Schedule', schedule, 'base', [Number.NaN, -1, Infinity]],
  ] as const)
    for (const value of values) {
      const before = holder.stateDict();
      assert.throws(
        () => holder.loadStateDict({ ...before, [key]: number(value) }),
        new RegExp(`${what}\\.loadStateDict: nothing was loaded[^]*${key} expects one .*, got ${value}`),
      );
      same(Object.values(holder.stateDict()), Object.values(before));
    }
  const released: StateDict = { ...optimizer.stateDict() };
  scope(() => void Reflect.set(released, '1.m', zeros([2])));
  assert.throws(() => optimizer.loadStateDict(released), /released: 1\.m/);
  assert.throws(() => optimizer.loadStateDict({ lr: 1 } as never), /lr expects a tensor, got 1/);
  const take = optimizer.prepareState({ ...optimizer.stateDict(), lr: number(0.5) });
  assert.equal(optimizer.lr, 1e-3);
  take();
  assert.equal(optimizer.lr, 0.5);
  assert.throws(() => {
    optimizer.lr = Number.NaN;
  }, /Adam: expected lr in \[0, Infinity\), got NaN/);
});

law(
  t,
  'a state with moments that are not finite, or squares below 0, is refused entry by entry, and all is as before',
  () => {
    const squares = new Set(['v', 'vMax', 'sum']);
    const stepped = (make: (parameters: Parameter[]) => Optimizer) => {
      const model = mlp([2, 3]);
      const optimizer = make(model.parameters());
      model.call(x(4, 2)).square().sum().backward();
      void optimizer.step();
      return optimizer;
    };
    for (const [make, slots] of [
      [p => new SGD(p, { momentum: 0.9 }), ['buf']],
      [p => new Adam(p), ['m', 'v']],
      [p => new AdamW(p, { amsgrad: true }), ['m', 'v', 'vMax']],
      [p => new NAdam(p), ['m', 'v']],
      [p => new RMSprop(p, { momentum: 0.9, centered: true }), ['v', 'm', 'buf']],
      [p => new Adagrad(p), ['sum']],
    ] as [(parameters: Parameter[]) => Optimizer, string[]][]) {
      const optimizer = stepped(make);
      const before = optimizer.stateDict();
      for (const slot of slots)
        for (const value of [Number.NaN, Infinity, -Infinity, -1e-30]) {
          const state = {
            ...stepped(make).stateDict(),
            [`1.${slot}`]: tensor([1, value, 0]),
            lr: tensor(0.5, float64),
          };
          if (value === -1e-30 && !squares.has(slot)) {
            stepped(make).loadStateDict(state);
            continue;
          }
          const wrong = value === -1e-30 ? 'below 0' : 'that are not finite';
          assert.throws(
            () => optimizer.loadStateDict(state),
            new RegExp(
              `nothing was loaded, since 1 entry is wrong\\n  does not fit: 1\\.${slot} has elements ${wrong}$`,
            ),
          );
          same(Object.values(optimizer.stateDict()), Object.values(before));
        }
      stepped(make).loadStateDict(before);
    }
  },
);

law(t, "a first-order optimizer goes on from a state on another device, and a loader's state is taken whole", () => {
  registerBackend(new ReferenceBackend('elsewhere'));
  const start = () => {
    const model = mlp([3, 2], { rng: new Generator(1) });
    return { model, optimizer: new Adam(model.parameters(), { lr: 0.1 }) };
  };
  const step = ({ model, optimizer }: ReturnType<typeof start>) => {
    optimizer.zeroGrad();
    model.call(x(2, 3)).square().sum().backward();
    optimizer.step();
  };
  const [a, b] = [start(), start()];
  step(a);
  const moved = (state: StateDict) => Object.fromEntries(Object.entries(state).map(([k, v]) => [k, v.to('elsewhere')]));
  b.optimizer.loadStateDict(moved(a.optimizer.stateDict()));
  b.model.loadStateDict(moved(a.model.stateDict()));
  step(a);
  step(b);
  same(weights(b.model), weights(a.model));
  const loader = new DataLoader(new TensorDataset(x(6, 1)), { batchSize: 2, shuffle: true, rng: new Generator(1) });
  const state = loader.stateDict();
  for (const bad of [zeros([4], { dtype: 'int32' }), zeros([3], { dtype: 'int32' }), undefined])
    assert.throws(
      () => loader.loadStateDict({ ...state, position: tensor(1), rng: bad as Tensor }),
      /rng|state of 4 words/,
    );
  same(Object.values(loader.stateDict()), Object.values(state));
});

law(t, "PyTorch's attention and encoder layer load: q, k and v are the thirds of the rows of in_proj", () => {
  const [d, o] = [4, { ...float64, rng: new Generator(9) }];
  const draw = (...shape: number[]) => randn(shape, o);
  const theirs: StateDict = {
    'self_attn.in_proj_weight': draw(3 * d, d),
    'self_attn.in_proj_bias': draw(3 * d),
    'self_attn.out_proj.weight': draw(d, d),
    'self_attn.out_proj.bias': draw(d),
    'linear1.weight': draw(8, d),
    'linear1.bias': draw(8),
    'linear2.weight': draw(d, 8),
    'linear2.bias': draw(d),
    'norm1.weight': draw(d),
    'norm1.bias': draw(d),
    'norm2.weight': draw(d),
    'norm2.bias': draw(d),
  };
  const block = new TransformerBlock(d, 2, { mlpRatio: 2, preNorm: false, activation: 'relu', ...float64 });
  block.loadStateDict(fromPyTorch(theirs));
  // The formula of torch.nn.TransformerEncoderLayer in evaluation, by its own names.
  const p = (name: string) => theirs[name]!;
  const input = draw(3, 5, d);
  const packed = input.matmul(p('self_attn.in_proj_weight').transpose()).add(p('self_attn.in_proj_bias'));
  const heads = [0, 1].map(h => {
    const part = (i: number) => packed.slice(null, null, [i * d + h * 2, i * d + h * 2 + 2]);
    return part(0)
      .matmul(part(1).transpose())
      .mul(1 / Math.sqrt(2))
      .softmax(-1)
      .matmul(part(2));
  });
  const layerNorm = (y: Tensor, name: string) => {
    const centred = y.sub(y.mean(-1, { keepdim: true }));
    const deviation = centred.square().mean(-1, { keepdim: true }).add(1e-5).sqrt();
    return centred
      .div(deviation)
      .mul(p(`${name}.weight`))
      .add(p(`${name}.bias`));
  };
  const outputs = heads.map((head, h) =>
    head.matmul(
      p('self_attn.out_proj.weight')
        .slice(null, [h * 2, h * 2 + 2])
        .transpose(),
    ),
  );
  const y = layerNorm(input.add(outputs[0]!.add(outputs[1]!).add(p('self_attn.out_proj.bias'))), 'norm1');
  const hidden = y.matmul(p('linear1.weight').transpose()).add(p('linear1.bias')).relu();
  const expected = layerNorm(y.add(hidden.matmul(p('linear2.weight').transpose()).add(p('linear2.bias'))), 'norm2');
  assert.ok(block.eval().call(input).sub(expected).abs().max().item() < 1e-12);

  const attention = new MultiHeadAttention(d, 2, float64);
  const bare = Object.fromEntries(
    Object.entries(theirs).flatMap(([k, v]) => (k.startsWith('self_attn.') ? [[k.slice('self_attn.'.length), v]] : [])),
  );
  attention.loadStateDict(fromPyTorch(bare));
  const direct = outputs[0]!.add(outputs[1]!).add(p('self_attn.out_proj.bias'));
  assert.ok(attention.call(input).sub(direct).abs().max().item() < 1e-12);
  const deep = fromPyTorch(Object.fromEntries(Object.entries(theirs).map(([k, v]) => [`layers.0.${k}`, v])));
  assert.deepEqual(Object.keys(deep).slice(0, 4), [
    'layers.0.attention.q.weight',
    'layers.0.attention.k.weight',
    'layers.0.attention.v.weight',
    'layers.0.attention.q.bias',
  ]);
  const own = block.stateDict();
  assert.deepEqual(Object.keys(fromPyTorch(own)), Object.keys(own));
  assert.throws(
    () => fromPyTorch({ in_proj_weight: draw(7, 2) }),
    /rows of q, k and v, \[3 dModel, dModel\], got float64\[7,2\]/,
  );
  assert.throws(
    () => fromPyTorch({ q_proj_weight: draw(2, 2) }),
    /belongs to an attention that MultiHeadAttention cannot be/,
  );
});

// --- devices ---

law(t, 'layers, models and initialisers are made on the device that is asked for, with the same numbers', () => {
  registerBackend(new ReferenceBackend('elsewhere'));
  const made: Record<string, (o: { device?: string; rng: Generator }) => Module> = {
    Linear: o => new Linear(3, 2, o),
    Conv2d: o => new Conv2d(3, 2, 3, o),
    Embedding: o => new Embedding(3, 2, o),
    LayerNorm: o => new LayerNorm(3, o),
    GroupNorm: o => new GroupNorm(1, 3, o),
    BatchNorm2d: o => new BatchNorm2d(3, o),
    MultiHeadAttention: o => new MultiHeadAttention(4, 2, o),
    TransformerBlock: o => new TransformerBlock(4, 2, { ...o, dropout: 0.1 }),
    mlp: o => mlp([3, 4, 2], { ...o, dropout: 0.1 }),
    resnet18: o => resnet18({ ...o, classes: 2, stem: 'cifar', width: 2 }),
    vit: o => vit({ ...o, imageSize: 4, patch: 2, dim: 4, depth: 1, heads: 2, classes: 2 }),
  };
  for (const [name, make] of Object.entries(made)) {
    const [here, there] = [make({ rng: new Generator(4) }), make({ rng: new Generator(4), device: 'elsewhere' })];
    const state = there.stateDict();
    assert.ok(
      Object.values(state).every(one => one.device === 'elsewhere'),
      name,
    );
    same(Object.values(state), Object.values(here.stateDict()));
  }
  for (const f of [init.xavierUniform, init.xavierNormal, init.kaimingUniform, init.kaimingNormal])
    assert.equal(f([2, 3], { device: 'elsewhere' }).device, 'elsewhere');
  assert.equal(init.truncatedNormal([2, 3], 1, { device: 'elsewhere' }).device, 'elsewhere');
});

law(t, 'batches of a dataset, normalisation and training on another device', () => {
  registerBackend(new ReferenceBackend('elsewhere'));
  const there = { device: 'elsewhere' };
  const images = x(6, 3, 4, 4);
  const [mean, std] = [
    [0, 1, 2],
    [1, 2, 4],
  ];
  const far = normalize(images.to('elsewhere'), mean, std);
  assert.equal(far.device, 'elsewhere');
  same([far], [normalize(images, mean, std)]);
  const labels = randint(0, 2, [6], { rng: new Generator(1) });
  // The labels may lie somewhere else.
  for (const on of ['elsewhere', 'cpu'])
    for (const [batch, y] of new DataLoader(new TensorDataset(far, labels.to(on)), { batchSize: 4 }))
      assert.deepEqual([batch.device, y.device], ['elsewhere', on]);
  const model = mlp([48, 2], { ...there, rng: new Generator(1) });
  const optimizer = new Adam(model.parameters(), { lr: 0.1 });
  const loader = new DataLoader(new TensorDataset(far, labels.to('elsewhere')), { batchSize: 6 });
  const losses: number[] = [];
  for (let i = 0; i < 5; i++)
    for (const [batch, y] of loader) {
      optimizer.zeroGrad();
      const loss = crossEntropy(model.call(batch), y);
      loss.backward();
      optimizer.step();
      losses.push(loss.item());
    }
  assert.ok(losses.at(-1)! < losses[0]!);
});

law(t, 'a Kronecker optimizer lists layers in records, and hidden ones are told under it too', () => {
  const model = holding({ cat: new Linear(3, 3) });
  const rows = new KFAC(model).describe();
  assert.deepEqual(
    rows.map(({ path }) => path),
    ['field.cat', 'out'],
  );
  class Hidden extends Module {
    readonly #inner = new Linear(3, 3);
    out = new Linear(3, 2);
    override forward(x: Tensor): Tensor {
      return this.out.call(this.#inner.call(x));
    }
  }
  const hidden = new Hidden();
  const optimizer = new KFAC(hidden);
  hidden.call(x(4, 3)).square().sum().backward();
  assert.throws(() => optimizer.step(), /KFAC: a parameter float32\[(3,3|3)\] gets gradients, but no module/);
});
