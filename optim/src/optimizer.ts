/** What all optimizers share, and the base of those that update each parameter from its own gradient alone. */

import { describe, full, noGrad, type StateDict, scope, Tensor, unscoped } from '@otimes/core';
import {
  aFunction,
  borrowGrad,
  caughtUp,
  checkArgument,
  checkNone,
  checkOptions,
  checkTrained,
  dropPromise,
  inspect,
  isPlainObject,
  nameOf,
  onFailure,
  received,
} from '@otimes/core/extend';
import {
  checkLr,
  checkNames,
  checkParameters,
  checkSlots,
  checkTensor,
  goneError,
  isHeld,
  kindsOf,
  listOf,
} from './check.ts';
import { Journal } from './journal.ts';
import { StateReader, scalar } from './state-dict.ts';
import { noteSaver, noteTrained } from './trained.ts';

/** Changes parameters by their gradients. */
export abstract class Optimizer {
  /** The learning rate. Schedules set it; with parameter groups, all of them scale with it. */
  abstract lr: number;

  /** One update from the gradients that are there now. Synchronous on the CPU; `await` is right everywhere. */
  abstract step(): void | Promise<void>;

  /** Lets go of the gradients, before the next backward pass. */
  abstract zeroGrad(): void;

  /** Everything that is needed to go on bit for bit: counters, moments, running averages, the learning rate. */
  abstract stateDict(): StateDict;

  /** Takes over such a state. All or nothing: entries that are missing, unexpected or misshapen are listed. */
  abstract loadStateDict(state: StateDict): void;

  toString(): string {
    return `${nameOf(this)}(lr ${this.lr})`;
  }

  /** As `toString`: `JSON.stringify` shows what there is and does not save it; see `stateDict`. */
  toJSON(): string {
    return this.toString();
  }

  [inspect](): string {
    return this.toString();
  }
}

/** Parameters with options of their own, which take the place of the optimizer's. */
export type ParameterGroup<O> = { params: Iterable<Tensor> } & Partial<O>;

/** Parameters, or groups of them. */
export type Parameters<O> = Iterable<Tensor> | Iterable<ParameterGroup<O>>;

/** What an optimizer remembers of one parameter. */
export class ParameterState {
  /** Updates made so far. */
  step = 0;
  readonly slots = new Map<string, Tensor>();
  readonly numbers = new Map<string, number>();
  readonly #like: Tensor;

  constructor(parameter: Tensor) {
    this.#like = parameter;
  }

  /** The tensor of that name, like the parameter; `initial` everywhere at first. */
  slot(name: string, initial = 0): Tensor {
    let value = this.slots.get(name);
    if (value === undefined) {
      // Kept, because an update that runs in a scope makes it.
      value = full(this.#like.shape, initial, { dtype: this.#like.dtype, device: this.#like.device }).keep();
      this.slots.set(name, value);
    }
    return value;
  }
}

type Group<O> = { readonly parameters: readonly Tensor[]; readonly options: O; readonly lrRatio: number };

/**
 * An optimizer whose update of a parameter needs that parameter's gradient and state only. Parameters without a
 * gradient are left as they are, as in PyTorch.
 */
export abstract class GradientOptimizer<O extends { lr: number }> extends Optimizer {
  #lr: number;
  readonly #groups: readonly Group<O>[];
  readonly #parameters: readonly Tensor[];
  readonly #builtIn = Object.hasOwn(this.constructor, 'builtIn');
  #states: readonly ParameterState[];

  /**
   * @param defaults all options that there are
   * @param options those that the user gave
   * @param check throws for values out of range; `lr` is checked already
   * @throws if there is no parameter, one comes twice, or one is no leaf that requires a gradient
   */
  constructor(parameters: Parameters<O>, defaults: O, options: Partial<O>, check: (name: string, options: O) => void) {
    super();
    const name = nameOf(this);
    const kinds = kindsOf(defaults);
    const complete = (base: O, own: Partial<O>): O => {
      checkOptions(name, own, kinds);
      const all = { ...base };
      for (const key in own) if (own[key] !== undefined) Object.assign(all, { [key]: own[key] });
      checkLr(name, all.lr);
      check(name, all);
      return all;
    };
    const common = complete(defaults, options);
    this.#lr = common.lr;
    this.#groups = toGroups(name, parameters).map(({ params, own }) => {
      const options = complete(common, own);
      if (common.lr === 0 && options.lr !== 0)
        throw new RangeError(`${name}: a group cannot have lr ${options.lr} beside an optimizer's lr of 0`);
      return { parameters: params, options, lrRatio: common.lr === 0 ? 1 : options.lr / common.lr };
    });
    this.#parameters = this.#groups.flatMap(group => group.parameters);
    checkParameters(name, this.#parameters);
    noteTrained(this, this.#parameters);
    noteSaver(this, journal => this.#saveTo(journal));
    this.#states = this.#parameters.map(p => new ParameterState(p));
  }

  override get lr(): number {
    return this.#lr;
  }

  /** Finite and ≥ 0. */
  override set lr(lr: number) {
    checkLr(nameOf(this), lr);
    this.#lr = lr;
  }

  /** The names of the tensors that `update` keeps for a parameter with these options, from its first update on; each like it. */
  protected abstract slotNames(options: O): readonly string[];

  /** Those of them that are averages or sums of squares, and so never below 0. */
  protected squareNames(): readonly string[] {
    return [];
  }

  /** The names of the finite numbers that `update` keeps for a parameter beside them, also from its first update on. */
  protected numberNames(): readonly string[] {
    return [];
  }

  /**
   * Changes `p` by its gradient `g`. `state.step` already counts this update. For the library's own classes, tensors made
   * here are released after it, except those in `state`, and `g` with the gradient.
   */
  protected abstract update(p: Tensor, g: Tensor, state: ParameterState, options: O): void;

  /**
   * Parameters that are frozen, or have no gradient, stay as they are. Before the first of them changes it throws if a parameter or a
   * gradient was released, if the model was moved to another device since this optimizer was made, or if it has a layer that
   * cannot be found; see `Module`. A class of the program steps with copies of all parameters and states: where its `update`
   * throws, or returns something, everything is what it was. On a device that is read with await, steps after a check that failed
   * change nothing, and are not counted once a read has told it. Returns a promise where such a device is far behind.
   */
  override step(...none: readonly never[]): void | Promise<void> {
    if (none.length > 0) checkNone(`${nameOf(this)}.step`, none, 'call loss.backward() before it');
    checkTrained(this, this.#parameters);
    const own = this.#builtIn && !Object.hasOwn(this, 'update');
    if (!own) this.#checkMembers();
    const active = this.#parameters.filter(p => p.requiresGrad && borrowGrad(p) !== null);
    for (const p of active)
      if (!isHeld(p)) throw goneError(nameOf(this), `parameter ${this.#parameters.indexOf(p)}`, p);
    const journal = own ? null : new Journal({ outlives: true });
    if (journal !== null) {
      for (const p of active) journal.save(p);
      this.#saveTo(journal);
    }
    // Outside of every scope, because the state created here outlives it.
    unscoped(() =>
      noGrad(() => {
        let i = 0;
        for (const { parameters, options, lrRatio } of this.#groups) {
          const now = { ...options, lr: this.lr * lrRatio };
          for (const p of parameters) {
            const state = this.#states[i++]!;
            const g = own ? borrowGrad(p) : p.grad;
            if (g === null || !p.requiresGrad) continue;
            const uncount = counted(state);
            const isFirst = state.step++ === 0;
            try {
              // Temporaries of the library's own are given back at once; a class of the program may keep what it sees or makes.
              if (own) scope(() => this.update(p, g, state, now));
              else {
                this.#checkNothing(i - 1, p, this.update(p, g, state, now));
                // What the program's own class keeps is checked once.
                if (isFirst) this.#checkKept(i - 1, p, now);
              }
            } catch (error) {
              uncount();
              journal?.restore();
              throw error;
            }
            // After a check that fails later nothing of this was written.
            onFailure(p, uncount);
          }
        }
      }),
    );
    journal?.release();
    return caughtUp(this.#parameters[0]!);
  }

  #saveTo(journal: Journal): void {
    const [lr, states] = [this.#lr, this.#states];
    journal.after(() => {
      this.#lr = lr;
      this.#states = states;
    });
    for (const state of states) {
      const [uncount, slots] = [counted(state), [...state.slots]];
      for (const [, x] of slots) journal.save(x);
      journal.after(() => {
        uncount();
        state.slots.clear();
        for (const [name, x] of slots) state.slots.set(name, x);
      });
    }
  }

  /** What `see` returns for each parameter, what is remembered of it, its options, and its position. */
  protected eachState<T>(see: (p: Tensor, state: ParameterState, options: O, i: number) => T): T[] {
    const all = this.#groups.flatMap(({ parameters, options }) => parameters.map(p => ({ p, options })));
    return all.map(({ p, options }, i) => see(p, this.#states[i]!, options, i));
  }

  /** Throws for what the program's own `update` of a parameter returned. */
  #checkNothing(i: number, p: Tensor, returned: unknown): void {
    if (returned === undefined) return;
    dropPromise(returned);
    throw new TypeError(
      `${nameOf(this)}: expected update() of parameter ${i}, ${describe(p)}, to change it in place and return nothing, got ` +
        `${received(returned)}; no parameter was changed`,
    );
  }

  /** Throws unless the program's own class has what it must have; as fields they come after the base's constructor. */
  #checkMembers(): void {
    const name = nameOf(this);
    for (const method of METHODS) checkArgument(name, `its ${method}`, this[method], aFunction);
    for (const { options } of this.#groups)
      checkNames(name, 'its slotNames and numberNames', [...this.slotNames(options), ...this.numberNames()], ['step']);
  }

  /** Throws unless the state of a parameter is what the class says that it keeps. */
  #checkKept(i: number, p: Tensor, options: O): void {
    const { slots, numbers } = this.#states[i]!;
    const where = `${nameOf(this)}: after an update expected parameter ${i}, ${describe(p)},`;
    checkSlots(where, 'slotNames()', this.slotNames(options), slots, p);
    const [is, should] = [[...numbers.keys()].sort(), [...this.numberNames()].sort()];
    if (is.join() !== should.join() || ![...numbers.values()].every(Number.isFinite))
      throw new TypeError(
        `${where} to have the finite numbers that numberNames() says, ${received(should)}; got ` +
          `${received(Object.fromEntries(numbers))}. A state dict of it could not be loaded`,
      );
  }

  override zeroGrad(...none: readonly never[]): void {
    if (none.length > 0) checkNone(`${nameOf(this)}.zeroGrad`, none, 'gradients become null');
    for (const p of this.#parameters) p.grad = null;
  }

  /**
   * `lr`, and for each parameter by its position: `0.step` and, once that is above 0, its slots, `0.m` say. Throws where a class of the
   * program keeps something else than its `slotNames` and `numberNames`, since that could not be loaded.
   */
  override stateDict(): StateDict {
    const state: StateDict = { lr: scalar(this.lr) };
    if (!this.#builtIn)
      this.eachState((p, { step }, options, i) => {
        if (step > 0) this.#checkKept(i, p, options);
      });
    this.#states.forEach(({ step, slots, numbers }, i) => {
      state[`${i}.step`] = scalar(step);
      for (const [name, value] of slots) state[`${i}.${name}`] = value.clone();
      for (const [name, value] of numbers) state[`${i}.${name}`] = scalar(value);
    });
    return state;
  }

  /** Refuses numbers that are not finite, too, and averages of squares below 0. */
  override loadStateDict(state: StateDict): void {
    this.prepareState(state)();
  }

  /** Checks and copies such a state, and changes nothing. What is returned takes it over and cannot fail. */
  prepareState(state: StateDict): () => void {
    const reader = new StateReader(nameOf(this), state);
    const lr = reader.rate('lr');
    const states = this.eachState((p, _, options, i) => {
      const target = new ParameterState(p);
      target.step = reader.count(`${i}.step`);
      if (target.step === 0) return target;
      for (const name of this.slotNames(options)) {
        const least = this.squareNames().includes(name) ? 0 : -Infinity;
        target.slots.set(name, reader.tensor(`${i}.${name}`, p, least));
      }
      for (const name of this.numberNames()) target.numbers.set(name, reader.number(`${i}.${name}`));
      return target;
    });
    reader.finish();
    return () => {
      this.#lr = lr;
      this.#states = states;
    };
  }

  /** Name, options, and how many parameters there are; for each group. */
  override toString(): string {
    const lines = this.#groups.map(({ parameters, options, lrRatio }) => {
      const now = Object.entries({ ...options, lr: this.#lr * lrRatio });
      const numbers = parameters.reduce((sum, { size }) => sum + size, 0).toLocaleString('en');
      const shown = now.map(([key, value]) => `${key} ${Array.isArray(value) ? `[${value.join(', ')}]` : value}`);
      return `${shown.join(', ')})\n  ${numbers} numbers in ${parameters.length} parameters`;
    });
    return lines.map(line => `${nameOf(this)}(${line}`).join('\n');
  }
}

/** Puts counter and numbers back as they are now, and takes new slots away; the elements of slots stay. */
function counted(state: ParameterState): () => void {
  const { step, slots } = state;
  const { size } = slots;
  // Most have none, and this runs for each parameter in each step.
  const numbers = state.numbers.size === 0 ? [] : [...state.numbers];
  return () => {
    state.step = step;
    // New ones come last.
    for (const name of [...slots.keys()].slice(size)) slots.delete(name);
    state.numbers.clear();
    for (const [name, value] of numbers) state.numbers.set(name, value);
  };
}

/** What a subclass has, or the base has for it. */
const METHODS = ['update', 'slotNames', 'squareNames', 'numberNames'] as const;

type Given<O> = { readonly params: readonly Tensor[]; readonly own: Partial<O> };

function toGroups<O>(name: string, parameters: Parameters<O>): Given<O>[] {
  const given = listOf<Tensor | ParameterGroup<O>>(name, parameters);
  const tensors = given.filter(p => p instanceof Tensor);
  const groups = given.filter((p): p is ParameterGroup<O> => !(p instanceof Tensor));
  if (groups.length === 0) return [{ params: tensors, own: {} }];
  given.forEach((p, i) => {
    if (!isPlainObject(p)) checkTensor(name, p, i);
  });
  if (tensors.length > 0) throw new TypeError(`${name}: expected parameters or groups of parameters, got both`);
  return groups.map(({ params, ...own }) => ({ params: listOf(name, params), own: own as Partial<O> }));
}

/** The gradient with that of ½ weightDecay ‖p‖² added. */
export function withL2(g: Tensor, p: Tensor, weightDecay: number): Tensor {
  return weightDecay === 0 ? g : g.add(p.mul(weightDecay));
}
