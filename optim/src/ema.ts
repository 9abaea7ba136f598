/** Averages of weights over a training run (Polyak & Juditsky 1992; the exponential ones of Tarvainen & Valpola 2017). */

import { noGrad, type StateDict, type Tensor, unscoped } from '@otimes/core';
import {
  aBoolean,
  aFunction,
  aNumber,
  checkArgument,
  checkNone,
  checkOptions,
  checkRange,
  inspect,
  onFailure,
} from '@otimes/core/extend';
import { checkParameters, listOf } from './check.ts';
import { StateReader, scalar } from './state-dict.ts';

export type EmaOptions = {
  /** How much of the average stays at an update; default 0.999. */
  decay?: number;
  /** Update t keeps no more than (1 + t) / (10 + t), so that the first weights are forgotten sooner; default false. */
  warmup?: boolean;
};

/**
 * avg ← decay · avg + (1 − decay) · p for each parameter, at each `update()`, which comes after the optimizer's step. The first update
 * copies the weights, as torch's AveragedModel does. Buffers, such as the statistics of batch norm, are the model's own.
 *
 *     const ema = new ExponentialMovingAverage(model.parameters());
 *     …  optimizer.step(); ema.update();
 *     ema.use(() => evaluate(model)); // the model has the averages within
 *
 * A checkpoint can hold it: it has `stateDict` and `loadStateDict`.
 */
export class ExponentialMovingAverage {
  static readonly builtIn: string = 'ExponentialMovingAverage';
  readonly #parameters: readonly Tensor[];
  readonly #averages: readonly Tensor[];
  readonly #decay: number;
  readonly #warmup: boolean;
  #updates = 0;
  #isShown = false;

  /** @param parameters those of a model: leaves that require a gradient */
  constructor(parameters: Iterable<Tensor>, o: EmaOptions = {}) {
    const name = 'ExponentialMovingAverage';
    checkOptions(name, o, { decay: aNumber, warmup: aBoolean });
    const { decay = 0.999, warmup = false } = o;
    checkRange(name, 'decay', decay, 0, 1);
    this.#parameters = listOf(name, parameters);
    checkParameters(name, this.#parameters);
    this.#averages = unscoped(() => this.#parameters.map(p => p.detach().clone().keep()));
    this.#decay = decay;
    this.#warmup = warmup;
  }

  /** How often `update` was called. */
  get updates(): number {
    return this.#updates;
  }

  /** Takes the weights of now into the average. Throws within `use`. */
  update(...none: readonly never[]): void {
    if (none.length > 0) checkNone('ExponentialMovingAverage.update', none, 'it knows the parameters');
    if (this.#isShown)
      throw new Error('ExponentialMovingAverage: update() within use(), where the model has the averages');
    const t = this.#updates;
    const decay = this.#warmup ? Math.min(this.#decay, (1 + t) / (10 + t)) : this.#decay;
    // Copied, and not added to 0 times what may not be finite.
    this.#eachPair((p, average) =>
      t === 0 ? average.copy_(p.detach()) : average.addScaled_(p.detach(), 1 - decay, decay),
    );
    this.#updates = t + 1;
    // After a check that failed nothing of this was written.
    onFailure(this.#parameters[0]!, () => {
      this.#updates = t;
    });
  }

  /** Copies the averages into the parameters. */
  copyTo(...none: readonly never[]): void {
    if (none.length > 0) checkNone('ExponentialMovingAverage.copyTo', none, 'it knows the parameters');
    if (this.#isShown)
      throw new Error('ExponentialMovingAverage: copyTo() within use(), where the model has the averages');
    this.#eachPair((p, average) => p.copy_(average));
  }

  /** Runs a function while the parameters have the averages, and gives them their own weights back, whatever it throws or rejects with. */
  use<R>(run: () => R): R {
    checkArgument('ExponentialMovingAverage.use', 'its argument', run, aFunction);
    if (this.#isShown) throw new Error('ExponentialMovingAverage: use() within use()');
    const swap = () => {
      this.#eachPair((p, average) => {
        const own = p.detach().clone();
        p.copy_(average);
        average.copy_(own);
        own.storage.release();
      });
      this.#isShown = !this.#isShown;
    };
    swap();
    let result: R;
    try {
      result = run();
    } catch (error) {
      swap();
      throw error;
    }
    if (result instanceof Promise) return result.finally(swap) as R;
    swap();
    return result;
  }

  #eachPair(see: (p: Tensor, average: Tensor, i: number) => void): void {
    unscoped(() =>
      noGrad(() => {
        for (const [i, p] of this.#parameters.entries()) see(p, this.#averages[i]!, i);
      }),
    );
  }

  /** The averages by the position of their parameters, and how many updates there were. */
  stateDict(): StateDict {
    const state: StateDict = { updates: scalar(this.#updates) };
    const shown = this.#isShown ? this.#parameters : this.#averages;
    for (const [i, x] of shown.entries()) state[`${i}`] = x.detach().clone();
    return state;
  }

  loadStateDict(state: StateDict): void {
    if (this.#isShown)
      throw new Error('ExponentialMovingAverage: loadStateDict() within use(), where the model has the averages');
    const reader = new StateReader('ExponentialMovingAverage', state);
    const updates = reader.count('updates');
    const loaded = this.#averages.map((x, i) => reader.tensor(`${i}`, x));
    reader.finish();
    this.#eachPair((_, average, i) => average.copy_(loaded[i]!));
    for (const x of loaded) x.storage.release();
    this.#updates = updates;
  }

  toString(): string {
    const numbers = this.#averages.reduce((sum, x) => sum + x.size, 0).toLocaleString('en');
    return `ExponentialMovingAverage(decay ${this.#decay}, ${numbers} numbers, ${this.#updates} updates)`;
  }

  [inspect](): string {
    return this.toString();
  }
}
