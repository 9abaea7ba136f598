/** What all optimizers share, and the base of those that update each parameter from its own gradient alone. */

import { full, noGrad, type StateDict, scope, Tensor, unscoped } from '@otimes/core';
import { checkKnown, checkLr, checkParameters } from './check.ts';
import { StateReader, scalar } from './state-dict.ts';

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
  lr: number;
  readonly #groups: readonly Group<O>[];
  readonly #parameters: readonly Tensor[];
  #states: readonly ParameterState[];

  /**
   * @param defaults all options that there are
   * @param options those that the user gave
   * @param check throws for values out of range; `lr` is checked already
   * @throws if there is no parameter, one comes twice, or one is no leaf that requires a gradient
   */
  constructor(parameters: Parameters<O>, defaults: O, options: Partial<O>, check: (name: string, options: O) => void) {
    super();
    const name = this.constructor.name;
    const complete = (base: O, own: Partial<O>): O => {
      checkKnown(name, own, defaults);
      const all = { ...base, ...own };
      checkLr(name, all.lr);
      check(name, all);
      return all;
    };
    const common = complete(defaults, options);
    this.lr = common.lr;
    this.#groups = toGroups(parameters).map(({ params, own }) => {
      const options = complete(common, own);
      if (this.lr === 0 && options.lr !== 0)
        throw new RangeError(`${name}: a group cannot have lr ${options.lr} beside an optimizer's lr of 0`);
      return { parameters: params, options, lrRatio: this.lr === 0 ? 1 : options.lr / this.lr };
    });
    this.#parameters = this.#groups.flatMap(group => group.parameters);
    checkParameters(name, this.#parameters);
    this.#states = this.#parameters.map(p => new ParameterState(p));
  }

  /** The names of the tensors that `update` keeps for a parameter with these options. */
  protected abstract slotNames(options: O): readonly string[];

  /** The names of the numbers that `update` keeps for a parameter beside them. */
  protected numberNames(): readonly string[] {
    return [];
  }

  /**
   * Changes `p` by its gradient `g`. `state.step` already counts this update. Tensors made here are released after it,
   * except those in `state`.
   */
  protected abstract update(p: Tensor, g: Tensor, state: ParameterState, options: O): void;

  override step(): void {
    // Outside of every scope, because the state created here outlives it.
    unscoped(() =>
      noGrad(() => {
        let i = 0;
        for (const { parameters, options, lrRatio } of this.#groups) {
          const now = { ...options, lr: this.lr * lrRatio };
          for (const p of parameters) {
            const state = this.#states[i++]!;
            const g = p.borrowGrad();
            if (g === null) continue;
            state.step++;
            // Its temporaries are given back at once; what stays is in the state.
            scope(() => this.update(p, g, state, now));
          }
        }
      }),
    );
  }

  override zeroGrad(): void {
    for (const p of this.#parameters) p.grad = null;
  }

  /** `lr`, and for each parameter by its position: `0.step` and, once that is above 0, its slots, `0.m` say. */
  override stateDict(): StateDict {
    const state: StateDict = { lr: scalar(this.lr) };
    this.#states.forEach(({ step, slots, numbers }, i) => {
      state[`${i}.step`] = scalar(step);
      for (const [name, value] of slots) state[`${i}.${name}`] = value.clone();
      for (const [name, value] of numbers) state[`${i}.${name}`] = scalar(value);
    });
    return state;
  }

  override loadStateDict(state: StateDict): void {
    const reader = new StateReader(this.constructor.name, state);
    const lr = reader.number('lr');
    const loaded = this.#groups.flatMap(({ parameters, options }) => parameters.map(p => ({ p, options })));
    const states = loaded.map(({ p, options }, i) => {
      const target = new ParameterState(p);
      target.step = reader.number(`${i}.step`);
      if (target.step === 0) return target;
      for (const name of this.slotNames(options)) target.slots.set(name, reader.tensor(`${i}.${name}`, p));
      for (const name of this.numberNames()) target.numbers.set(name, reader.number(`${i}.${name}`));
      return target;
    });
    reader.finish();
    this.lr = lr;
    this.#states = states;
  }
}

type Given<O> = { readonly params: readonly Tensor[]; readonly own: Partial<O> };

function toGroups<O>(parameters: Parameters<O>): Given<O>[] {
  const given: (Tensor | ParameterGroup<O>)[] = [...parameters];
  const tensors = given.filter(p => p instanceof Tensor);
  const groups = given.filter((p): p is ParameterGroup<O> => !(p instanceof Tensor));
  if (groups.length === 0) return [{ params: tensors, own: {} }];
  if (tensors.length > 0) throw new TypeError('optimizer: expected parameters or groups of parameters, got both');
  return groups.map(({ params, ...own }) => ({ params: [...params], own: own as Partial<O> }));
}

/** The gradient with that of ½ weightDecay ‖p‖² added. */
export function withL2(g: Tensor, p: Tensor, weightDecay: number): Tensor {
  return weightDecay === 0 ? g : g.add(p.mul(weightDecay));
}
