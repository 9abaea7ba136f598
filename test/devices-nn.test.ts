/** Modules, losses and initialisers on every device, one that is read with await among them. */

import assert from 'node:assert/strict';
import { Generator, grad, loadSafetensors, readStateDict, saveSafetensors, type Tensor, tensor } from '@otimes/core';
import * as nn from '@otimes/nn';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { DEVICES } from './helpers/devices.ts';
import { laterDevice } from './helpers/later.ts';
import { law } from './helpers/law.ts';
import { type At, lossCases, type ModuleCase, moduleCases, notInTheList } from './suites/modules.ts';

const later = laterDevice().device;
const others = DEVICES.filter(device => device !== 'cpu');
const on = (device: string, seed = 1): At => ({ device, dtype: 'float64', rng: new Generator(seed) });

type Values = { readonly shape: readonly number[]; readonly data: ArrayLike<number> };

/** The values of tensors, with the names that they have in errors. */
async function read(device: string, tensors: Record<string, Tensor>): Promise<Record<string, Values>> {
  for (const [name, x] of Object.entries(tensors)) assert.equal(x.device, device, `the device of ${name}`);
  const data = await Promise.all(Object.values(tensors).map(x => x.data()));
  return Object.fromEntries(Object.entries(tensors).map(([name, { shape }], i) => [name, { shape, data: data[i]! }]));
}

function mustAgree(actual: Record<string, Values>, expected: Record<string, Values>): void {
  assert.deepEqual(Object.keys(actual), Object.keys(expected));
  for (const [name, { shape, data }] of Object.entries(actual)) {
    const dense = (values: Values) => tensor(Float64Array.from(values.data), { shape: values.shape });
    mustBeClose(dense({ shape, data }), dense(expected[name]!), { rtol: 1e-9, atol: 1e-11 }, name);
  }
}

/** Everything that a module makes: two passes in training, gradients and their gradients, its state, and one evaluation. */
async function everything({ make, inputs }: ModuleCase, device: string): Promise<Record<string, Values>> {
  const at = on(device);
  const model = make(at);
  const x = inputs(at);
  for (const one of x) if (one.dtype === 'float64') one.requiresGrad = true;
  const leaves = [...x.filter(one => one.requiresGrad), ...model.parameters()];
  const seen: Record<string, Tensor> = {};
  const y = model.call(...x) as Tensor;
  seen.training = y;
  y.square().sum().backward();
  leaves.forEach((leaf, i) => {
    if (leaf.grad !== null) seen[`gradient ${i}`] = leaf.grad;
  });
  const gradients = grad((model.call(...x) as Tensor).square().sum(), leaves, { createGraph: true });
  const twice = gradients.map(g => g.square().sum()).reduce((a, b) => a.add(b));
  if (twice.requiresGrad)
    grad(twice, leaves, { allowUnused: true }).forEach((g, i) => {
      if (g !== null) seen[`second gradient ${i}`] = g;
    });
  Object.assign(seen, model.stateDict());
  model.eval();
  seen.evaluation = model.call(...x) as Tensor;
  return read(device, seen);
}

law(t, 'the list has every module of the package', () => {
  const modules = Object.entries(nn).filter(
    ([, value]) => value === nn.Module || (typeof value === 'function' && value.prototype instanceof nn.Module),
  );
  const listed = new Set([...Object.keys(moduleCases).map(name => name.split(' ')[0]), ...notInTheList]);
  assert.deepEqual(
    modules.map(([name]) => name).filter(name => !listed.has(name)),
    [],
  );
});

for (const [name, one] of Object.entries(moduleCases)) {
  law(
    t,
    `${name}: outputs, gradients, second gradients, statistics and evaluation are the same on every device`,
    async () => {
      const expected = await everything(one, 'cpu');
      for (const device of others) mustAgree(await everything(one, device), expected);
    },
  );

  law(t, `${name}: its state goes from device to device and through a file, and to() moves it there`, async () => {
    for (const device of others) {
      const at = on(device);
      const model = one.make(at);
      const x = one.inputs(at);
      // So that running statistics differ from those at the start.
      model.call(...x);
      model.eval();
      const y = await read(device, { y: model.call(...x) as Tensor });
      const there = one.make(on(device, 2));
      there.loadStateDict(model.stateDict());
      const fromHost = one.make(on(device, 2));
      const state = loadSafetensors(saveSafetensors(await readStateDict(model.stateDict())));
      fromHost.loadStateDict(state);
      const moved = one.make(on('cpu', 2));
      moved.loadStateDict(state);
      moved.to(device);
      for (const copy of [there, fromHost, moved]) {
        copy.eval();
        mustAgree(await read(device, { y: copy.call(...x) as Tensor }), y);
        assert.deepEqual(await read(device, copy.stateDict()), await read(device, model.stateDict()));
      }
    }
  });
}

law(
  t,
  'a state that is read with await is told so where another device loads it, and nothing is loaded or moved',
  async () => {
    const [there, here] = [nn.mlp([3, 2], on(later)), nn.mlp([3, 2], on('cpu', 2))];
    const before = here.parameters().map(p => p.toArray());
    const message = /nothing was loaded[\s\S]*on 'later': layers\.0\.weight .* await readStateDict\(state\)/;
    assert.throws(() => here.loadStateDict(there.stateDict()), message);
    assert.deepEqual(
      here.parameters().map(p => p.toArray()),
      before,
    );
    assert.throws(() => there.to('cpu'), /await/);
    assert.ok(there.parameters().every(p => p.device === later));
    here.loadStateDict(await readStateDict(there.stateDict()));
    assert.deepEqual(
      here.parameters().map(p => p.toArray()),
      await Promise.all(there.parameters().map(p => p.array())),
    );
  },
);

for (const [name, { loss, target }] of Object.entries(lossCases))
  law(t, `${name}: its value, gradient and second gradient are the same on every device`, async () => {
    const at = async (device: string) => {
      const place = on(device);
      const z = nn.init.normal([3, 4], 1, place);
      z.requiresGrad = true;
      const y = target(place);
      const value = loss(z, y);
      const [first] = grad(value, [z], { createGraph: true });
      const [second] = grad(first!.square().sum(), [z]);
      return read(device, { value, first: first!, second: second! });
    };
    const expected = await at('cpu');
    for (const device of others) mustAgree(await at(device), expected);
  });

law(t, 'every initialiser makes the same values on every device', async () => {
  const shape = [4, 3, 2, 2];
  const makers: Record<keyof typeof nn.init, (at: At) => Tensor> = {
    uniform: at => nn.init.uniform(shape, -1, 2, at),
    normal: at => nn.init.normal(shape, 2, { ...at, mean: 1 }),
    truncatedNormal: at => nn.init.truncatedNormal(shape, 2, { ...at, cut: 1 }),
    xavierUniform: at => nn.init.xavierUniform(shape, at),
    xavierNormal: at => nn.init.xavierNormal(shape, at),
    kaimingUniform: at => nn.init.kaimingUniform(shape, at),
    kaimingNormal: at => nn.init.kaimingNormal(shape, { ...at, mode: 'fanOut' }),
  };
  assert.deepEqual(Object.keys(makers).sort(), Object.keys(nn.init).sort());
  for (const make of Object.values(makers)) {
    const expected = await read('cpu', { x: make(on('cpu')) });
    for (const device of others) mustAgree(await read(device, { x: make(on(device)) }), expected);
  }
});

law(t, 'nothing of this asked for values at once', () => {
  assert.equal(laterDevice().instantReads, 0);
});
