/**
 * MatrixOptimizer: the base of optimizers that update each weight of a model as a matrix, from its gradient and what they
 * remember of it. It finds the matrices, leaves all other parameters to the rest optimizer, and changes nothing before everything is
 * known to be sound.
 */

import { type StateDict, scope, type Tensor } from '@otimes/core';
import {
  aFunction,
  caughtUp,
  checkArgument,
  checkFinite,
  checkNone,
  checkRange,
  checkTrained,
  nameOf,
  onFailure,
  readsLater,
} from '@otimes/core/extend';
import type { AnyModule, Parameter } from '@otimes/nn';
import { checkKnown, checkLr, goneError, isHeld } from '../check.ts';
import { checkClaims, type Descriptions, describeClaims } from '../curvature/claims.ts';
import { defaultCollectors } from '../curvature/collector.ts';
import { weightMatrices } from '../curvature/matrix.ts';
import { checkModel, trainableOf } from '../curvature/model.ts';
import { inOwnScope } from '../curvature/own-scope.ts';
import { finiteMagnitude, foundIn, isOrdinary, isOrdinaryStep, magnitude, notFinite } from '../kronecker/finite.ts';
import { checkPaths, lrRatioOf, optionsAt } from '../kronecker/overrides.ts';
import { Rest } from '../kronecker/rest.ts';
import { Watchman } from '../kronecker/watchman.ts';
import { Optimizer } from '../optimizer.ts';
import { StateReader, scalar } from '../state-dict.ts';
import { noteTrained } from '../trained.ts';
import { checkedDirection, checkedWork, type Direction, type HostWork, type MatrixStep } from './direction.ts';
import { type Active, gradientOf, guarded, type Held, type Matrix, matrixOf, stepOf } from './matrices.ts';
import {
  checkDefaults,
  checkOverrides,
  MATRIX_OPTIONS,
  type MatrixDefaults,
  type MatrixOptions,
  slotShapes,
} from './options.ts';

/** A step that waits for what its matrices want of the host. */
type Open = {
  readonly active: readonly Active[];
  readonly works: readonly (HostWork | null)[];
  readonly reads: readonly Promise<readonly Tensor[]>[];
  readonly gradients: readonly Held[];
};

export abstract class MatrixOptimizer extends Optimizer {
  readonly #name: string;
  readonly #model: AnyModule;
  /** Of all trainable parameters. */
  readonly #paths: ReadonlyMap<Parameter, string>;
  readonly #trainable: readonly Parameter[];
  readonly #watchman: Watchman;
  readonly #rest: Rest;
  readonly #defaults: MatrixDefaults;
  readonly #weightDecay: number;
  /** Whether no code of the program computes updates. */
  readonly #isOurs: boolean;
  readonly #isBounded: boolean;
  #matrices: readonly Matrix[];
  #lr: number;
  /** Whether a step waits. */
  #isOpen = false;

  /**
   * Asks for `slotNames` before fields of the subclass are set. Options that it does not know are for the subclass to refuse.
   *
   * @throws if the model has no weight matrix, or all are skipped; if a member of the class or of `defaults` is missing
   */
  constructor(model: AnyModule, o: MatrixOptions, defaults: MatrixDefaults) {
    super();
    const name = nameOf(this);
    checkDefaults(name, defaults);
    checkArgument(name, 'its direction', this.direction, aFunction);
    checkArgument(name, 'its hostWork', this.hostWork, aFunction);
    const shapesOf = slotShapes(name, this, defaults);
    checkKnown<MatrixOptions>(name, o, MATRIX_OPTIONS);
    const {
      lr = defaults.lr,
      weightDecay = defaults.weightDecay ?? 0,
      overrides = {},
      collectors = defaultCollectors,
    } = o;
    checkModel(name, model);
    checkLr(name, lr);
    checkRange(name, 'weightDecay', weightDecay, 0, Infinity);
    this.#name = name;
    this.#model = model;
    this.#lr = lr;
    this.#defaults = defaults;
    this.#weightDecay = weightDecay;
    this.#isOurs = Object.hasOwn(this.constructor, 'builtIn');
    this.#isBounded = this.#isOurs && defaults.isBounded === true;
    this.#watchman = new Watchman(name, model);
    if (!model.parameters().some(p => p.requiresGrad))
      throw new Error(`${name}: expected at least one parameter, got none: the model has no weight matrix to train`);
    const paths = trainableOf(name, model);
    this.#paths = paths;
    this.#trainable = [...paths.keys()];
    noteTrained(this, this.#trainable);
    const all = weightMatrices(name, model, collectors);
    checkPaths(name, overrides, all);
    checkOverrides(name, overrides);
    const blocks = all.filter(({ path }) => !optionsAt(overrides, path).skip);
    if (blocks.length === 0)
      throw new Error(
        `${name}: ${all.length === 0 ? 'the model has no layer with a weight matrix that a collector knows' : 'overrides skip all matrices'}, ` +
          'so the rest optimizer would train everything: use that alone, AdamW say',
      );
    checkClaims(name, model, blocks);
    this.#matrices = blocks.map(block =>
      matrixOf(block, lrRatioOf(name, optionsAt(overrides, block.path).lr, lr), shapesOf),
    );
    const claimed = new Set(blocks.map(({ weight }) => weight));
    const unclaimed = this.#trainable.filter(p => !claimed.has(p));
    this.#rest = new Rest(unclaimed, { name, lr, paths, make: o.rest, byDefault: defaults.rest });
  }

  /**
   * The names of the tensors [rows, columns] that are kept of each matrix; zeros at first. Asked for once, and only where the third
   * argument of the constructor does not say `slots`.
   */
  protected abstract get slotNames(): readonly string[];

  /**
   * The update for a gradient g [rows, columns] whose norm is finite. It changes neither `g` nor the slots, which is an error and put
   * back, and reads nothing. `g` is lent, and what is made here and not returned is released: keep a `clone().keep()` of what outlives the call. A step throws, and
   * nothing has changed, unless all matrices have an update and slots like the old ones, of finite numbers.
   *
   * @param solved what `hostWork` of this step has computed, on the device of the weight; empty if there was none
   */
  protected abstract direction(
    g: Tensor,
    slots: readonly Tensor[],
    step: MatrixStep,
    solved: readonly Tensor[],
  ): Direction;

  /**
   * What the host has to compute for this step, before `direction` is asked with the same gradient and slots. Where values are read
   * with await, a step in which a matrix has some waits, and returns a promise. It changes nothing and reads nothing itself. Null is none,
   * as here.
   */
  protected hostWork(_g: Tensor, _slots: readonly Tensor[], _step: MatrixStep): HostWork | null {
    return null;
  }

  override get lr(): number {
    return this.#lr;
  }

  /** Sets the rest optimizer's learning rate too, in the proportion it had at the start, or with the first lr above 0. */
  override set lr(lr: number) {
    checkLr(this.#name, lr);
    this.#checkNoStepOpen('setting lr');
    this.#lr = lr;
    this.#rest.lr = lr;
  }

  get weightDecay(): number {
    return this.#weightDecay;
  }

  /**
   * Matrices and parameters without a gradient stay as they are. For a gradient that is not finite it throws a RangeError, and
   * nothing has changed, and so for weights that a learning rate or an update takes out of their range; on a device that is read with
   * await nothing is written, and the next read rejects with it.
   *
   * Such a device computes no decompositions: a step that needs one waits for the host and returns a promise. Until that is settled,
   * `step` and what else concerns the optimizer throw. If gradients change it is rejected, and all is as if it had not been called.
   */
  override step(...none: readonly never[]): void | Promise<void> {
    checkNone(`${this.#name}.step`, none, 'call loss.backward() before it');
    this.#checkNoStepOpen('step()');
    this.#watchman.check();
    checkTrained(this, this.#trainable);
    const open = this.#begin();
    return open === null ? caughtUp(this.#trainable[0]!) : this.#end(open);
  }

  /** The step, or what it waits for. */
  #begin(): Open | null {
    const waits: Open[] = [];
    inOwnScope(() => {
      const active = this.#active();
      const works = active.map(one => (readsLater(one.g) ? this.#workOf(one) : null));
      if (works.every(work => work === null))
        return this.#finish(
          active,
          active.map(one => () => this.#solved(one)),
        );
      const reads = works.map(work => Promise.all((work?.reads ?? []).map(x => x.cpu())));
      waits.push({ active, works, reads, gradients: this.#trainable.map(gradientOf) });
    });
    return waits[0] ?? null;
  }

  /** Waits for the host's part, and does the rest of the step. */
  async #end({ active, works, reads, gradients }: Open): Promise<void> {
    this.#isOpen = true;
    try {
      const found = await Promise.all(reads);
      for (const [i, p] of this.#trainable.entries()) {
        const [gradient, version] = gradientOf(p);
        if (gradient === gradients[i]![0] && version === gradients[i]![1]) continue;
        throw new Error(
          `${this.#name}: gradients changed while a step was waiting: await step() before; no parameter was changed. The first ` +
            `of them is that of '${this.#paths.get(p)}'`,
        );
      }
      inOwnScope(() => {
        // Another read may have been told of a check that failed: then nothing is written after this one.
        const again = this.#active();
        const solvers = active.map(
          ({ g }, i) =>
            () =>
              (works[i]?.solve(found[i]!) ?? []).map(x => x.to(g.device)),
        );
        this.#finish(again, solvers);
      });
      for (const x of found.flat()) x.storage.release();
    } finally {
      this.#isOpen = false;
    }
  }

  /** The matrices that have a gradient. Throws for a gradient that no step can take. */
  #active(): Active[] {
    const active = this.#matrices.flatMap(matrix => {
      const g = matrix.block.weight.requiresGrad ? matrix.block.gradient() : null;
      return g === null ? [] : [{ matrix, g }];
    });
    for (const { matrix, g } of active) {
      const where = `'${matrix.block.path}'`;
      if (!isHeld(matrix.block.weight)) throw goneError(this.#name, where, matrix.block.weight);
      const norm = g.norm();
      if (!readsLater(norm) && Number.isFinite(norm.item())) continue;
      checkFinite(g, foundIn(this.#name, 'gradient', where));
      // Over an infinite norm a matrix would be 0.
      checkFinite(norm, () => notFinite(this.#name, 'norm of the gradient', where));
    }
    this.#rest.check();
    return active;
  }

  #workOf({ matrix, g }: Active): HostWork | null {
    return checkedWork(this.#name, matrix.block.path, this.hostWork(g, matrix.slots, stepOf(matrix)));
  }

  /** What the host computes for a matrix whose values are there at once. */
  #solved(one: Active): readonly Tensor[] {
    const work = readsLater(one.g) ? null : this.#workOf(one);
    return work === null ? [] : work.solve(work.reads.map(x => x.to('cpu'))).map(x => x.to(one.g.device));
  }

  /** All updates, and only then parameters change. What throws leaves them as they were. */
  #finish(active: readonly Active[], solvers: readonly (() => readonly Tensor[])[]): void {
    const plans = active.map((one, i) => {
      const asked = () => scope(() => this.#asked(one, solvers[i]!));
      const { update, slots } = this.#isOurs ? asked() : guarded(this.#name, one, asked);
      return { matrix: one.matrix, update, slots, result: update && this.#extreme(one.matrix, update) };
    });
    this.#rest.step(this.#defaults.restGain, null);
    for (const { matrix, update, slots, result } of plans) {
      slots.forEach((value, i) => {
        if (value !== matrix.slots[i]) matrix.slots[i]!.copy_(value);
      });
      if (result !== null) matrix.block.weight.copy_(result);
      else if (update !== null) this.#apply(matrix, update);
      const { steps } = matrix;
      matrix.steps++;
      // After a check that fails later nothing of this was written.
      onFailure(matrix.block.weight, () => {
        matrix.steps = steps;
      });
    }
  }

  /** What `direction` says, checked. */
  #asked(one: Active, solve: () => readonly Tensor[]): Direction {
    const { g, matrix } = one;
    const { block, slots, names } = matrix;
    return checkedDirection(this.direction(g, slots, stepOf(one.matrix), solve()), {
      ...{ name: this.#name, path: block.path, slots, slotNames: names, isFinite: !this.#isBounded },
      weight: { shape: [block.dOut, block.dIn], dtype: g.dtype, device: g.device },
    });
  }

  /** The weight after a step that may leave its range, made and checked before anything is written; null for an ordinary step. */
  #extreme(matrix: Matrix, update: Tensor): Tensor | null {
    const { block, lrRatio } = matrix;
    const lr = this.#lr * lrRatio;
    const keep = 1 - lr * this.#weightDecay;
    // What comes later tells no size, and updates of the library's own are far below.
    const size = this.#isBounded ? 1 : readsLater(update) ? Infinity : magnitude(update);
    if (lr === 0 || (isOrdinary(size) && isOrdinaryStep(1, lr, keep))) return null;
    const result = block.weight.detach().clone();
    this.#apply(matrix, update, result);
    finiteMagnitude(result, foundIn(this.#name, 'update of the weights', `'${block.path}'`));
    return result;
  }

  /** Weight ← (1 − lr · weightDecay) weight − lr · update, or that order; `weight` may be a copy of the matrix's own. */
  #apply({ block, lrRatio }: Matrix, update: Tensor, weight: Tensor = block.weight): void {
    const lr = this.#lr * lrRatio;
    const keep = 1 - lr * this.#weightDecay;
    // With a learning rate of 0 the weights are what they were, to the last bit.
    if (lr === 0) return;
    const last = this.#defaults.decaysLast === true;
    if (keep !== 1 && !last) weight.scale_(keep);
    weight.addScaled_(update.reshape(weight.shape), -lr);
    if (keep !== 1 && last) weight.scale_(keep);
  }

  override zeroGrad(...none: readonly never[]): void {
    checkNone(`${this.#name}.zeroGrad`, none, 'gradients become null');
    this.#checkNoStepOpen('zeroGrad()');
    for (const p of this.#trainable) p.grad = null;
    this.#watchman.zeroGrad();
  }

  /** Throws while a step waits. */
  #checkNoStepOpen(what: string): void {
    if (this.#isOpen)
      throw new Error(`${this.#name}: ${what} while a step waits for values from the device: await step() before it`);
  }

  /** Every parameter that requires a gradient: the matrices, and the others under 'rest'. */
  describe(): Descriptions {
    const rows = this.#matrices.map(({ block: { path, collector, dOut, dIn } }) => {
      const structure = this.#defaults.structure?.(dOut, dIn) ?? null;
      const identity = (['A', 'G'] as const).filter(side => structure?.[side] === 'identity');
      return {
        path,
        collector,
        shape: [dOut, dIn],
        sharing: null,
        parameters: [path],
        route: null,
        identity,
        structure,
      };
    });
    return describeClaims(rows, this.#rest.parameters, this.#paths);
  }

  /** `lr`, `rest.…`, and for each matrix its slots as `matrices.PATH.m`, and `matrices.PATH.step` where steps count. */
  override stateDict(): StateDict {
    const state: StateDict = { lr: scalar(this.#lr) };
    for (const [key, value] of Object.entries(this.#rest.optimizer?.stateDict() ?? {})) state[`rest.${key}`] = value;
    for (const { block, names, slots, steps } of this.#matrices) {
      if (this.#defaults.counts) state[`matrices.${block.path}.step`] = scalar(steps);
      names.forEach((slot, i) => {
        state[`matrices.${block.path}.${slot}`] = slots[i]!.clone();
      });
    }
    return state;
  }

  override loadStateDict(state: StateDict): void {
    this.#checkNoStepOpen('loadStateDict()');
    const reader = new StateReader(this.#name, state);
    const lr = reader.rate('lr');
    const least = (slot: string) => (this.#defaults.squares?.includes(slot) ? 0 : -Infinity);
    const matrices = this.#matrices.map(({ block, lrRatio, names, slots }) => ({
      ...{ block, lrRatio, names },
      steps: this.#defaults.counts ? reader.count(`matrices.${block.path}.step`) : 0,
      slots: names.map((slot, i) => reader.tensor(`matrices.${block.path}.${slot}`, slots[i]!, least(slot))),
    }));
    const ofRest = reader.section('rest.');
    if (this.#rest.optimizer === null && Object.keys(ofRest).length > 0)
      reader.problem('unexpected: rest.…, no parameter is unclaimed');
    reader.finish();
    // The last thing that may fail: then nothing has been taken over yet.
    this.#rest.optimizer?.loadStateDict(ofRest);
    this.#rest.loaded(lr);
    this.#lr = lr;
    this.#matrices = matrices;
  }

  /** Name, rates, and a line for each matrix and parameter. */
  override toString(): string {
    const decay = this.#weightDecay === 0 ? '' : `, weightDecay ${this.#weightDecay}`;
    return `${this.#name}(lr ${this.#lr}${decay}) of ${nameOf(this.#model)}\n${this.describe()}`;
  }
}
