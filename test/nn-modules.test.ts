// What is found in modules as programs build them, and what is told where something is not.

import assert from 'node:assert/strict';
import { ones, ReferenceBackend, registerBackend, type StateDict, type Tensor } from '@otimes/core';
import { Linear, Module, mlp, Parameter, Sequential, Tanh } from '@otimes/nn';
import { Adam, KFAC, type Optimizer, SGD } from '@otimes/optim';
import t from 'tap';
import { law } from './helpers/law.ts';
import { holding, names, same, weights, x } from './helpers/modules.ts';

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
