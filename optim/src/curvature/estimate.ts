/** The curvature of a model for uses that are no optimizer: uncertainty, influence, pruning, or a look at it. */

import { Generator, type Handle } from '@otimes/core';
import { aCount, checkArgument, checkOptions, nameOf } from '@otimes/core/extend';
import type { AnyModule } from '@otimes/nn';
import { checkFactor } from './basis.ts';
import { checkClaims } from './claims.ts';
import { collectBlocks, defaultCollectors } from './collector.ts';
import { gradientScale, type LossReduction } from './factors.ts';
import { LayerCurvature } from './layer.ts';
import { checkModel } from './model.ts';
import { KroneckerOperator } from './operator.ts';
import { CURVATURE_OPTIONS, type CurvatureOptions, checkFisher } from './options.ts';
import { inOwnScope } from './own-scope.ts';
import { capture } from './sources/activations.ts';
import { type Demand, Recorder } from './sources/recorder.ts';
import { Stopwatch } from './stopwatch.ts';

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
    checkModel(name, model);
    checkOptions<CurvatureOptions>(name, o, CURVATURE_OPTIONS);
    if (o.maxFactorDim !== undefined) checkArgument(name, 'maxFactorDim', o.maxFactorDim, aCount);
    checkFisher(name, o);
    const { fisher = 'empirical', loss, lossReduction = 'mean', maxFactorDim = Infinity, rng = new Generator(0) } = o;
    const blocks = collectBlocks(name, model, o.collectors ?? defaultCollectors, { sharing: o.sharing });
    if (blocks.length === 0) throw new Error(`${name}: the model has no trainable layer that a collector knows`);
    checkClaims(name, model, blocks);
    const layers = blocks.map(block => {
      const layer = new LayerCurvature(block, { sharing: o.sharing, maxFactorDim });
      layer.checkSizes(name);
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
    for (const side of ['A', 'G'] as const)
      checkFactor(
        factors[side],
        (position, value) =>
          new RangeError(
            `${this.#name}.add: factor ${side} of ${layer.label} has ${value} at position ${position}; nothing was added`,
          ),
      );
    return { layer, factors, batch };
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
