/** What all optimizers share, and the base of those that update each parameter from its own gradient alone. */

import { describe, full, noGrad, type StateDict, Tensor, tensor, unscoped, zeros } from '@otimes/core';

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
      value = full(this.#like.shape, initial, { dtype: this.#like.dtype, device: this.#like.device });
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

  /** Changes `p` by its gradient `g`. `state.step` already counts this update. */
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
            if (p.grad === null) continue;
            state.step++;
            this.update(p, p.grad, state, now);
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

/** A float64 scalar, the form in which numbers stand in a state dict. */
export function scalar(value: number): Tensor {
  return tensor(value, { dtype: 'float64' });
}

/** Reads a state dict entry by entry and collects what is wrong with it, so that all of it is reported at once. */
export class StateReader {
  readonly #name: string;
  readonly #state: StateDict;
  readonly #read = new Set<string>();
  readonly #problems: string[] = [];

  constructor(name: string, state: StateDict) {
    this.#name = name;
    this.#state = state;
  }

  has(key: string): boolean {
    return Object.hasOwn(this.#state, key);
  }

  /** The number under `key`; 0, and a problem noted, where there is none. */
  number(key: string): number {
    const value = this.#take(key);
    if (value === null) return 0;
    if (value.size === 1) return value.item();
    this.#problems.push(`does not fit: ${key} expects one number, got ${describe(value)}`);
    return 0;
  }

  /** A copy of the tensor under `key`, which must be like `like`. */
  tensor(key: string, like: { shape: readonly number[]; dtype: Tensor['dtype']; device?: string }): Tensor {
    const value = this.#take(key);
    const fits =
      value !== null &&
      value.dtype === like.dtype &&
      value.rank === like.shape.length &&
      value.shape.every((length, i) => length === like.shape[i]);
    if (value !== null && !fits)
      this.#problems.push(`does not fit: ${key} expects ${describe(like)}, got ${describe(value)}`);
    return fits
      ? unscoped(() =>
          value
            .detach()
            .clone()
            .to(like.device ?? value.device),
        )
      : zeros([]);
  }

  /** The entries whose keys start with `prefix`, without it. */
  section(prefix: string): StateDict {
    const section: StateDict = {};
    for (const [key, value] of Object.entries(this.#state))
      if (key.startsWith(prefix)) {
        section[key.slice(prefix.length)] = value;
        this.#read.add(key);
      }
    return section;
  }

  problem(text: string): void {
    this.#problems.push(text);
  }

  /** Throws one error for all problems, entries that nobody asked for among them. */
  finish(): void {
    for (const [key, value] of Object.entries(this.#state))
      if (!this.#read.has(key)) this.#problems.push(`unexpected: ${key} ${describe(value)}`);
    if (this.#problems.length > 0)
      throw new Error(
        `${this.#name}.loadStateDict: nothing was loaded, since ${this.#problems.length} entries are wrong\n  ` +
          this.#problems.join('\n  '),
      );
  }

  #take(key: string): Tensor | null {
    this.#read.add(key);
    const value = this.has(key) ? this.#state[key] : undefined;
    if (value === undefined) this.#problems.push(`missing: ${key}`);
    return value ?? null;
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

/** Throws unless there is at least one parameter, each is a leaf with a gradient, and none comes twice. */
export function checkParameters(name: string, parameters: readonly Tensor[]): void {
  if (parameters.length === 0) throw new Error(`${name}: expected at least one parameter, got none`);
  const seen = new Set<Tensor>();
  parameters.forEach((p, i) => {
    if (!(p instanceof Tensor)) throw new TypeError(`${name}: parameter ${i} is no tensor`);
    if (!p.requiresGrad || !p.isLeaf)
      throw new Error(`${name}: parameter ${i}, ${describe(p)}, is not a leaf that requires a gradient`);
    if (seen.has(p)) throw new Error(`${name}: parameter ${i}, ${describe(p)}, is given twice`);
    seen.add(p);
  });
}

/** Throws for an option that does not exist: `weight_decay`, say. */
function checkKnown(name: string, options: object, known: object): void {
  for (const option of Object.keys(options))
    if (!Object.hasOwn(known, option))
      throw new TypeError(`${name}: there is no option '${option}', only ${Object.keys(known).join(', ')}`);
}

/** The gradient with that of ½ weightDecay ‖p‖² added. */
export function withL2(g: Tensor, p: Tensor, weightDecay: number): Tensor {
  return weightDecay === 0 ? g : g.add(p.mul(weightDecay));
}

export function checkLr(name: string, lr: number): void {
  checkRange(name, 'lr', lr, 0, Infinity);
}

/** Throws unless low ≤ value < high. */
export function checkRange(name: string, option: string, value: number, low: number, high: number): void {
  if (!(value >= low && value < high))
    throw new RangeError(`${name}: expected ${option} in [${low}, ${high}), got ${value}`);
}
