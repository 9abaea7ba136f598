// What is exported for packages over curvature: an optimizer and an estimate of their own, from these parts alone.

import assert from 'node:assert/strict';
import { Generator, noGrad, randn, type Tensor } from '@otimes/core';
import { eigh } from '@otimes/linalg';
import { crossEntropy, type Sequential } from '@otimes/nn';
import { KFAC } from '@otimes/optim';
import {
  CurvatureEstimate,
  capture,
  checkClaims,
  checkFactor,
  collectBlocks,
  Decomposer,
  type Demand,
  defaultCollectors,
  type FisherKind,
  gradientScale,
  type Kfe,
  LayerCurvature,
  Recorder,
  Refresher,
  rotate,
} from '@otimes/optim/curvature';
import t from 'tap';
import { mustBeClose } from './helpers/allclose.ts';
import { labels, nets } from './helpers/family.ts';
import { law } from './helpers/law.ts';

const modelOf = () => nets.convolution!.make({ dtype: 'float64', rng: new Generator(3) });
const batches = (steps: number) => {
  const rng = new Generator(9);
  return Array.from({ length: steps }, () => ({ x: randn([12, 2, 4, 4], { dtype: 'float64', rng }), y: labels(rng) }));
};

function layersOf(name: string, model: Sequential): LayerCurvature[] {
  const blocks = collectBlocks(name, model, defaultCollectors, { sharing: undefined });
  checkClaims(name, model, blocks);
  return blocks.map(block => new LayerCurvature(block));
}

const DEMAND: Demand<LayerCurvature> = {
  factors: () => true,
  squares: () => false,
  turnedSquares: () => false,
  basisAhead: () => null,
  batch: () => false,
  begins() {},
};
const CAPTURE = { loss: 'crossEntropy', lossReduction: 'mean' } as const;

/** D̃ / (sG sAᵀ + λ) with momentum, for models of which every parameter belongs to a block. */
class Natural {
  readonly #layers: readonly LayerCurvature[];
  readonly #refresher: Refresher<LayerCurvature>;
  readonly #momenta = new Map<LayerCurvature, Tensor>();

  constructor(model: Sequential, refreshEvery: number) {
    this.#layers = layersOf('Natural', model);
    const decomposer = new Decomposer('Natural', eigh, refreshEvery);
    const when = { mode: 'sync', lag: null, stagger: false, every: refreshEvery } as const;
    this.#refresher = new Refresher('Natural', this.#layers, decomposer, when);
    const recorders = this.#layers.map(layer => new Recorder('Natural', layer, DEMAND));
    capture(model, recorders, { ...CAPTURE, fisher: 'empirical', rng: new Generator(0) });
  }

  step(lr: number, damping: number): void {
    noGrad(() => {
      for (const layer of this.#layers) {
        const statistics = layer.statistics!;
        const fresh = statistics.factors(gradientScale(statistics.batch, 'mean'))!;
        checkFactor(fresh.A, (_, value) => new RangeError(`a factor of ${layer.label} has ${value}`));
        layer.setFactors(layer.blended(fresh, 0.9));
        const before = layer.kfe;
        const basis =
          this.#refresher.basisAhead(layer) ?? (this.#refresher.decompose(layer, layer.A!, layer.G!) as Kfe);
        layer.turn(basis, null);
        const update = basis.project(layer.block.gradient()!).div(basis.eigenvalues().add(damping));
        let momentum = this.#momenta.get(layer) ?? null;
        if (momentum !== null && before !== basis) momentum = rotate(momentum, before!.rotationTo(basis));
        momentum = momentum === null ? update : momentum.mul(0.9).add(update);
        this.#momenta.set(layer, momentum);
        layer.block.add(basis.unproject(momentum), -lr);
        layer.dropStatistics();
      }
      this.#refresher.steps++;
    });
  }
}

law(t, 'an optimizer of exported parts is KFAC', () => {
  const [own, expected] = [modelOf(), modelOf()];
  const natural = new Natural(own, 3);
  const kfac = new KFAC(expected, {
    ...{ lr: 0.02, damping: 0.1, momentum: 0.9, trust: false, refreshEvery: 3, route: 'gradient' },
  });
  for (const { x, y } of batches(10)) {
    for (const model of [own, expected]) {
      for (const p of model.parameters()) p.grad = null;
      crossEntropy(model.call(x), y).backward();
    }
    natural.step(0.02, 0.1);
    kfac.step();
  }
  for (const [i, p] of own.parameters().entries())
    mustBeClose(p, expected.parameters()[i]!, { rtol: 1e-10, atol: 1e-12 }, `parameter ${i}`);
});

for (const fisher of ['empirical', 'sampled', 'ggn'] satisfies FisherKind[])
  law(t, `${fisher}: an estimate of exported parts is CurvatureEstimate`, () => {
    const [own, expected] = [modelOf(), modelOf()];
    const estimate = new CurvatureEstimate(expected, { fisher, loss: 'crossEntropy', rng: new Generator(5) });
    const layers = layersOf('Own', own);
    const recorders = layers.map(layer => new Recorder('Own', layer, DEMAND));
    const handle = capture(own, recorders, { ...CAPTURE, fisher, rng: new Generator(5) });
    const [{ x, y }] = batches(1) as [{ x: Tensor; y: Tensor }];
    for (const model of [own, expected]) crossEntropy(model.call(x), y).backward();
    estimate.add();
    for (const layer of layers) {
      const { statistics } = layer;
      const { A, G } = statistics!.factors(fisher === 'empirical' ? gradientScale(statistics!.batch, 'mean') : 1)!;
      const { A: ofA, G: ofG } = estimate.layers.get(layer.block.path)!;
      mustBeClose(A, ofA!, { rtol: 0, atol: 0 });
      mustBeClose(G, ofG!, { rtol: 0, atol: 0 });
      layer.dropStatistics();
    }
    handle.remove();
    crossEntropy(own.call(x), y).backward();
    assert.ok(
      layers.every(({ statistics }) => statistics === null),
      'no hook is left',
    );
  });
