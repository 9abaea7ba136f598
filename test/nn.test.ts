// Modules of @otimes/nn: the tree of parameters, its state, and hooks.
import assert from 'node:assert/strict';
import {
  Generator,
  loadSafetensors,
  noGrad,
  ones,
  ReferenceBackend,
  rand,
  randn,
  registerBackend,
  type StateDict,
  saveSafetensors,
  scope,
  Tensor,
  tensor,
  zeros,
} from '@otimes/core';
import { Buffer, Embedding, functional, LayerNorm, Linear, Module, mlp, Parameter, Sequential, Tanh } from '@otimes/nn';
import t from 'tap';
import { gradcheck } from './helpers/gradcheck.ts';
import { law } from './helpers/law.ts';

const float64 = { dtype: 'float64' } as const;
const int32 = { dtype: 'int32' } as const;
const x = (...shape: number[]) => randn(shape, { ...float64, rng: new Generator(3) });
const keys = (from: Map<string, unknown> | StateDict) => (from instanceof Map ? [...from.keys()] : Object.keys(from));
const small = (seed = 0) => {
  const o = { rng: new Generator(seed) };
  return new Sequential(new Linear(5, 4, o), new Tanh(), new Linear(4, 3, o));
};

// --- the tree ---

law(t, 'parameters are named by the path of their fields, as in PyTorch', () => {
  assert.deepEqual(keys(small().namedParameters()), ['0.weight', '0.bias', '2.weight', '2.bias']);
  const deep = mlp([4, 3, 2], { dropout: 0.5 });
  assert.deepEqual(keys(deep.namedParameters()), [
    'layers.0.weight',
    'layers.0.bias',
    'layers.3.weight',
    'layers.3.bias',
  ]);
  assert.deepEqual(keys(mlp([4, 3, 2], { bias: false }).namedParameters()), ['layers.0.weight', 'layers.2.weight']);
  assert.deepEqual(keys(new Linear(2, 3, { bias: false }).stateDict()), ['weight']);
  assert.deepEqual(keys(small().namedModules()), ['', '0', '1', '2']);
  const shapes = small()
    .parameters()
    .map(p => p.shape);
  assert.deepEqual(shapes, [[4, 5], [4], [3, 4], [3]]);
});

/** Fields of all kinds: a parameter, a buffer, a module, arrays of modules and of parameters, and others. */
class Mixed extends Module {
  scale = new Parameter(ones([2]));
  mean = new Buffer(zeros([2]));
  count = 7;
  missing: Parameter | null = null;
  other = ones([2]);
  inner = new Linear(2, 2);
  blocks = [new Linear(2, 2), new Tanh(), new Sequential(new Linear(2, 2, { bias: false }))];
  shifts = [new Parameter(zeros([2])), new Parameter(ones([2]))];
  override forward(x: Tensor): Tensor {
    return this.blocks.reduce((y, block) => block.call(y), this.inner.call(x.mul(this.scale).sub(this.mean)));
  }
}

law(t, 'fields that hold parameters, buffers, modules and arrays of them are found, others are not', () => {
  const model = new Mixed();
  const below = [
    'inner.weight',
    'inner.bias',
    'blocks.0.weight',
    'blocks.0.bias',
    'blocks.2.0.weight',
    'shifts.0',
    'shifts.1',
  ];
  assert.deepEqual(keys(model.namedParameters()), ['scale', ...below]);
  assert.deepEqual(keys(model.namedBuffers()), ['mean']);
  assert.deepEqual(keys(model.stateDict()), ['scale', 'mean', ...below]);
  assert.deepEqual(keys(model.namedModules()), ['', 'inner', 'blocks.0', 'blocks.1', 'blocks.2', 'blocks.2.0']);
  assert.ok(model.parameters().every(p => p.requiresGrad && p.isLeaf));
  assert.ok(!model.mean.requiresGrad);
});

law(t, 'a Sequential with fields of its own has them too', () => {
  class Scaled extends Sequential {
    gain = new Parameter(ones([1]));
  }
  assert.deepEqual(keys(new Scaled(new Linear(1, 1)).namedParameters()), ['0.weight', '0.bias', 'gain']);
});

law(t, 'a tied parameter is listed once, saved under each path, and gets one gradient', async () => {
  const [first, last] = [new Linear(3, 3, { ...float64, bias: false }), new Linear(3, 3, { ...float64, bias: false })];
  last.weight = first.weight;
  const model = new Sequential(first, new Tanh(), last);
  assert.deepEqual(keys(model.namedParameters()), ['0.weight']);
  assert.deepEqual(keys(model.stateDict()), ['0.weight', '2.weight']);
  model.loadStateDict(model.stateDict());
  assert.equal(last.weight, first.weight);
  await gradcheck(w => functional.linear(functional.linear(x(2, 3), w!).tanh(), w!), [first.weight]);
  const shared = new Linear(2, 2);
  assert.deepEqual(keys(new Sequential(shared, shared).namedModules()), ['', '0']);
});

law(t, 'train and eval reach every module of the tree', () => {
  const model = new Mixed();
  const modes = () => [...model.namedModules().values()].map(m => m.training);
  assert.ok(modes().every(on => on));
  assert.equal(model.eval(), model);
  assert.ok(modes().every(on => !on));
  assert.equal(model.train(), model);
  assert.ok(modes().every(on => on));
  model.train(false);
  assert.ok(modes().every(on => !on));
});

law(t, 'to: parameters and buffers move to the device, values, ties and requiresGrad stay', () => {
  registerBackend(new ReferenceBackend('elsewhere'));
  const model = new Mixed();
  model.inner.weight = model.blocks[0]!.parameters()[0]!;
  model.scale.requiresGrad = false;
  const before = model.stateDict();
  assert.equal(model.to('elsewhere'), model);
  for (const [path, value] of Object.entries(model.stateDict())) {
    assert.equal(value.device, 'elsewhere', path);
    assert.deepEqual(value.toArray(), before[path]!.toArray(), path);
  }
  assert.equal(model.inner.weight, model.blocks[0]!.parameters()[0]);
  assert.deepEqual([model.scale.requiresGrad, model.inner.weight.requiresGrad], [false, true]);
  assert.equal(model.call(ones([1, 2], { device: 'elsewhere' })).device, 'elsewhere');
});

law(t, 'to the device where a model is changes nothing; an unknown device is an error', () => {
  const model = new Mixed();
  const before = model.parameters();
  assert.equal(model.to('cpu'), model);
  assert.ok(model.parameters().every((p, i) => p === before[i]));
  assert.throws(() => model.to('abacus'), /no backend is registered for 'abacus'/);
});

law(t, 'parameters outlive the scope they are made in', () => {
  let model = small();
  scope(() => {
    model = small(5);
  });
  assert.equal(model.call(ones([1, 5])).size, 3);
});

law(t, 'only floating tensors can be parameters', () => {
  assert.throws(() => new Parameter(zeros([2], int32)), /only float32 and float64 tensors have gradients/);
  assert.equal(new Parameter(ones([2]), { requiresGrad: false }).requiresGrad, false);
});

// --- hooks ---

law(t, 'forward hooks see inputs and output, in order, on every module that is called', () => {
  const model = small();
  const seen: string[] = [];
  for (const [path, module] of model.namedModules())
    module.onForward((m, inputs, output) => {
      assert.equal(m, module);
      seen.push(`${path}: ${(inputs[0] as Tensor).shape} → ${(output as Tensor).shape}`);
    });
  model.onForward(() => void seen.push('second'));
  model.call(ones([2, 5]));
  assert.deepEqual(seen, ['0: 2,5 → 2,4', '1: 2,4 → 2,4', '2: 2,4 → 2,3', ': 2,5 → 2,3', 'second']);
  model.forward(ones([2, 5]));
  assert.equal(seen.filter(line => line === 'second').length, 1, 'forward alone runs no hooks of its own');
});

law(t, 'what a hook returns takes the place of the output, for later hooks as well', () => {
  const model = new Tanh();
  model.onForward((_, __, y) => (y as Tensor).add(1));
  model.onForward((_, __, y) => (y as Tensor).mul(2));
  model.onForward(() => undefined);
  assert.deepEqual(model.call(zeros([2])).toArray(), [2, 2]);
});

law(t, 'remove undoes one registration, also of a hook that is there twice, also while hooks run', () => {
  const model = new Tanh();
  let calls = 0;
  const count = () => {
    calls++;
  };
  const handles = [model.onForward(count), model.onForward(count)];
  const once = model.onForward(() => once.remove());
  model.onForward(count);
  model.call(ones([1]));
  assert.equal(calls, 3);
  handles[0]!.remove();
  handles[0]!.remove();
  model.call(ones([1]));
  assert.equal(calls, 5);
});

law(t, 'between layers that keep nothing, tensors go with the graph; what a hook saw stays, unless it borrows', () => {
  const passes = (register: (layer: Module, see: (x: unknown) => void) => void) => {
    const seen: Tensor[] = [];
    const model = new Sequential(new Linear(3, 4), new Tanh(), new Linear(4, 2));
    register(model.layers[1]!, x => void (x instanceof Tensor && seen.push(x)));
    const loss = model
      .call(ones([2, 3]))
      .square()
      .sum();
    assert.ok(
      seen.every(x => !x.storage.released),
      'before backward',
    );
    loss.backward();
    const trained = seen.map(x => x.storage.released);
    seen.length = 0;
    noGrad(() => model.call(ones([2, 3])));
    return [...trained, ...seen.map(x => x.storage.released)];
  };
  const [kept, gone] = [
    [false, false],
    [true, true],
  ];
  assert.deepEqual(
    passes((layer, see) => layer.onForward((_, __, y) => see(y))),
    kept,
  );
  assert.deepEqual(
    passes((layer, see) => layer.onForward((_, __, y) => see(y), { borrows: true })),
    gone,
  );
  assert.deepEqual(
    passes((layer, see) => layer.beforeForward((_, [x]) => see(x))),
    kept,
  );
  assert.deepEqual(
    passes((layer, see) => layer.beforeForward((_, [x]) => see(x), { borrows: true })),
    gone,
  );
});

law(t, 'a container with a layer that may keep tensors releases none', () => {
  class Memo extends Module {
    last: { x: Tensor } | null = null;
    override forward(x: Tensor): Tensor {
      this.last = { x };
      return x.mul(2);
    }
  }
  const memo = new Memo();
  const model = new Sequential(new Linear(3, 4), memo, new Tanh());
  model
    .call(ones([2, 3]))
    .sum()
    .backward();
  assert.ok(Number.isFinite(memo.last!.x.sum().item()));
});

// --- state ---

law(t, 'save, load = the same model, bit for bit, through safetensors too', () => {
  for (const make of [small, () => new Mixed(), () => new LayerNorm([2, 3]), () => new Embedding(3, 2)]) {
    const [a, b] = [make(1), make(2)];
    noGrad(() => a.parameters().forEach(p => void p.addScaled_(rand(p.shape), 1)));
    b.loadStateDict(loadSafetensors(saveSafetensors(a.stateDict())));
    for (const [path, value] of Object.entries(b.stateDict()))
      assert.deepEqual(value.dataSync(), a.stateDict()[path]!.dataSync(), path);
  }
});

law(t, 'a state dict is a copy, and loading keeps the identity of parameters', () => {
  const model = small();
  const [before, state] = [model.parameters(), model.stateDict()];
  model.loadStateDict(Object.fromEntries(Object.entries(state).map(([key, value]) => [key, value.mul(0)])));
  assert.ok(model.parameters().every((p, i) => p === before[i] && p.requiresGrad));
  assert.equal(
    model
      .call(ones([1, 5]))
      .abs()
      .sum()
      .item(),
    0,
  );
  assert.notEqual(state['0.weight']!.abs().sum().item(), 0);
  assert.ok(Object.values(state).every(value => !value.requiresGrad));
});

law(t, 'loading converts between float32 and float64', () => {
  const model = new Linear(2, 1);
  model.loadStateDict({ weight: tensor([[0.5, 0.1]], float64), bias: tensor([1], float64) });
  assert.equal(model.weight.dtype, 'float32');
  assert.deepEqual(model.weight.toArray(), [[0.5, Math.fround(0.1)]]);
});

law(t, 'a wrong state lists all that is wrong and loads nothing', () => {
  const model = small();
  const good = model.stateDict();
  const { '0.bias': _, ...rest } = good;
  const bad: StateDict = {
    ...rest,
    '0.weight': ones([4, 5]),
    '2.weight': zeros([4, 3]),
    '2.bias': zeros([3], int32),
    'head.weight': zeros([1]),
    constructor: zeros([]),
  };
  const message = `loadStateDict: nothing was loaded, since 5 entries are wrong
  missing: 0.bias float32[4]
  does not fit: 2.weight expects float32[3,4], got float32[4,3]
  does not fit: 2.bias expects float32[3], got int32[3]
  unexpected: head.weight float32[1]
  unexpected: constructor float32[]`;
  assert.throws(() => model.loadStateDict(bad), { message });
  assert.throws(() => model.loadStateDict(bad, { strict: false }), /since 2 entries are wrong/);
  for (const [path, value] of Object.entries(model.stateDict()))
    assert.deepEqual(value.toArray(), good[path]!.toArray());
  model.loadStateDict({ '0.weight': ones([4, 5]), other: zeros([]) }, { strict: false });
  assert.equal(model.stateDict()['0.weight']!.sum().item(), 20);
});
