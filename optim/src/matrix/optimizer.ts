/**
 * MatrixOptimizer: the base of optimizers that update each weight of a model as a matrix, from its gradient and what they
 * remember of it. It finds the matrices, leaves all other parameters to the rest optimizer, and changes nothing before everything is
 * known to be sound.
 */

import { type StateDict, scope, Tensor, unscoped, zeros } from '@otimes/core';
import {
  aBoolean,
  aFunction,
  aNumber,
  caughtUp,
  checkArgument,
  checkFinite,
  checkNone,
  checkOptions,
  checkRange,
  checkTrained,
  dropPromise,
  nameOf,
  type OptionKinds,
  readsLater,
  received,
  versionOf,
} from '@otimes/core/extend';
import type { AnyModule, Parameter } from '@otimes/nn';
import { aRate, checkKnown, checkLr, checkMembers, checkNames, goneError, isHeld } from '../check.ts';
import { checkClaims, type Descriptions, describeClaims } from '../curvature/claims.ts';
import { type Collector, defaultCollectors } from '../curvature/collector.ts';
import { type WeightMatrix, weightMatrices } from '../curvature/matrix.ts';
import { checkModel, trainableOf } from '../curvature/model.ts';
import { inOwnScope } from '../curvature/own-scope.ts';
import { finiteMagnitude, foundIn, isOrdinary, isOrdinaryStep, magnitude, notFinite } from '../kronecker/finite.ts';
import { KRONECKER_OPTIONS } from '../kronecker/options.ts';
import { checkPaths, lrRatioOf, type Overrides, optionsAt } from '../kronecker/overrides.ts';
import { Rest } from '../kronecker/rest.ts';
import { Watchman } from '../kronecker/watchman.ts';
import { Optimizer } from '../optimizer.ts';
import { StateReader, scalar } from '../state-dict.ts';
import { noteTrained } from '../trained.ts';

/** What a user may set for some matrices alone. */
export type MatrixOverride = {
  /** In the place of the optimizer's, and in proportion to it where a schedule changes that. */
  lr?: number;
  /** Leaves the parameters to the rest optimizer. */
  skip?: boolean;
};

/** Options that all matrix optimizers share. */
export type MatrixOptions = {
  /** Learning rate. */
  lr?: number;
  /** Decoupled: matrices shrink by lr · weightDecay a step. Default 0. */
  weightDecay?: number;
  /** Options of matrices, by the path of a module or of a parameter; the longest path that fits counts. Undefined is none. */
  overrides?: Overrides<MatrixOverride>;
  /** Which layers have a weight matrix. Default `defaultCollectors`: Linear, convolutions, recurrent layers, and the projections of MultiHeadAttention. */
  collectors?: readonly Collector[];
  /** The optimizer of all other parameters: biases, normalisation, embeddings, and what `overrides` skip. */
  rest?: (unclaimed: Parameter[]) => Optimizer;
};

/** What a step does with one matrix: nothing of it has happened yet. */
export type Direction = {
  /** [rows, columns]: W ← (1 − lr · weightDecay) W − lr · update. */
  readonly update: Tensor;
  /** What takes the place of the slots, in the order of `slotNames`. */
  readonly slots: readonly Tensor[];
};

const OVERRIDE: OptionKinds<MatrixOverride> = { lr: aNumber, skip: aBoolean };

const { lr, weightDecay, overrides, collectors, rest } = KRONECKER_OPTIONS;
/**
 * What each option of `MatrixOptions` must be, for the table of an optimizer that has these and its own, as `KRONECKER_OPTIONS`. The base
 * checks these again, and their ranges.
 */
export const MATRIX_OPTIONS: OptionKinds<MatrixOptions> = { lr, weightDecay, overrides, collectors, rest };

/** What a matrix optimizer hands to the base beside model and options. */
export type MatrixDefaults = {
  /** Default learning rate. */
  readonly lr: number;
  /** Makes the default optimizer of all other parameters. */
  readonly rest: (unclaimed: Parameter[]) => Optimizer;
  /** By how much a step of that may exceed lr times the largest of the gradient, 1/ε of Adam; Infinity where nobody knows. */
  readonly restGain: number;
};

const DEFAULTS: OptionKinds<MatrixDefaults> = {
  lr: aRate,
  rest: aFunction,
  restGain: { expected: 'a number ≥ 0 or Infinity', is: v => typeof v === 'number' && v >= 0 },
};

type Matrix = { readonly block: WeightMatrix; readonly lrRatio: number; readonly slots: readonly Tensor[] };

export abstract class MatrixOptimizer extends Optimizer {
  readonly #name: string;
  readonly #model: AnyModule;
  /** Of all trainable parameters. */
  readonly #paths: ReadonlyMap<Parameter, string>;
  readonly #trainable: readonly Parameter[];
  readonly #watchman: Watchman;
  readonly #rest: Rest;
  readonly #restGain: number;
  readonly #weightDecay: number;
  /** Whether no code of the program computes updates. */
  readonly #isOurs: boolean;
  readonly #slotNames: readonly string[];
  #matrices: readonly Matrix[];
  #lr: number;

  /**
   * Asks for `slotNames` before fields of the subclass are set. Options that it does not know are for the subclass to refuse.
   *
   * @throws if the model has no weight matrix, or all are skipped; if a member of the class or of `defaults` is missing
   */
  constructor(model: AnyModule, o: MatrixOptions, defaults: MatrixDefaults) {
    super();
    const name = nameOf(this);
    checkMembers(name, 'the third argument of MatrixOptimizer', defaults, DEFAULTS);
    checkArgument(name, 'its direction', this.direction, aFunction);
    this.#slotNames = checkNames(name, 'its slotNames', slotNamesOf(name, Reflect.get(this, 'slotNames')), []);
    checkKnown<MatrixOptions>(name, o, MATRIX_OPTIONS);
    const { lr = defaults.lr, weightDecay = 0, overrides = {}, collectors = defaultCollectors } = o;
    checkModel(name, model);
    checkLr(name, lr);
    checkRange(name, 'weightDecay', weightDecay, 0, Infinity);
    this.#name = name;
    this.#model = model;
    this.#lr = lr;
    this.#restGain = defaults.restGain;
    this.#weightDecay = weightDecay;
    this.#isOurs = Object.hasOwn(this.constructor, 'builtIn');
    this.#watchman = new Watchman(name, model);
    if (!model.parameters().some(p => p.requiresGrad))
      throw new Error(`${name}: expected at least one parameter, got none: the model has no weight matrix to train`);
    const paths = trainableOf(name, model);
    this.#paths = paths;
    this.#trainable = [...paths.keys()];
    noteTrained(this, this.#trainable);
    const all = weightMatrices(name, model, collectors);
    checkPaths(name, overrides, all);
    for (const [path, own] of Object.entries(overrides)) {
      const where = `${name}: overrides['${path}']`;
      checkOptions<MatrixOverride>(where, own, OVERRIDE);
      if (own?.lr !== undefined) checkLr(where, own.lr);
    }
    const blocks = all.filter(({ path }) => !optionsAt(overrides, path).skip);
    if (blocks.length === 0)
      throw new Error(
        `${name}: ${all.length === 0 ? 'the model has no layer with a weight matrix that a collector knows' : 'overrides skip all matrices'}, ` +
          'so the rest optimizer would train everything: use that alone, AdamW say',
      );
    checkClaims(name, model, blocks);
    this.#matrices = blocks.map(block => {
      const { dtype, device } = block.weight;
      const slots = this.#slotNames.map(() => unscoped(() => zeros([block.dOut, block.dIn], { dtype, device })));
      return { block, lrRatio: lrRatioOf(name, optionsAt(overrides, block.path).lr, lr), slots };
    });
    const claimed = new Set(blocks.map(({ weight }) => weight));
    const unclaimed = this.#trainable.filter(p => !claimed.has(p));
    this.#rest = new Rest(unclaimed, { name, lr, paths, make: o.rest, byDefault: defaults.rest });
  }

  /** The names of the tensors [rows, columns] that are kept of each matrix; zeros at first. Asked for once. */
  protected abstract get slotNames(): readonly string[];

  /**
   * The update for a gradient g [rows, columns] whose norm is finite. It changes neither `g` nor the slots, which is an error and put
   * back, and reads nothing. `g` is lent, and what is made here and not returned is released: keep a `clone().keep()` of what outlives the call. A step throws, and
   * nothing has changed, unless all matrices have an update and slots like the weight, as matrices of finite numbers.
   */
  protected abstract direction(g: Tensor, slots: readonly Tensor[]): Direction;

  override get lr(): number {
    return this.#lr;
  }

  /** Sets the rest optimizer's learning rate too, in the proportion it had at the start. */
  override set lr(lr: number) {
    checkLr(this.#name, lr);
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
   */
  override step(...none: readonly never[]): void | Promise<void> {
    checkNone(`${this.#name}.step`, none, 'call loss.backward() before it');
    this.#watchman.check();
    checkTrained(this, this.#trainable);
    inOwnScope(() => {
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
      const plans = active.map(({ matrix, g }) => {
        const { update, slots } = this.#isOurs
          ? scope(() => this.#checked(this.direction(g, matrix.slots), matrix))
          : this.#directionOf(matrix, g);
        return { matrix, update, slots, result: this.#extreme(matrix, update) };
      });
      this.#rest.step(this.#restGain, null);
      for (const { matrix, update, slots, result } of plans) {
        slots.forEach((value, i) => {
          matrix.slots[i]!.copy_(value);
        });
        if (result === null) this.#apply(matrix, update);
        else matrix.block.weight.copy_(result);
      }
    });
    return caughtUp(this.#trainable[0]!);
  }

  /** What the program's own `direction` says. Whatever it wrote to is put back, and is an error. */
  #directionOf(matrix: Matrix, g: Tensor): Direction {
    const { path } = matrix.block;
    const lent = [{ what: 'g', x: g }, ...matrix.slots.map((x, i) => ({ what: `slot '${this.#slotNames[i]}'`, x }))];
    const before = lent.map(({ what, x }) => ({ what, x, version: versionOf(x), copy: x.clone() }));
    const restored = () => {
      const written = before.filter(({ x, version }) => versionOf(x) !== version);
      for (const { x, copy } of written) x.copy_(copy);
      return written.map(({ what }) => what);
    };
    try {
      const found = scope(() => this.#checked(this.direction(g, matrix.slots), matrix));
      const written = restored();
      if (written.length === 0) return found;
      throw new Error(
        `${this.#name}: expected direction() of '${path}' to write to neither g nor slots, and it wrote to ` +
          `${written.join(', ')}: return what takes the place of the slots; no parameter was changed`,
      );
    } catch (error) {
      restored();
      throw error;
    }
  }

  /** What `direction` returned for a matrix, if it is what the class says and a step can take it. */
  #checked(answer: unknown, { block: { path, weight, dOut, dIn } }: Matrix): Direction {
    const name = this.#name;
    const { length } = this.#slotNames;
    const isLike = (x: unknown): x is Tensor =>
      x instanceof Tensor &&
      x.rank === 2 &&
      x.shape[0] === dOut &&
      x.shape[1] === dIn &&
      x.dtype === weight.dtype &&
      x.device === weight.device;
    if (
      !isDirection(answer) ||
      !isLike(answer.update) ||
      answer.slots.length !== length ||
      !answer.slots.every(isLike)
    ) {
      dropPromise(answer);
      throw new TypeError(
        `${name}: expected direction() of '${path}' to return { update, slots } with an update and ${length} slots, each ` +
          `${weight.dtype}[${dOut},${dIn}] on '${weight.device}', got ${shown(answer)}; no parameter was changed`,
      );
    }
    if (!this.#isOurs) {
      const where = `'${path}'`;
      finiteMagnitude(answer.update, foundIn(name, 'update', where));
      answer.slots.forEach((x, i) => {
        finiteMagnitude(x, foundIn(name, `new ${this.#slotNames[i]}`, where));
      });
    }
    return answer;
  }

  /** The weight after a step that may leave its range, made and checked before anything is written; null for an ordinary step. */
  #extreme(matrix: Matrix, update: Tensor): Tensor | null {
    const { block, lrRatio } = matrix;
    const lr = this.#lr * lrRatio;
    const keep = 1 - lr * this.#weightDecay;
    // What comes later tells no size, and updates of the library's own are far below.
    const size = this.#isOurs ? 1 : readsLater(update) ? Infinity : magnitude(update);
    if (lr === 0 || (isOrdinary(size) && isOrdinaryStep(1, lr, keep))) return null;
    const result = block.weight.detach().clone();
    this.#apply(matrix, update, result);
    finiteMagnitude(result, foundIn(this.#name, 'update of the weights', `'${block.path}'`));
    return result;
  }

  /** Weight ← (1 − lr · weightDecay) weight − lr · update; `weight` may be a copy of the matrix's own. */
  #apply({ block, lrRatio }: Matrix, update: Tensor, weight: Tensor = block.weight): void {
    const lr = this.#lr * lrRatio;
    const keep = 1 - lr * this.#weightDecay;
    // With a learning rate of 0 the weights are what they were, to the last bit.
    if (lr === 0) return;
    if (keep !== 1) weight.scale_(keep);
    weight.addScaled_(update.reshape(weight.shape), -lr);
  }

  override zeroGrad(...none: readonly never[]): void {
    checkNone(`${this.#name}.zeroGrad`, none, 'gradients become null');
    for (const p of this.#trainable) p.grad = null;
    this.#watchman.zeroGrad();
  }

  /** Every parameter that requires a gradient: the matrices, and the others under 'rest'. */
  describe(): Descriptions {
    const rows = this.#matrices.map(({ block: { path, collector, dOut, dIn } }) => ({
      ...{ path, collector, shape: [dOut, dIn], sharing: null },
      ...{ parameters: [path], route: null, identity: [], structure: null },
    }));
    return describeClaims(rows, this.#rest.parameters, this.#paths);
  }

  /** `lr`, `rest.…`, and for each matrix its slots as `matrices.PATH.m`. */
  override stateDict(): StateDict {
    const state: StateDict = { lr: scalar(this.#lr) };
    for (const [key, value] of Object.entries(this.#rest.optimizer?.stateDict() ?? {})) state[`rest.${key}`] = value;
    for (const { block, slots } of this.#matrices)
      this.#slotNames.forEach((slot, i) => {
        state[`matrices.${block.path}.${slot}`] = slots[i]!.clone();
      });
    return state;
  }

  override loadStateDict(state: StateDict): void {
    const reader = new StateReader(this.#name, state);
    const lr = reader.rate('lr');
    const matrices = this.#matrices.map(({ block, lrRatio, slots }) => ({
      ...{ block, lrRatio },
      slots: this.#slotNames.map((slot, i) => reader.tensor(`matrices.${block.path}.${slot}`, slots[i]!)),
    }));
    const ofRest = reader.section('rest.');
    if (this.#rest.optimizer === null && Object.keys(ofRest).length > 0)
      reader.problem('unexpected: rest.…, no parameter is unclaimed');
    reader.finish();
    // The last thing that may fail: then nothing has been taken over yet.
    this.#rest.optimizer?.loadStateDict(ofRest);
    this.#rest.loaded();
    this.#lr = lr;
    this.#matrices = matrices;
  }

  /** Name, rates, and a line for each matrix and parameter. */
  override toString(): string {
    const decay = this.#weightDecay === 0 ? '' : `, weightDecay ${this.#weightDecay}`;
    return `${this.#name}(lr ${this.#lr}${decay}) of ${nameOf(this.#model)}\n${this.describe()}`;
  }
}

/** Fields come after the base's constructor, which asks. */
function slotNamesOf(name: string, names: unknown): unknown {
  if (names !== undefined) return names;
  throw new TypeError(
    `${name}: expected its slotNames to be a list of names without dots, such as ['m'], got undefined: the base asks before fields are ` +
      "set, so write a getter: get slotNames() { return ['m']; }",
  );
}

const isDirection = (v: unknown): v is Direction =>
  typeof v === 'object' && v !== null && 'update' in v && 'slots' in v && Array.isArray(v.slots);

/** As messages show it. */
function shown(answer: unknown): string {
  if (typeof answer !== 'object' || answer === null || !('update' in answer && 'slots' in answer))
    return received(answer);
  const on = (x: unknown) => (x instanceof Tensor ? `${received(x)} on '${x.device}'` : received(x));
  const { update, slots } = answer;
  return `update ${on(update)}, slots ${Array.isArray(slots) ? `[${slots.map(on).join(', ')}]` : received(slots)}`;
}
