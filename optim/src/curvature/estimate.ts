/** The curvature of a model for uses that are no optimizer: uncertainty, influence, pruning, or a look at it. */

import { Generator, type Handle, type Tensor, zeros } from '@otimes/core';
import {
  aCount,
  aString,
  checkArgument,
  checkNone,
  checkOptions,
  inspect,
  nameOf,
  onFailure,
  readsLater,
} from '@otimes/core/extend';
import type { AnyModule } from '@otimes/nn';
import { ALIKE, alikeOf, checkAlike, type Facts, factsOf } from './alike.ts';
import { checkFactor, diagonal } from './basis.ts';
import { checkClaims } from './claims.ts';
import { collectBlocks, defaultCollectors } from './collector.ts';
import { alone, type Communicator } from './communicator.ts';
import {
  agreed,
  COUNTS,
  checkReadAtOnce,
  column,
  countsOf,
  inTurns,
  Line,
  type Turns,
  told,
  Whole,
} from './exchange.ts';
import { type Factors, gradientScale, type LossReduction, type Statistics } from './factors.ts';
import { LayerCurvature } from './layer.ts';
import { checkModel } from './model.ts';
import { KroneckerOperator } from './operator.ts';
import { copyOf, type OperatorFactors } from './operator-factors.ts';
import { CURVATURE_OPTIONS, type CurvatureOptions, checkFisher } from './options.ts';
import { inOwnScope } from './own-scope.ts';
import type { Scalar } from './scalar.ts';
import { capture } from './sources/activations.ts';
import { Labels } from './sources/labels.ts';
import { type Demand, Recorder } from './sources/recorder.ts';
import { Stopwatch } from './stopwatch.ts';

/** The factors that a batch brings to a layer. */
type Fresh = { readonly layer: LayerCurvature; readonly factors: Factors; readonly batch: number };

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
  readonly #model: AnyModule;
  readonly #reduction: LossReduction;
  readonly #isOfLoss: boolean;
  /** What else must be the same in all processes. */
  readonly #options: Facts;
  readonly #communicator: Communicator;
  readonly #labels: Labels;
  /** Whether `add` waits for other processes. */
  #isOpen = false;
  /** Whether an exchange of `add` has failed: until the next pass it can be called again. */
  #isKept = false;
  readonly #handle: Handle;
  /** Examples so far, by layer. */
  readonly #examples = new Map<LayerCurvature, Scalar>();
  #detached = false;

  /** Throws for a model without a layer that a collector knows, for shared weights, and for factors that are too large. */
  constructor(model: AnyModule, o: CurvatureOptions = {}) {
    const name = nameOf(this);
    checkModel(name, model);
    checkOptions<CurvatureOptions>(name, o, CURVATURE_OPTIONS);
    if (o.maxFactorDim !== undefined) checkArgument(name, 'maxFactorDim', o.maxFactorDim, aCount);
    checkFisher(name, o);
    const { fisher = 'empirical', loss, lossReduction = 'mean', maxFactorDim = Infinity, communicator = alone } = o;
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
    this.#model = model;
    this.#reduction = lossReduction;
    this.#isOfLoss = fisher === 'empirical';
    this.#options = Object.entries({ fisher, loss: this.#isOfLoss ? null : loss, lossReduction });
    const watch = new Stopwatch({ statistics: 0 });
    checkReadAtOnce(name, layers[0]!.block.parameters[0]!, communicator);
    this.#communicator = communicator;
    this.#labels = new Labels(o.rng ?? new Generator(0), communicator);
    // Factors of every example, and nothing else.
    const demand: Demand<LayerCurvature> = {
      factors: () => true,
      squares: () => false,
      turnedSquares: () => false,
      basisAhead: () => null,
      batch: () => false,
      adds: () => this.#dropKept(),
      begins: () => this.#checkNotOpen('backward()'),
    };
    const recorders = layers.map(layer => new Recorder(name, layer, demand, watch));
    this.#handle = capture(model, recorders, { fisher, loss, lossReduction, rng: this.#labels.own });
  }

  /**
   * Adds the batch of the backward passes since the last call; several passes are parts of one batch, whose losses are scaled so
   * that their sum is the batch's. Each batch counts by its examples. Gradients stay for the caller to use or to clear.
   *
   * With a `communicator` of several processes the batch is that of all, which all of them add, with averages that are the same in
   * all. It returns a promise if the communicator does; until that is settled, `backward` and `add` throw. Where an exchange fails,
   * a further `add()` does it again; a backward pass begins another batch.
   *
   * @throws if no pass reached any layer, or factors are not finite; the averages are then as they were, in all processes
   */
  add(...none: readonly never[]): void | Promise<void> {
    checkNone(`${this.#name}.add`, none, 'it takes what backward passes left behind');
    if (this.#detached) throw new Error(`${this.#name}.add: called after detach(), which removed the hooks`);
    this.#checkNotOpen('add()');
    if (this.#communicator.size > 1) return inTurns(this.#addJointly());
    const seen = this.#seen();
    inOwnScope(() => {
      try {
        this.#take(seen.map(layer => this.#fresh(layer)));
      } finally {
        for (const layer of seen) layer.dropStatistics();
      }
    });
  }

  /** Takes the factors of so many examples into the averages of a layer. */
  #average(layer: LayerCurvature, factors: Factors, batch: number): void {
    if (readsLater(factors.A)) this.#averageLater(layer, layer.joined(factors), batch);
    else {
      const before = Number(this.#examples.get(layer) ?? 0);
      layer.setFactors(layer.blended(factors, before / (before + batch)));
      this.#examples.set(layer, before + batch);
    }
    layer.keep();
  }

  /** All is written in place, averages of nothing too: where a check has failed, no such kernel writes. */
  #averageLater(layer: LayerCurvature, { A, G, expandedG }: Factors, batch: number): void {
    const nothing = ({ shape, dtype, device }: Tensor) => zeros(shape, { dtype, device });
    if (layer.A === null || layer.G === null) {
      layer.setFactors({ A: nothing(A), G: nothing(G), expandedG: false });
      this.#examples.set(layer, nothing(diagonal(A).sum()).keep());
      // If a check refuses this batch, there is nothing yet, as before it.
      onFailure(A, () => {
        [layer.A, layer.G] = [null, null];
        this.#examples.delete(layer);
      });
    }
    const count = this.#examples.get(layer) as Tensor;
    const fresh = count.add(batch).reciprocal().mul(batch);
    const blend = (old: Tensor, now: Tensor) => old.add(now.sub(old).mul(fresh));
    layer.setFactors({ A: blend(layer.A!, A), G: blend(layer.G!, G), expandedG });
    count.copy_(count.add(batch));
  }

  *#addJointly(): Turns<void> {
    const communicator = new Line(this.#communicator);
    const layers = [...this.layers.values()];
    const width = 1 + COUNTS;
    const facts: Facts = [['the class', this.#name], ...factsOf(layers), ...this.#options];
    const borrowed: Tensor[] = [];
    this.#isOpen = true;
    try {
      const table = yield* told(this.#name, communicator, ALIKE + layers.length * width, () => {
        inOwnScope(() => {
          for (const layer of this.#seen()) this.#fresh(layer);
        });
        const ofLayers = layers.flatMap(({ statistics }) =>
          statistics?.isReached ? [1, ...countsOf(statistics)] : new Array<number>(width).fill(0),
        );
        return [...alikeOf(facts), ...ofLayers];
      });
      checkAlike(`${this.#name}.add`, facts, table, 0);
      const fresh: Fresh[] = [];
      inOwnScope(() => {
        for (const [i, layer] of layers.entries()) {
          const isSeen = agreed(column(table, ALIKE + i * width), (has, lacks) => this.#differing(layer, has, lacks));
          if (!isSeen) continue;
          const whole = new Whole(table, ALIKE + i * width + 1);
          const factors = whole.factors(layer.statistics!, this.#scaleOf(layer.statistics!));
          borrowed.push(factors.A, factors.G);
          fresh.push({ layer, factors, batch: whole.batch });
        }
      });
      yield communicator.sum(fresh.flatMap(({ factors: { A, G } }) => [A, G]));
      inOwnScope(() => this.#take(fresh));
      this.#labels.next();
    } finally {
      this.#isOpen = false;
      this.#isKept = communicator.isCut;
      if (!this.#isKept) for (const layer of layers) layer.dropStatistics();
      // What became an average is kept.
      for (const x of borrowed) x.storage.release();
    }
  }

  #dropKept(): void {
    if (!this.#isKept) return;
    this.#isKept = false;
    for (const layer of this.layers.values()) layer.dropStatistics();
  }

  #differing({ label }: LayerCurvature, has: number, lacks: number): Error {
    return new Error(
      `${this.#name}.add: a backward pass has reached ${label} in process ${has} and none in process ${lacks}: all processes ` +
        'add parts of the same batch',
    );
  }

  #checkNotOpen(what: string): void {
    if (this.#isOpen)
      throw new Error(`${this.#name}: ${what} while add() waits for other processes: await add() before it`);
  }

  /** The layers with statistics. Throws where there is none. */
  #seen(): LayerCurvature[] {
    const seen = [...this.layers.values()].filter(({ statistics }) => statistics?.isReached);
    if (seen.length === 0)
      throw new Error(
        `${this.#name}.add: no backward pass has reached a layer since the last call: call backward() before it`,
      );
    return seen;
  }

  #scaleOf({ ownBatch }: Statistics): number {
    return this.#isOfLoss ? gradientScale(ownBatch, this.#reduction) : 1;
  }

  #fresh(layer: LayerCurvature): Fresh {
    const statistics = layer.statistics!;
    const factors = statistics.factors(this.#scaleOf(statistics));
    if (factors === null || statistics.isOfNoExample)
      throw new RangeError(`${this.#name}.add: the batch of ${layer.label} is empty. Skip such batches`);
    return { layer, factors, batch: statistics.batch };
  }

  /** Averages them in, if all are finite. */
  #take(fresh: readonly Fresh[]): void {
    for (const { layer, factors } of fresh)
      for (const side of ['A', 'G'] as const)
        checkFactor(
          factors[side],
          (position, value) =>
            new RangeError(
              `${this.#name}.add: factor ${side} of ${layer.label} has ${value} at position ${position}; nothing was added`,
            ),
        );
    for (const { layer, factors, batch } of fresh) this.#average(layer, factors, batch);
  }

  /** A ⊗ G of one layer, of copies of the factors as they are; see `KroneckerOperator`. Throws as `factors` does. */
  operator(path: string): KroneckerOperator {
    const layer = this.#layer('operator', path);
    return KroneckerOperator.fromFactors(this.#factorsOf('operator', layer), { sizes: layer.sizes });
  }

  /**
   * Copies of the factors of one layer as they are: A [dIn, dIn] and G [dOut, dOut], or the mean eigenvalue, of rank 0, of a side
   * larger than `maxFactorDim`. Throws for a path that is none, and for one that has no factors yet, with the paths there are.
   */
  factors(path: string): OperatorFactors {
    const { A, G } = this.#factorsOf('factors', this.#layer('factors', path));
    return { A: copyOf(A), G: copyOf(G) };
  }

  #layer(method: string, path: string): LayerCurvature {
    const op = `${this.#name}.${method}`;
    checkArgument(op, 'path', path, aString);
    const layer = this.layers.get(path);
    if (layer === undefined) throw new Error(`${op}: no layer '${path}'; there are ${quoted(this.layers.keys())}`);
    return layer;
  }

  #factorsOf(method: string, { A, G, block }: LayerCurvature): OperatorFactors {
    if (A !== null && G !== null) return { A, G };
    const known = [...this.layers].filter(([, layer]) => layer.A !== null).map(([path]) => path);
    throw new Error(
      `${this.#name}.${method}: add() has brought nothing of '${block.path}' yet, ` +
        (known.length === 0
          ? `nor of ${quoted(this.layers.keys())}: call backward() and add() before it`
          : `only of ${quoted(known)}: did the loss depend on the layer?`),
    );
  }

  /** Removes the hooks from the model. The averages stay; `add` throws after it. */
  detach(...none: readonly never[]): void {
    checkNone(`${this.#name}.detach`, none, 'it is of the model that the estimate was made for');
    this.#checkNotOpen('detach()');
    this.#detached = true;
    this.#handle.remove();
    for (const layer of this.layers.values()) layer.dropStatistics();
  }

  /** The model, and of each layer path, sizes dOut × dIn, and examples so far unless they are read with await. */
  toString(): string {
    const rows = [...this.layers].map(([path, layer]) => {
      const examples = this.#examples.get(layer) ?? 0;
      return `  '${path}' ${layer.sizes.join(' × ')}${typeof examples === 'number' ? `, ${examples} examples` : ''}`;
    });
    return [`${this.#name} of ${nameOf(this.#model)}`, ...rows].join('\n');
  }

  /** As `toString`: `JSON.stringify` shows what there is and does not save it. */
  toJSON(): string {
    return this.toString();
  }

  [inspect](): string {
    return this.toString();
  }
}

const quoted = (paths: Iterable<string>): string => Array.from(paths, path => `'${path}'`).join(', ');
