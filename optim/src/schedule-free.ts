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
import { noteScaled, noteTrained, scaledBy, trainedBy } from './trained.ts';

export type ScheduleFreeWrapperOptions = {
  /** β: gradients are those at (1−β) z + β x, near the average; above 0 and below 1, default 0.9. */
  momentum?: number;
  /** Step t counts as tʳ in the average; default 0. */
  r?: number;
  /** It also counts as the largest rate so far to this power; default 2. */
  weightLrPower?: number;
};

const NAME = 'ScheduleFree';

/**
 * Makes an optimizer schedule-free. Its steps move z, x is the weighted average of z, and gradients are those at
 * y = (1−β) z + β x:
 *
 *     z ← z + Δ(y);   x ← (1−c) x + c z
 *
 * with Δ(y) what the optimizer adds to the weights y. It should have no momentum of its own, since β is one:
 *
 *     const optimizer = new ScheduleFree(new STEVE(model, { lr: 0.01, betas: [0, 0.999], route: 'gradient' }));
 *
 * (On the route 'resident' Kronecker optimizers keep weights in coordinates of their own; here they would go there and back in each step.)
 * The model has y while it is trained, and x, which is what is worth saving and measuring, between `eval()` and `train()`. A step in between
 * throws. A parameter without a gradient stays what it is, as in the authors' code. Running statistics of batch norm are those of y. Of `new AdamW(…, { betas: [0, β₂] })` it makes `ScheduleFreeAdamW`.
 */
export class ScheduleFree<O extends Optimizer = Optimizer> extends Optimizer {
  static readonly builtIn: string = NAME;
  /** What moves z. */
  readonly base: O;
  readonly #parameters: readonly Tensor[];
  readonly #options: Required<ScheduleFreeWrapperOptions>;
  /** z of each parameter, from its first step on. */
  #z: readonly (Tensor | null)[];
  /** y of the parameters with a z, while the model has x; null while it has y. */
  #y: readonly (Tensor | null)[] | null = null;
  #steps = 0;
  #largestLr = 0;
  #weightSum = 0;
  #isStepping = false;

  /** @param base has made no step, and makes none but through this; no LBFGS, no KBFGS, whose second pass is at its own weights, and nothing that is schedule-free */
  constructor(base: O, o: ScheduleFreeWrapperOptions = {}) {
    super();
    const parameters =
      base instanceof Optimizer && !('correct' in base || 'eval' in base) ? trainedBy(base) : undefined;
    if (parameters === undefined)
      throw new TypeError(
        `${NAME}: expected an optimizer of this library that steps once with the gradients that are there and has no average of its own, got ${received(base)}`,
      );
    checkOptions<ScheduleFreeWrapperOptions>(NAME, o, { momentum: aNumber, r: aNumber, weightLrPower: aNumber });
    const { momentum = 0.9, r = 0, weightLrPower = 2 } = o;
    checkRange(NAME, 'momentum', momentum, 0, 1);
    if (momentum === 0) throw new RangeError(`${NAME}: expected momentum above 0, got 0`);
    checkRange(NAME, 'r', r, 0, Infinity);
    checkRange(NAME, 'weightLrPower', weightLrPower, 0, Infinity);
    this.base = base;
    this.#options = { momentum, r, weightLrPower };
    this.#parameters = noteTrained(this, parameters);
    this.#z = this.#parameters.map(() => null);
    const scaled = scaledBy(base);
    if (scaled !== undefined) noteScaled(this, scaled);
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
    if (this.#y !== null)
      throw new Error(`${NAME}: the model has the averaged weights, since eval(); call train() before a step`);
    this.#checkIdle('step()');
    const next = this.#weighted();
    const before = this.#parameters.map(p =>
      p.requiresGrad && borrowGrad(p) !== null ? this.#outside(() => held(p.detach().clone())) : null,
    );
    let done: void | Promise<void>;
    try {
      done = this.base.step();
    } catch (error) {
      release(before);
      throw error;
    }
    if (!(done instanceof Promise)) {
      this.#average(before, next);
      return release(before);
    }
    this.#isStepping = true;
    return done
      .then(() => this.#average(before, next))
      .finally(() => {
        this.#isStepping = false;
        release(before);
      });
  }

  /** The numbers after the next step, and its part c of the average. */
  #weighted(): Weighted {
    const { r, weightLrPower } = this.#options;
    const steps = this.#steps + 1;
    const largestLr = Math.max(this.#largestLr, this.lr);
    const weight = steps ** r * largestLr ** weightLrPower;
    const weightSum = this.#weightSum + weight;
    if (!Number.isFinite(weightSum))
      throw new RangeError(
        `${NAME}: expected weights of the average with a finite sum, got step ${steps} to the power r ${r} times lr ${largestLr} to the power ` +
          `weightLrPower ${weightLrPower}; no parameter was changed`,
      );
    return { steps, largestLr, weightSum, c: weightSum === 0 ? 0 : weight / weightSum };
  }

  /** @param before y of each parameter that the step has moved */
  #average(before: readonly (Tensor | null)[], { c, ...next }: Weighted): void {
    // As in an optimizer that found no gradient, nothing is counted.
    if (before.every(y => y === null)) return;
    const { momentum } = this.#options;
    const old = [this.#steps, this.#largestLr, this.#weightSum, this.#z] as const;
    [this.#steps, this.#largestLr, this.#weightSum] = [next.steps, next.largestLr, next.weightSum];
    this.#outside(() => {
      // At first y = z = x.
      this.#z = this.#z.map((z, i) => z ?? before[i]?.clone().keep() ?? null);
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
      [this.#steps, this.#largestLr, this.#weightSum, this.#z] = old;
    });
  }

  /** Puts the averaged weights x into the model, to measure or save it. Nothing happens where they are there. */
  eval(...none: readonly never[]): void {
    if (none.length > 0) checkNone(`${NAME}.eval`, none, 'train() goes back');
    this.#checkIdle('eval()');
    if (this.#y !== null) return;
    this.#outside(() => {
      this.#y = this.#parameters.map((p, i) => (this.#z[i] === null ? null : p.detach().clone().keep()));
      const weight = 1 - 1 / this.#options.momentum;
      for (const [i, p] of this.#parameters.entries())
        if (this.#z[i] !== null) p.addScaled_(this.#z[i]!, weight, 1 - weight);
    });
    onFailure(this.#parameters[0]!, () => {
      this.#y = null;
    });
  }

  /** Puts the weights y, at which the gradient is taken, back into the model, bit for bit. */
  train(...none: readonly never[]): void {
    if (none.length > 0) checkNone(`${NAME}.train`, none, 'eval() is the other way');
    this.#checkIdle('train()');
    const y = this.#y;
    if (y === null) return;
    this.#outside(() => {
      for (const [i, p] of this.#parameters.entries()) if (y[i] !== null) p.copy_(y[i]!);
    });
    this.#y = null;
    release(y);
  }

  #checkIdle(what: string): void {
    if (this.#isStepping) throw new Error(`${NAME}: ${what} while a step waits; await it`);
  }

  #outside<R>(run: () => R): R {
    return unscoped(() => noGrad(() => scope(run)));
  }

  /** That of the optimizer within under `base.`, z of each parameter that has moved, and y while the model has x. */
  override stateDict(): StateDict {
    const state: StateDict = {
      momentum: scalar(this.#options.momentum),
      steps: scalar(this.#steps),
      largestLr: scalar(this.#largestLr),
      weightSum: scalar(this.#weightSum),
      averaged: scalar(Number(this.#y !== null)),
    };
    for (const [i, z] of this.#z.entries()) {
      state[`${i}.moved`] = scalar(Number(z !== null));
      if (z !== null) state[`${i}.z`] = z.clone();
      if (z !== null && this.#y !== null) state[`${i}.y`] = this.#y[i]!.clone();
    }
    for (const [name, value] of Object.entries(this.base.stateDict())) state[`base.${name}`] = value;
    return state;
  }

  /** Refuses a state of another momentum, too, which decides where y lies. */
  override loadStateDict(state: StateDict): void {
    this.#checkIdle('loadStateDict()');
    const reader = new StateReader(NAME, state);
    const momentum = reader.number('momentum');
    if (momentum !== this.#options.momentum)
      reader.problem(
        `does not fit: momentum expects that of this optimizer, ${this.#options.momentum}, got ${momentum}`,
      );
    const flag = (key: string): boolean => {
      const value = reader.count(key);
      if (value > 1) reader.problem(`does not fit: ${key} expects 0 or 1, got ${value}`);
      return value === 1;
    };
    const steps = reader.count('steps');
    const [largestLr, weightSum, averaged] = [reader.rate('largestLr'), reader.rate('weightSum'), flag('averaged')];
    const made: Tensor[] = [];
    const own = (key: string, p: Tensor): Tensor => {
      const x = reader.tensor(key, p).keep();
      made.push(x);
      return x;
    };
    const moved = this.#parameters.map((_, i) => flag(`${i}.moved`));
    const z = this.#parameters.map((p, i) => (moved[i] ? own(`${i}.z`, p) : null));
    const y = averaged ? this.#parameters.map((p, i) => (moved[i] ? own(`${i}.y`, p) : null)) : null;
    const base = reader.section('base.');
    try {
      reader.finish();
      this.base.loadStateDict(base);
    } catch (error) {
      release(made);
      throw error;
    }
    release([...this.#z, ...(this.#y ?? [])]);
    [this.#steps, this.#largestLr, this.#weightSum, this.#z, this.#y] = [steps, largestLr, weightSum, z, y];
  }

  override toString(): string {
    const { momentum, r, weightLrPower } = this.#options;
    const within = String(this.base).replaceAll('\n', '\n  ');
    return `${nameOf(this)}(momentum ${momentum}, r ${r}, weightLrPower ${weightLrPower})\n  ${within}`;
  }
}

/** After a step. */
type Weighted = { readonly steps: number; readonly largestLr: number; readonly weightSum: number; readonly c: number };

function release(tensors: readonly (Tensor | null)[]): void {
  for (const x of tensors) x?.storage.release();
}
