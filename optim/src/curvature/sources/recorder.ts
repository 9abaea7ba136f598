/** Turns what backward passes bring of one layer into statistics. */

import { backwardPass, type Tensor } from '@otimes/core';
import { borrowGrad, onBackwardEnd } from '@otimes/core/extend';
import type { Kfe } from '../basis.ts';
import { namingMemory } from '../decompose/here.ts';
import { type Sample, Statistics, type Use } from '../factors.ts';
import type { LayerCurvature } from '../layer.ts';
import { inOwnScope } from '../own-scope.ts';
import { isAffineIn, type TurnedRows, type TurnedSink } from '../routes/affine.ts';
import { type Frame, isSameBasis } from '../routes/frame.ts';
import { Stopwatch } from '../stopwatch.ts';
import type { LayerSink, Need } from './activations.ts';
import type { FisherKind } from './fisher.ts';

/** What is wanted of the statistics of a layer. It is asked in forward and backward passes. */
export interface Demand<L extends LayerCurvature> {
  /** Whether its factors are wanted. */
  factors(layer: L): boolean;
  /** Whether the squares of its examples' gradients in a basis are wanted. */
  squares(layer: L): boolean;
  /** Whether rows that the layer turned itself serve for these: in a basis that stays until they are taken. */
  turnedSquares(layer: L): boolean;
  /** The basis in which the squares will be taken, where it is known. */
  basisAhead(layer: L): Kfe | null;
  /** Whether the number of examples is wanted, if nothing else is. */
  batch(layer: L): boolean;
  /** Before a pass adds to the statistics of a layer: for whoever has kept those of a batch that ended. */
  adds?(): void;
  /** Statistics of a pass begin, in one layer of perhaps many. */
  begins(pass: number): void;
}

/**
 * Makes `layer.statistics` of what `capture` hands to it in backward passes. Whoever takes them calls `layer.dropStatistics()`; a pass
 * before that is another part of the same batch, and one that throws leaves nothing.
 */
export class Recorder<L extends LayerCurvature> implements LayerSink, TurnedSink {
  readonly layer: L;
  readonly #demand: Demand<L>;
  readonly #watch: Stopwatch<'statistics'>;
  readonly #name: string;
  /** For messages. */
  readonly #where: string;
  /** By pass that is running, of the use that a gradient came to first. */
  readonly #outputs = new Map<number, Tensor>();

  /**
   * @param name whose recorder it is, for messages
   * @param watch adds up the time that it takes
   */
  constructor(
    name: string,
    layer: L,
    demand: Demand<L>,
    watch: Stopwatch<'statistics'> = new Stopwatch({ statistics: 0 }),
  ) {
    this.layer = layer;
    this.#demand = demand;
    this.#watch = watch;
    this.#name = name;
    this.#where = `${name}: ${layer.label}`;
  }

  get need(): Need {
    const { layer } = this;
    if (this.#demand.factors(layer) || this.#demand.squares(layer)) return 'samples';
    return this.#demand.batch(layer) ? 'batch' : 'nothing';
  }

  outnumbers(batch: number, outputs: number, fisher: FisherKind): void {
    // There the rows of the output are what is counted, and 'expand' takes positions for independent anyway.
    if (fisher !== 'empirical' && this.layer.sharing === 'expand') return;
    const wrong =
      fisher === 'empirical'
        ? `G and second moments of examples are too large, by ${batch / outputs} times if ${outputs} is the batch`
        : "sharing 'reduce' cannot join them";
    console.warn(
      `${this.#where} has ${batch} rows on its first axis, and the model's output has ${outputs}. The first axis is the batch, so each ` +
        `row counts as an example with a loss of its own. If they are positions of fewer examples, as after reshape(-1, features), ` +
        `${wrong}: give the layer [batch, positions, features]. If every row is an example, nothing is wrong`,
    );
  }

  /** Runs inside backward: turns activations into statistics, so that none outlives the pass needlessly. */
  record(use: Use, batch: number, sample: Sample | null, output: Tensor): void {
    this.#watch.time('statistics', () => this.#record(use, batch, sample, output));
  }

  expect(use: Use, batch: number): void {
    if (this.need === 'nothing') return;
    this.#watch.time('statistics', () => this.#begun(use).count(use, batch, this.#where, false));
  }

  #record(use: Use, batch: number, sample: Sample | null, output: Tensor): void {
    const statistics = this.#begun(use);
    if (!this.#outputs.has(use.pass)) this.#outputs.set(use.pass, output);
    if (sample === null) statistics.count(use, batch, this.#where);
    else {
      const keeps = this.#demand.squares(this.layer) && !this.#comesTurned(output);
      namingMemory(this.#name, this.layer.label, () => statistics.add(use, sample, this.#where, keeps));
    }
  }

  /** The statistics to which a use in a pass is to be added. */
  #begun(use: Use): Statistics {
    const { layer } = this;
    this.#demand.adds?.();
    // Gradients that were set to null were given up, and what was collected with them too. A pass that left none counts.
    const { isIdle = false, isReached = false } = layer.statistics ?? {};
    if (isIdle && isReached && layer.block.parameters.every(p => borrowGrad(p) === null)) layer.dropStatistics();
    layer.statistics ??= new Statistics({
      sharing: layer.sharing,
      sideA: layer.sideA,
      sideG: layer.sideG,
      wantsFactors: this.#demand.factors(layer),
      hasFurther: layer.block.further !== undefined,
    });
    const { statistics } = layer;
    if (statistics.begins(use)) {
      onBackwardEnd(completed => this.#passEnded(statistics, use.pass, completed));
      this.#demand.begins(use.pass);
    }
    return statistics;
  }

  /** Whether the rows of this output come by `takeTurned`, and serve. */
  #comesTurned(output: Tensor): boolean {
    const { kfe } = this.layer;
    return kfe !== null && isAffineIn(output, kfe) && this.#demand.turnedSquares(this.layer);
  }

  #passEnded(statistics: Statistics, pass: number, completed: boolean): void {
    const { layer } = this;
    const output = this.#outputs.get(pass);
    this.#outputs.delete(pass);
    const end = () => statistics.ended(pass, completed, this.#demand.basisAhead(layer));
    this.#watch.time('statistics', () => inOwnScope(() => namingMemory(this.#name, layer.label, end)));
    if (completed && output !== undefined) Object.assign(layer, layer.forwards.get(output));
    if (statistics.isEmpty && layer.statistics === statistics) layer.statistics = null;
  }

  /** Comes right after `record` saw the same rows in parameter coordinates. */
  takeTurned(frame: Frame, rows: () => TurnedRows): void {
    const pass = backwardPass();
    const { kfe, statistics } = this.layer;
    if (pass === 0 || statistics === null || kfe === null || !isSameBasis(frame, kfe)) return;
    if (!this.#demand.turnedSquares(this.layer)) return;
    const { inputs, grads } = rows();
    if (statistics.keepTurned(pass, inputs, grads, kfe)) return;
    for (const x of [inputs, grads]) x.storage.release();
  }
}
