/** The laws of modules, losses and initialisers on a device: they give what 'cpu' gives. */

import assert from 'node:assert/strict';
import { concat, Generator, grad, loadSafetensors, readStateDict, saveSafetensors, Tensor, tensor } from '@otimes/core';
import * as nn from '@otimes/nn';
import type { Test } from 'tap';
import { mustBeClose } from '../helpers/allclose.ts';
import { floatOf } from '../helpers/devices.ts';
import { law } from '../helpers/law.ts';
import { lossCases } from './losses.ts';
import { type At, type ModuleCase, moduleCases } from './modules.ts';

/** What an element may be off by, relative to the largest of its tensor, or to 1 where that is less: 45,000 ε. */
const PRECISION = { float64: 1e-11, float32: 5e-3 };

type Place = { readonly device: string; readonly dtype: At['dtype'] };
type Values = { readonly shape: readonly number[]; readonly data: ArrayLike<number> };

const seeded = (place: Place, seed = 1): At => ({ ...place, rng: new Generator(seed) });

/** The values of tensors, with the names that they have in errors. */
async function read({ device }: Place, tensors: Record<string, Tensor>): Promise<Record<string, Values>> {
  for (const [name, x] of Object.entries(tensors)) assert.equal(x.device, device, `the device of ${name}`);
  const data = await Promise.all(Object.values(tensors).map(x => x.data()));
  return Object.fromEntries(Object.entries(tensors).map(([name, { shape }], i) => [name, { shape, data: data[i]! }]));
}

/** The tensors of a result, in arrays however deep, as one. */
function joined(result: unknown): Tensor {
  if (result instanceof Tensor) return result;
  const all = (result as readonly unknown[]).map(one => joined(one).flatten());
  return concat(all);
}

/** Everything that a module makes: two passes in training, gradients and their gradients, its state, and one evaluation. */
async function everything({ make, inputs }: ModuleCase, place: Place): Promise<Record<string, Values>> {
  const at = seeded(place);
  const model = make(at);
  const x = inputs(at);
  for (const one of x) if (one.dtype === place.dtype) one.requiresGrad = true;
  const leaves = [...x.filter(one => one.requiresGrad), ...model.parameters()];
  const seen: Record<string, Tensor> = {};
  const y = joined(model.call(...x));
  seen.training = y;
  y.square().sum().backward();
  leaves.forEach((leaf, i) => {
    if (leaf.grad !== null) seen[`gradient ${i}`] = leaf.grad;
  });
  const gradients = grad(
    joined(model.call(...x))
      .square()
      .sum(),
    leaves,
    { createGraph: true },
  );
  const twice = gradients.map(g => g.square().sum()).reduce((a, b) => a.add(b));
  if (twice.requiresGrad)
    grad(twice, leaves, { allowUnused: true }).forEach((g, i) => {
      if (g !== null) seen[`second gradient ${i}`] = g;
    });
  Object.assign(seen, model.stateDict());
  model.eval();
  seen.evaluation = joined(model.call(...x));
  return read(place, seen);
}

/** The value, gradient and second gradient of a loss. */
function ofLoss({ loss, target }: (typeof lossCases)[string], place: Place): Promise<Record<string, Values>> {
  const at = seeded(place);
  const z = nn.init.normal([3, 4], 1, at);
  z.requiresGrad = true;
  const y = target(at);
  const value = loss(z, y);
  const [first] = grad(value, [z], { createGraph: true });
  const [second] = grad(first!.square().sum(), [z]);
  return read(place, { value, first: first!, second: second! });
}

const shape = [4, 3, 2, 2];
const initialisers: Record<keyof typeof nn.init, (at: At) => Tensor> = {
  constant: at => nn.init.constant(shape, 2, at),
  zeros: at => nn.init.zeros(shape, at),
  ones: at => nn.init.ones(shape, at),
  uniform: at => nn.init.uniform(shape, -1, 2, at),
  normal: at => nn.init.normal(shape, 2, { ...at, mean: 1 }),
  truncatedNormal: at => nn.init.truncatedNormal(shape, 2, { ...at, cut: 1 }),
  xavierUniform: at => nn.init.xavierUniform(shape, at),
  xavierNormal: at => nn.init.xavierNormal(shape, at),
  kaimingUniform: at => nn.init.kaimingUniform(shape, at),
  kaimingNormal: at => nn.init.kaimingNormal(shape, { ...at, mode: 'fanOut' }),
};

/** Holds every module, loss and initialiser to these laws on one device. */
export function modulesSuite(t: Test, device: string): void {
  const dtype = floatOf(device);
  const place = { device, dtype };
  const cpu = { device: 'cpu', dtype };
  const mustAgree = (actual: Record<string, Values>, expected: Record<string, Values>): void => {
    assert.deepEqual(Object.keys(actual), Object.keys(expected));
    const dense = (values: Values) => tensor(Float64Array.from(values.data), { shape: values.shape });
    for (const [name, values] of Object.entries(actual)) {
      const largest = Array.from(expected[name]!.data).reduce((most, x) => Math.max(most, Math.abs(x)), 1);
      mustBeClose(dense(values), dense(expected[name]!), { rtol: 0, atol: PRECISION[dtype] * largest }, name);
    }
  };

  for (const [name, one] of Object.entries(moduleCases)) {
    law(t, `${name}: outputs, gradients, second gradients, statistics and evaluation on ${device}`, async () =>
      mustAgree(await everything(one, place), await everything(one, cpu)),
    );

    law(t, `${name}: its state goes to and from ${device} and through a file, and to() moves it there`, async () => {
      const at = seeded(place);
      const model = one.make(at);
      const x = one.inputs(at);
      // So that running statistics differ from those at the start.
      model.call(...x);
      model.eval();
      const y = await read(place, { y: joined(model.call(...x)) });
      const there = one.make(seeded(place, 2));
      there.loadStateDict(model.stateDict());
      const fromHost = one.make(seeded(place, 2));
      const state = loadSafetensors(saveSafetensors(await readStateDict(model.stateDict())));
      fromHost.loadStateDict(state);
      const moved = one.make(seeded(cpu, 2));
      moved.loadStateDict(state);
      moved.to(device);
      for (const copy of [there, fromHost, moved]) {
        copy.eval();
        mustAgree(await read(place, { y: joined(copy.call(...x)) }), y);
        assert.deepEqual(await read(place, copy.stateDict()), await read(place, model.stateDict()));
      }
    });
  }

  for (const [name, one] of Object.entries(lossCases))
    law(t, `${name}: its value, gradient and second gradient on ${device}`, async () =>
      mustAgree(await ofLoss(one, place), await ofLoss(one, cpu)),
    );

  law(t, `every initialiser makes the same values on ${device}`, async () => {
    assert.deepEqual(Object.keys(initialisers).sort(), Object.keys(nn.init).sort());
    for (const make of Object.values(initialisers))
      mustAgree(await read(place, { x: make(seeded(place)) }), await read(cpu, { x: make(seeded(cpu)) }));
  });
}
