// Small seeded training runs of a net of convolutions, on each way that a gradient takes into the eigenbasis.

import assert from 'node:assert/strict';
import { type DType, Generator, randint, randn, type Tensor } from '@otimes/core';
import { Conv2d, crossEntropy, Flatten, Linear, Sequential, Tanh } from '@otimes/nn';
import type { KroneckerOptions, KroneckerPreconditioner, Route } from '@otimes/optim';
import { operationOf, valuesOf } from '../suites/training.ts';
import { mustBeClose } from './allclose.ts';
import { family, type Make, ROUTES } from './routes.ts';

/** Options by which the sides of its convolutions have a structure that can turn images, with a kernel of several taps. */
export const structures: Record<string, KroneckerOptions> = {
  'inputs at the identity': { structure: 'exact', maxFactorDim: 12 },
  'channels times taps': { structure: 'taps' },
  'channels alone, outputs in blocks': { structure: { A: 'channels', G: 'blocks' }, blockDim: 3 },
};

export type ImageOptions = {
  readonly float?: 'float32' | 'float64';
  readonly batch?: number;
  readonly steps?: number;
  readonly seed?: number;
};

/** Convolutions with and without bias, stride and padding, at paths '0', '2' and '4', and a Linear at '7'. */
export function newImageNet({ float = 'float64', seed = 1 }: ImageOptions = {}): Sequential {
  const o = { dtype: float as DType, rng: new Generator(seed) };
  return new Sequential(
    new Conv2d(2, 4, 3, { padding: 1, ...o }),
    new Tanh(),
    new Conv2d(4, 6, [3, 2], { stride: [2, 1], padding: [1, 0], bias: false, ...o }),
    new Tanh(),
    new Conv2d(6, 3, 1, { stride: 2, bias: false, ...o }),
    new Tanh(),
    new Flatten(),
    new Linear(3 * 2 * 2, 4, o),
  );
}

/** Images [batch, 2, 6, 5] with labels, for each step. */
export function imageBatches({ float = 'float64', batch = 6, steps = 12 }: ImageOptions = {}) {
  const rng = new Generator(5);
  const images = () => randn([batch, 2, 6, 5], { dtype: float as DType, rng });
  return Array.from({ length: steps }, () => ({ x: images(), y: randint(0, 4, [batch], { rng }) }));
}

export const convAt = (model: Sequential, path: string): Conv2d => model.layers[Number(path)] as Conv2d;

/** What a test does in a run; each hook sees the number of the step. */
export type ImageActs = {
  readonly loss?: (model: Sequential, batch: { x: Tensor; y: Tensor }, step: number) => Tensor;
  readonly beforeBackward?: (model: Sequential, loss: Tensor, step: number) => unknown;
  readonly beforeStep?: (model: Sequential, step: number) => unknown;
  readonly afterStep?: (model: Sequential, step: number, optimizer: KroneckerPreconditioner) => unknown;
};

export const imageLoss = (model: Sequential, { x, y }: { x: Tensor; y: Tensor }): Tensor =>
  crossEntropy(model.call(x), y);

/** One run from the first batch to the last. `turned` are forward passes of convolutions that ran in a basis. */
export function trainImages(make: (model: Sequential) => KroneckerPreconditioner, o: ImageOptions & ImageActs = {}) {
  const model = newImageNet(o);
  const optimizer = make(model);
  let turned = 0;
  for (const layer of model.layers)
    if (layer instanceof Conv2d)
      layer.onForward((_, __, y) => {
        if (operationOf(y as Tensor) === 'conv2d in the eigenbasis') turned++;
      });
  const losses = imageBatches(o).map((batch, step) => {
    optimizer.zeroGrad();
    const loss = o.loss?.(model, batch, step) ?? imageLoss(model, batch);
    o.beforeBackward?.(model, loss, step);
    loss.backward();
    o.beforeStep?.(model, step);
    optimizer.step();
    o.afterStep?.(model, step, optimizer);
    return loss.item();
  });
  const routes = optimizer.describe().map(({ route }) => route);
  return { model, optimizer, losses, values: valuesOf(model), routes, turned };
}

/** Runs with the same acts on every route and of every structure end in the same place as on the plain one. */
export function sameImagesEverywhere(
  acts: ImageActs,
  {
    make = family['STEVE weight decay']!,
    refreshEvery = 4,
    factorEvery = 1,
    ...data
  }: ImageOptions & { make?: Make; refreshEvery?: number; factorEvery?: number } = {},
): void {
  for (const [name, structure] of Object.entries(structures)) {
    const along = (route: Route) =>
      trainImages(m => make(m, { ...structure, route, refreshEvery, factorEvery }), { ...data, ...acts });
    const plain = along('gradient');
    assert.equal(plain.turned, 0);
    for (const route of ROUTES.slice(1)) {
      const run = along(route);
      assert.ok(run.turned > 0, `${name}, ${route}`);
      mustBeClose([...run.losses], [...plain.losses], { rtol: 1e-9, atol: 1e-9 }, `${name}, ${route}: losses`);
      mustBeClose([...run.values], [...plain.values], { rtol: 1e-9, atol: 1e-9 }, `${name}, ${route}`);
    }
  }
}

/** A net in the middle of a refresh period on some route, its plain twin, and a batch. */
export function imagesMidway(route: Route, structure: KroneckerOptions, make: Make = family['STEVE carry']!) {
  const run = trainImages(m => make(m, { ...structure, refreshEvery: 8, route }), { steps: 3 });
  const { model, optimizer, routes } = run;
  assert.deepEqual(routes, [route, route, route, route]);
  const twin = newImageNet();
  twin.loadStateDict(model.stateDict());
  const batch = imageBatches({ steps: 5 })[4]!;
  const loss = (of: Sequential = model) => imageLoss(of, batch);
  optimizer.zeroGrad();
  return { model, optimizer, twin, ...batch, loss };
}
