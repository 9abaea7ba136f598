/** The parameters that no block claims, and the optimizer that updates them, as a program gives it. */

import { describe, type StateDict, type Tensor, unscoped } from '@otimes/core';
import { borrowGrad, dropPromise, nameOf, readsLater, received } from '@otimes/core/extend';
import type { Parameter } from '@otimes/nn';
import { goneError, isHeld } from '../check.ts';
import { Journal } from '../journal.ts';
import type { Optimizer } from '../optimizer.ts';
import { saverOf, trainedBy } from '../trained.ts';
import { finiteMagnitude, foundIn, isOrdinary, isOrdinaryStep, largest, notFinite } from './finite.ts';

type RestOptions = {
  /** Of the optimizer whose rest it is. */
  readonly name: string;
  readonly lr: number;
  /** The names of the model's parameters. */
  readonly paths: ReadonlyMap<Tensor, string>;
  /** The option of the user. */
  readonly make: ((unclaimed: Parameter[]) => Optimizer) | undefined;
  /** In its place. */
  readonly byDefault: (unclaimed: Parameter[]) => Optimizer;
};

export class Rest {
  readonly parameters: readonly Parameter[];
  /** Null where nothing is left to it. */
  readonly optimizer: Optimizer | null;
  readonly #name: string;
  readonly #paths: ReadonlyMap<Tensor, string>;
  readonly #isOurs: boolean;
  /** Whether no code of the program runs in its step. */
  readonly #isBuiltIn: boolean;
  #ratio: number;
  /** The optimizer's own learning rate where it waits for the first lr above 0; else 0. */
  #waiting = 0;
  #wasOrdinary = true;

  constructor(parameters: readonly Parameter[], { name, lr, paths, make, byDefault }: RestOptions) {
    this.parameters = parameters;
    this.#name = name;
    this.#paths = paths;
    this.#isOurs = make === undefined;
    this.optimizer =
      parameters.length === 0 ? null : checkRest(name, (make ?? byDefault)([...parameters]), parameters, paths);
    this.#isBuiltIn = this.optimizer === null || isBuiltIn(this.optimizer);
    const own = this.optimizer?.lr ?? 0;
    this.#ratio = lr === 0 ? 1 : own / lr;
    if (lr > 0 || own === 0) return;
    if (make !== undefined) throw new RangeError(`${name}: a rest cannot have lr ${own} beside an optimizer's lr of 0`);
    this.#waiting = own;
    this.lr = 0;
  }

  /**
   * Of the whole optimizer: the rest's is in the proportion to it that it had at the start. One that was made with lr 0 moves nothing; with
   * the first lr above that it is as if it had been made with it.
   */
  set lr(lr: number) {
    if (this.optimizer === null) return;
    const waiting = lr > 0 ? this.#waiting : 0;
    this.optimizer.lr = waiting || lr * this.#ratio;
    if (waiting > 0) this.#follows(lr);
  }

  /** Throws for a gradient that is not finite; `gradientOf` says which is that of a parameter. */
  check(gradientOf: (p: Parameter) => Tensor | null = borrowGrad): void {
    for (const p of this.parameters) {
      const g = gradientOf(p);
      if (g === null) continue;
      const where = `'${this.#paths.get(p)}'`;
      if (!isHeld(p)) throw goneError(this.#name, where, p);
      finiteMagnitude(g, foundIn(this.#name, 'gradient', where));
    }
  }

  /**
   * A step, outside of every scope. What throws leaves parameters and optimizer as they were; on a device that is read with await the
   * state of an optimizer that is no `GradientOptimizer` stays as it is, since it cannot be loaded at once.
   *
   * @param gain of the whole optimizer: how much larger than the gradient a step may be
   * @param journal takes the step back if something else fails later; null if nothing will
   * @param seen the gradient that the optimizer sees in the place of a parameter's own; null if that is it
   */
  step(gain: number, journal: Journal | null, seen: ((p: Parameter) => Tensor | null) | null = null): void {
    const { optimizer } = this;
    if (optimizer === null) return;
    const own = new Map(seen === null ? [] : this.parameters.map(p => [p, p.grad]));
    try {
      for (const p of own.keys()) p.grad = seen!(p);
      this.#step(optimizer, journal ?? (this.#isSafe(optimizer, gain) ? null : new Journal()));
    } finally {
      for (const [p, g] of own) p.grad = g;
    }
  }

  /** Class and options, as far as these are known. */
  get description(): string {
    const { optimizer } = this;
    if (optimizer === null) return '';
    // What an optimizer of the program's writes about itself may be of one process.
    const isKnown = Object.hasOwn(optimizer.constructor, 'builtIn') && trainedBy(optimizer) !== undefined;
    return isKnown ? String(optimizer) : nameOf(optimizer);
  }

  /** Whether code of the program runs in its step. */
  get runsProgram(): boolean {
    return this.optimizer !== null && !this.#isOurs;
  }

  /** A step that `own` takes back if it fails. */
  #step(optimizer: Optimizer, own: Journal | null): void {
    const later = this.#readsLater;
    if (own !== null) {
      for (const p of this.parameters) own.save(p);
      // A state dict would have to be awaited there before it could be loaded.
      if (later) saverOf(optimizer)?.(own);
      else {
        const state = optimizer.stateDict();
        for (const x of Object.values(state)) own.copy(x);
        own.after(() => unscoped(() => optimizer.loadStateDict(copyOf(state))));
      }
    }
    try {
      stepSynchronously(this.#name, optimizer);
      if (own !== null && !later) this.#checkStepped(optimizer);
    } catch (error) {
      own?.restore();
      throw error;
    }
  }

  get #readsLater(): boolean {
    return this.parameters.some(readsLater);
  }

  /** After a state was loaded, the whole optimizer's `lr` with it: nobody knows what is in it. */
  loaded(lr: number): void {
    this.#wasOrdinary = false;
    if (lr > 0 && this.#waiting > 0) this.#follows(lr);
  }

  /** From here on it keeps the proportion that it has to this. */
  #follows(lr: number): void {
    this.#ratio = this.optimizer!.lr / lr;
    this.#waiting = 0;
  }

  /** Whether a step needs no copies. What overflows on a device that is read with await is not looked for. */
  #isSafe(optimizer: Optimizer, gain: number): boolean {
    return this.#readsLater ? this.#isBuiltIn : this.#isOrdinary(optimizer, gain);
  }

  /** Whether nothing can overflow in a step; of an optimizer of the user's nobody knows. */
  #isOrdinary({ lr }: Optimizer, gain: number): boolean {
    if (!this.#isOurs || !this.#wasOrdinary || !isOrdinaryStep(gain, lr, 1)) return false;
    return this.parameters.every(p => borrowGrad(p) === null || isOrdinary(largest(borrowGrad(p)!)));
  }

  /** Throws if the step has left something that is not finite. */
  #checkStepped(optimizer: Optimizer): void {
    let ordinary = true;
    for (const [key, value] of Object.entries(optimizer.stateDict())) {
      const size = largest(value);
      if (!Number.isFinite(size)) throw notFinite(this.#name, `new '${key}'`, 'the rest optimizer');
      ordinary &&= isOrdinary(size, 2);
    }
    for (const p of this.parameters)
      if (!Number.isFinite(largest(p))) throw notFinite(this.#name, 'update', `'${this.#paths.get(p)}'`);
    this.#wasOrdinary = ordinary;
  }
}

const copyOf = (state: StateDict): StateDict =>
  Object.fromEntries(Object.entries(state).map(([key, x]) => [key, x.clone()]));

const METHODS = ['step', 'zeroGrad', 'stateDict', 'loadStateDict'] as const;

/**
 * What the option `rest` returned. Throws unless it is an optimizer, and trains exactly the unclaimed parameters. Of an optimizer
 * that extends `Optimizer` alone nobody knows which it trains. `paths` has the names of the model's parameters.
 */
function checkRest(
  name: string,
  rest: unknown,
  unclaimed: readonly Parameter[],
  paths: ReadonlyMap<Tensor, string>,
): Optimizer {
  if (!isOptimizer(rest)) {
    const got = received(rest);
    dropPromise(rest);
    const hint =
      rest === undefined ? '; is its return missing?' : got === 'a promise' ? '; the function must be synchronous' : '';
    throw new TypeError(
      `${name}: expected rest to return an optimizer, as unclaimed => new SGD(unclaimed) does, got ${got}${hint}`,
    );
  }
  const trained = trainedBy(rest);
  if (trained === undefined) return rest;
  const missing = unclaimed.filter(p => !trained.includes(p)).map(p => `'${paths.get(p)}'`);
  const foreign = trained.filter(p => !unclaimed.some(q => q === p));
  if (missing.length > 0)
    throw new Error(
      `${name}: the optimizer that rest returned does not train ${missing.join(', ')}; it must train all parameters that ` +
        'rest is given. Freeze those that are to stay as they are',
    );
  if (foreign.length > 0)
    throw new Error(
      `${name}: the optimizer that rest returned trains ${foreign.map(p => nameIn(paths, p)).join(', ')} too; it must train ` +
        'the parameters that rest is given and no others',
    );
  return rest;
}

const nameIn = (paths: ReadonlyMap<Tensor, string>, p: Tensor): string => {
  const path = paths.get(p);
  return path === undefined ? `${describe(p)}, which is no parameter of the model` : `'${path}', which a block updates`;
};

function isOptimizer(value: unknown): value is Optimizer {
  if (typeof value !== 'object' || value === null) return false;
  const lr: unknown = Reflect.get(value, 'lr');
  const isRate = typeof lr === 'number' && lr >= 0 && lr < Infinity;
  return isRate && METHODS.every(method => typeof Reflect.get(value, method) === 'function');
}

/** Whether its class is the library's, and no method was replaced. */
const isBuiltIn = (optimizer: Optimizer): boolean =>
  Object.hasOwn(optimizer.constructor, 'builtIn') &&
  ![...METHODS, 'update'].some(name => Object.hasOwn(optimizer, name));

/**
 * The rest's step, outside of every scope. Throws a TypeError if an optimizer of the program's returns a promise: what it does later,
 * nobody could take back. The library's own then are done, and wait for the device.
 */
function stepSynchronously(name: string, rest: Optimizer): void {
  const returned: unknown = unscoped(() => rest.step());
  if (!dropPromise(returned) || isBuiltIn(rest)) return;
  throw new TypeError(`${name}: rest must be synchronous, and the step() of its optimizer returned a promise`);
}
