/** Averages in the place of a schedule for any optimizer (Defazio et al. 2024, "The Road Less Scheduled", Eq. 4 to 6). */

import { noGrad, type StateDict, scope, type Tensor, unscoped } from '@otimes/core';
import {
  aNumber,
  borrowGrad,
  checkNone,
  checkOptions,
  checkRange,
  held,
  nameOf,
  onFailure,
  received,
} from '@otimes/core/extend';
import { Optimizer } from './optimizer.ts';
import { StateReader, scalar } from './state-dict.ts';
import { noteTrained, trainedBy } from './trained.ts';

export type ScheduleFreeWrapperOptions = {
  /** β: gradients are those at (1−β) z + β x, near the average; above 0 and at most 1, default 0.9. */
  momentum?: number;
  /** Step t counts as tʳ in the average; default 0. */
  r?: number;
  /** It also counts as the largest rate so far to this power; default 2. */
  weightLrPower?: number;
};

const NAME = 'ScheduleFree';

/**
 * Makes any optimizer schedule-free. Its steps move z, x is the weighted average of z, and gradients are those at
 * y = (1−β) z + β x:
 *
 *     z ← z + Δ(y);   x ← (1−c) x + c z
 *
 * with Δ(y) what the optimizer adds to the weights y. It should have no momentum of its own, since β is one:
 *
 *     const optimizer = new ScheduleFree(new STEVE(model, { lr: 0.01, betas: [0, 0.999], route: 'gradient' }));
 *
 * (Kronecker optimizers on the route 'basis' keep weights in coordinates of their own; here they would go there and back in each step.)
 * The model has y while it is trained, and x, which is what is worth saving and measuring, between `eval()` and `train()`. A step in between
 * throws. Running statistics of batch norm are those of y. Of `new AdamW(…, { betas: [0, β₂] })` it makes `ScheduleFreeAdamW`.
 */
export class ScheduleFree<O extends Optimizer = Optimizer> extends Optimizer {
  static readonly builtIn: string = NAME;
  /** What moves z. */
  readonly base: O;
  readonly #parameters: readonly Tensor[];
  readonly #options: Required<ScheduleFreeWrapperOptions>;
  /** z of each parameter, from the first step on. */
  #z: readonly Tensor[] | null = null;
  #steps = 0;
  #largestLr = 0;
  #weightSum = 0;
  #averaged = false;
  #isStepping = false;

  /** @param base an optimizer of this library that has made no step under another one */
  constructor(base: O, o: ScheduleFreeWrapperOptions = {}) {
    super();
    const parameters = base instanceof Optimizer ? trainedBy(base) : undefined;
    if (parameters === undefined)
      throw new TypeError(`${NAME}: expected an optimizer of this library, got ${received(base)}`);
    checkOptions<ScheduleFreeWrapperOptions>(NAME, o, { momentum: aNumber, r: aNumber, weightLrPower: aNumber });
    const { momentum = 0.9, r = 0, weightLrPower = 2 } = o;
    checkRange(NAME, 'momentum', momentum, 0, 1);
    if (momentum === 0) throw new RangeError(`${NAME}: expected momentum above 0, got 0`);
    checkRange(NAME, 'r', r, 0, Infinity);
    checkRange(NAME, 'weightLrPower', weightLrPower, 0, Infinity);
    this.base = base;
    this.#options = { momentum, r, weightLrPower };
    this.#parameters = noteTrained(this, parameters);
  }

  override get lr(): number {
    return this.base.lr;
  }

  override set lr(lr: number) {
    this.base.lr = lr;
  }

  override zeroGrad(...none: readonly never[]): void {
    if (none.length > 0) checkNone(`${NAME}.zeroGrad`, none, 'gradients become null');
    this.base.zeroGrad();
  }

  /** A step of the optimizer within. What that throws leaves everything as it was. */
  override step(...none: readonly never[]): void | Promise<void> {
    if (none.length > 0) checkNone(`${NAME}.step`, none, 'call loss.backward() before it');
    if (this.#averaged)
      throw new Error(`${NAME}: the model has the averaged weights, since eval(); call train() before a step`);
    if (this.#isStepping) throw new Error(`${NAME}: step() while a step waits; await it`);
    const before = this.#parameters.map(p =>
      p.requiresGrad && borrowGrad(p) !== null ? this.#outside(() => held(p.detach().clone())) : null,
    );
    const release = () => {
      for (const y of before) y?.storage.release();
    };
    let done: void | Promise<void>;
    try {
      done = this.base.step();
    } catch (error) {
      release();
      throw error;
    }
    if (!(done instanceof Promise)) {
      this.#average(before);
      return release();
    }
    this.#isStepping = true;
    return done
      .then(() => this.#average(before))
      .finally(() => {
        this.#isStepping = false;
        release();
      });
  }

  /** @param before y of each parameter that the step has moved */
  #average(before: readonly (Tensor | null)[]): void {
    const { momentum, r, weightLrPower } = this.#options;
    const [steps, largestLr, weightSum, z] = [this.#steps, this.#largestLr, this.#weightSum, this.#z];
    this.#steps++;
    this.#largestLr = Math.max(largestLr, this.lr);
    const weight = this.#steps ** r * this.#largestLr ** weightLrPower;
    this.#weightSum += weight;
    const c = this.#weightSum === 0 ? 0 : weight / this.#weightSum;
    this.#outside(() => {
      // At first y = z = x.
      this.#z ??= this.#parameters.map((p, i) => (before[i] ?? p.detach()).clone().keep());
      for (const [i, y] of before.entries()) {
        if (y === null) continue;
        const [p, z] = [this.#parameters[i]!, this.#z[i]!];
        // y = (1−β) z + β x of the new z and x, from the old ones and Δ.
        const moved = p.detach().sub(y);
        p.addScaled_(z, c, 1 - c);
        p.addScaled_(moved, c - momentum * (1 - c));
        z.addScaled_(moved, 1);
      }
    });
    // After a check that failed later nothing of this was written.
    onFailure(this.#parameters[0]!, () => {
      this.#steps = steps;
      this.#largestLr = largestLr;
      this.#weightSum = weightSum;
      if (z === null) this.#z = null;
    });
  }

  /** Puts the averaged weights x into the model, to measure or save it. Nothing happens where they are there. */
  eval(...none: readonly never[]): void {
    if (none.length > 0) checkNone(`${NAME}.eval`, none, 'train() goes back');
    this.#show(true, 1 - 1 / this.#options.momentum);
  }

  /** Puts the weights y, at which the gradient is taken, back into the model. */
  train(...none: readonly never[]): void {
    if (none.length > 0) checkNone(`${NAME}.train`, none, 'eval() is the other way');
    this.#show(false, 1 - this.#options.momentum);
  }

  /** p ← p + weight (z − p) where the model has the other ones. */
  #show(averaged: boolean, weight: number): void {
    if (this.#isStepping) throw new Error(`${NAME}: eval() or train() while a step waits; await it`);
    if (this.#averaged === averaged || this.#z === null) return;
    this.#averaged = averaged;
    this.#outside(() => {
      for (const [i, p] of this.#parameters.entries()) p.addScaled_(this.#z![i]!, weight, 1 - weight);
    });
    onFailure(this.#parameters[0]!, () => {
      this.#averaged = !averaged;
    });
  }

  #outside<R>(run: () => R): R {
    return unscoped(() => noGrad(() => scope(run)));
  }

  override stateDict(): StateDict {
    const state: StateDict = {
      steps: scalar(this.#steps),
      largestLr: scalar(this.#largestLr),
      weightSum: scalar(this.#weightSum),
      averaged: scalar(Number(this.#averaged)),
    };
    for (const [i, z] of (this.#z ?? []).entries()) state[`z.${i}`] = z.clone();
    for (const [name, value] of Object.entries(this.base.stateDict())) state[`base.${name}`] = value;
    return state;
  }

  override loadStateDict(state: StateDict): void {
    if (this.#isStepping) throw new Error(`${NAME}: loadStateDict() while a step waits; await it`);
    const own = new StateReader(NAME, state);
    const steps = own.count('steps');
    const [largestLr, weightSum, averaged] = [own.rate('largestLr'), own.rate('weightSum'), own.count('averaged')];
    const z = steps === 0 ? null : this.#parameters.map((p, i) => own.tensor(`z.${i}`, p).keep());
    const base = own.section('base.');
    if (averaged > 1) own.problem(`does not fit: averaged expects 0 or 1, got ${averaged}`);
    try {
      own.finish();
      this.base.loadStateDict(base);
    } catch (error) {
      for (const x of z ?? []) x.storage.release();
      throw error;
    }
    for (const x of this.#z ?? []) x.storage.release();
    this.#z = z;
    this.#steps = steps;
    this.#largestLr = largestLr;
    this.#weightSum = weightSum;
    this.#averaged = averaged === 1;
  }

  override toString(): string {
    return `${nameOf(this)}(momentum ${this.#options.momentum})\n  ${String(this.base).replaceAll('\n', '\n  ')}`;
  }
}
