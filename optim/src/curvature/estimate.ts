/** The curvature of a model for uses that are no optimizer: uncertainty, influence, pruning, or a look at it. */

import { Generator, type Handle, type Tensor } from '@otimes/core';
import {
  aCount,
  anInstance,
  checkArgument,
  checkFinite,
  checkOptions,
  nameOf,
  type OptionKinds,
  oneOf,
} from '@otimes/core/extend';
import { type AnyModule, Module } from '@otimes/nn';
import { diagonal } from './basis.ts';
import type { Sharing } from './block.ts';
import { checkClaims } from './claims.ts';
import { type Collector, collectBlocks, defaultCollectors } from './collector.ts';
import { checkFactorSize } from './decompose/here.ts';
import { gradientScale, type LossReduction } from './factors.ts';
import { LayerCurvature } from './layer.ts';
import { KroneckerOperator } from './operator.ts';
import { inOwnScope } from './own-scope.ts';
import { capture } from './sources/activations.ts';
import type { FisherKind, FisherLoss } from './sources/fisher.ts';
import { type Demand, Recorder } from './sources/recorder.ts';
import { Stopwatch } from './stopwatch.ts';

export type CurvatureOptions = {
  /** Which Fisher the factors estimate. Default 'empirical'; 'sampled' and 'ggn' need `loss`. */
  fisher?: FisherKind;
  /** The loss, for 'sampled' and 'ggn'. */
  loss?: FisherLoss;
  /** Whether the loss is the mean over a batch (default) or its sum. The factors are those of one example's loss with both. */
  lossReduction?: LossReduction;
  /** How positions that share a weight enter the factors. Default: each collector's own. */
  sharing?: Sharing;
  /** Default `defaultCollectors`. */
  collectors?: readonly Collector[];
  /** Sides with more rows stay at the identity. Default Infinity. */
  maxFactorDim?: number;
  /** Draws labels for 'sampled'. Default: a generator with seed 0. */
  rng?: Generator;
};

const OPTIONS: OptionKinds<CurvatureOptions> = {
  fisher: oneOf('empirical', 'sampled', 'ggn'),
  loss: oneOf('crossEntropy', 'mse'),
  lossReduction: oneOf('mean', 'sum'),
  sharing: oneOf('expand', 'reduce'),
  collectors: { expected: 'an array of collectors', is: Array.isArray },
  maxFactorDim: aCount,
  rng: anInstance(Generator, 'a Generator'),
};

/** Factors of every example, and nothing else. */
const FACTORS: Demand<LayerCurvature> = {
  factors: () => true,
  squares: () => false,
  turnedSquares: () => false,
  basisAhead: () => null,
  batch: () => false,
  begins() {},
};

/**
 * Averages of the Kronecker factors A and G of each layer over all examples of the batches that it is told of:
 *
 *     const curvature = new CurvatureEstimate(model, { fisher: 'ggn', loss: 'crossEntropy' });
 *     for (const [x, y] of batches) {
 *       crossEntropy(model.call(x), y).backward();
 *       curvature.add();
 *     }
 *     curvature.detach();
 *     curvature.operator('layers.0').solve(X, { damping: 1 });
 */
export class CurvatureEstimate {
  static readonly builtIn: string = 'CurvatureEstimate';
  /** By the path of the block. */
  readonly layers: ReadonlyMap<string, LayerCurvature>;
  readonly #name: string;
  readonly #reduction: LossReduction;
  readonly #isOfLoss: boolean;
  readonly #handle: Handle;
  /** Examples so far, by layer. */
  readonly #examples = new Map<LayerCurvature, number>();

  /** Throws for a model without a layer that a collector knows, for shared weights, and for factors that are too large. */
  constructor(model: AnyModule, o: CurvatureOptions = {}) {
    const name = nameOf(this);
    checkArgument(name, 'model', model, anInstance(Module, 'a module'));
    checkOptions<CurvatureOptions>(name, o, OPTIONS);
    const { fisher = 'empirical', loss, lossReduction = 'mean', maxFactorDim = Infinity, rng = new Generator(0) } = o;
    if (fisher !== 'empirical' && loss === undefined)
      throw new TypeError(`${name}: fisher '${fisher}' needs the option loss: 'crossEntropy' or 'mse'`);
    const blocks = collectBlocks(name, model, o.collectors ?? defaultCollectors, { sharing: o.sharing });
    if (blocks.length === 0) throw new Error(`${name}: the model has no trainable layer that a collector knows`);
    checkClaims(name, model, blocks);
    const layers = blocks.map(block => {
      const layer = new LayerCurvature(block, { sharing: o.sharing, maxFactorDim });
      if (!layer.identityA) checkFactorSize(name, layer.label, 'A', block.dIn);
      if (!layer.identityG) checkFactorSize(name, layer.label, 'G', block.dOut);
      return layer;
    });
    this.layers = new Map(layers.map(layer => [layer.block.path, layer]));
    this.#name = name;
    this.#reduction = lossReduction;
    this.#isOfLoss = fisher === 'empirical';
    const watch = new Stopwatch({ statistics: 0 });
    const recorders = layers.map(layer => new Recorder(name, layer, FACTORS, watch));
    this.#handle = capture(model, recorders, { fisher, loss, lossReduction, rng });
  }

  /**
   * Adds the batch of the backward passes since the last call; several passes are parts of one batch, whose losses are scaled so
   * that their sum is the batch's. Each batch counts by its examples. Gradients stay for the caller to use or to clear.
   *
   * @throws if no pass reached any layer, or factors are not finite; the averages are then as they were
   */
  add(): void {
    const seen = [...this.layers.values()].filter(({ statistics }) => statistics !== null);
    if (seen.length === 0)
      throw new Error(
        `${this.#name}.add: no backward pass has reached a layer since the last call: call backward() before it`,
      );
    inOwnScope(() => {
      try {
        const fresh = seen.map(layer => this.#fresh(layer));
        for (const { layer, factors, batch } of fresh) {
          const before = this.#examples.get(layer) ?? 0;
          layer.setFactors(layer.blended(factors, before / (before + batch)));
          layer.keep();
          this.#examples.set(layer, before + batch);
        }
      } finally {
        for (const layer of seen) layer.dropStatistics();
      }
    });
  }

  #fresh(layer: LayerCurvature) {
    const statistics = layer.statistics!;
    const { batch } = statistics;
    const factors = statistics.factors(this.#isOfLoss ? gradientScale(batch, this.#reduction) : 1);
    if (factors === null || statistics.isOfNoExample)
      throw new RangeError(`${this.#name}.add: the batch of ${layer.label} is empty. Skip such batches`);
    for (const side of ['A', 'G'] as const) this.#checkFactor(layer, side, factors[side]);
    return { layer, factors, batch };
  }

  /** Of a Gram matrix |x_ij| ≤ √(x_ii x_jj): its diagonal tells whether all of it is finite. */
  #checkFactor({ label }: LayerCurvature, side: 'A' | 'G', factor: Tensor): void {
    const down = factor.rank === 0 ? 0 : factor.shape[0]! + 1;
    checkFinite(
      diagonal(factor),
      (i, value) =>
        new RangeError(
          `${this.#name}.add: factor ${side} of ${label} has ${value} at position ${i * down}; nothing was added`,
        ),
    );
  }

  /** A ⊗ G of one layer, of copies of the factors as they are; see `KroneckerOperator`. Throws for a path that has none yet. */
  operator(path: string): KroneckerOperator {
    const layer = this.layers.get(path);
    if (layer === undefined)
      throw new Error(
        `${this.#name}.operator: no layer '${path}'; there are ${[...this.layers.keys()].map(one => `'${one}'`).join(', ')}`,
      );
    const { A, G, sizes } = layer;
    if (A === null || G === null) throw new Error(`${this.#name}.operator: add() has brought nothing of '${path}' yet`);
    return KroneckerOperator.fromFactors({ A, G }, { sizes });
  }

  /** Removes the hooks from the model. The averages stay. */
  detach(): void {
    this.#handle.remove();
    for (const layer of this.layers.values()) layer.dropStatistics();
  }
}
