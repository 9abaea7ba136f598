/** The optimizer of the parameters that no block claims, as a program gives it. */

import { describe, type StateDict, type Tensor, unscoped } from '@otimes/core';
import { borrowGrad, readsLater, received } from '@otimes/core/extend';
import type { Parameter } from '@otimes/nn';
import { meanGradient } from '../curvature/factors.ts';
import { type Optimizer, trainedBy } from '../optimizer.ts';
import { finiteMagnitude, isOrdinary, isOrdinaryStep, Journal, largest, notFinite } from './journal.ts';

const METHODS = ['step', 'zeroGrad', 'stateDict', 'loadStateDict'] as const;

/**
 * What the option `rest` returned. Throws unless it is an optimizer, and trains exactly the unclaimed parameters. Of an optimizer
 * that is no `GradientOptimizer` nobody knows which it trains. `paths` has the names of the model's parameters.
 */
function checkRest(
  name: string,
  rest: unknown,
  unclaimed: readonly Parameter[],
  paths: ReadonlyMap<Tensor, string>,
): Optimizer {
  if (!isOptimizer(rest)) {
    const got = received(rest);
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

export class Rest {
  readonly optimizer: Optimizer;
  readonly #name: string;
  readonly #parameters: readonly Parameter[];
  readonly #paths: ReadonlyMap<Parameter, string>;
  readonly #isOurs: boolean;
  /** Its learning rate over that of the blocks' optimizer. */
  readonly #lrRatio: number;
  /** Whether what it remembers is known to be ordinary numbers. */
  #wasOrdinary = true;

  /**
   * Throws unless `optimizer` is one and trains these parameters.
   *
   * @param name of the optimizer of the blocks, for messages
   * @param isOurs whether no code of the program runs in its step
   * @param lr of the blocks' optimizer
   */
  constructor(
    name: string,
    optimizer: unknown,
    parameters: readonly Parameter[],
    paths: ReadonlyMap<Parameter, string>,
    { isOurs, lr }: { readonly isOurs: boolean; readonly lr: number },
  ) {
    this.optimizer = checkRest(name, optimizer, parameters, paths);
    this.#name = name;
    this.#parameters = parameters;
    this.#paths = paths;
    this.#isOurs = isOurs;
    this.#lrRatio = lr === 0 ? 1 : this.optimizer.lr / lr;
  }

  /** Keeps its learning rate in the proportion to this one that it had at the start. */
  set lr(lr: number) {
    this.optimizer.lr = lr * this.#lrRatio;
  }

  /** After a state was loaded, of which nobody knows what is in it. */
  wasLoaded(): void {
    this.#wasOrdinary = false;
  }

  /** Throws for a gradient that is not finite. */
  checkGradients(): void {
    for (const p of this.#parameters) {
      const g = borrowGrad(p);
      if (g !== null) finiteMagnitude(g, () => notFinite(this.#name, 'gradient', this.#nameOf(p)));
    }
  }

  #nameOf(p: Parameter): string {
    return `'${this.#paths.get(p)}'`;
  }

  /**
   * Its own step, before that of the blocks, which are other parameters. It sees gradients of the mean loss, as the blocks do.
   *
   * @param journal takes everything back that may be taken back after it; null for nothing
   * @param sum the number of examples that the loss is a sum over; null where it is their mean
   * @param gain as in `Rule`
   */
  step(journal: Journal | null, sum: number | null, gain: number): void {
    const rest = this.optimizer;
    const summed = new Map(sum === null ? [] : this.#parameters.map(p => [p, p.grad]));
    const own = journal ?? (this.#isOrdinary(gain) ? null : new Journal());
    if (own !== null) {
      const state = rest.stateDict();
      for (const p of this.#parameters) own.save(p);
      own.after(() => unscoped(() => rest.loadStateDict(copyOf(state))));
    }
    try {
      for (const [p, g] of summed) p.grad = g === null ? null : meanGradient(g, sum!, 'sum');
      stepSynchronously(this.#name, rest);
      if (own !== null) this.#checkStepped();
    } catch (error) {
      own?.restore();
      throw error;
    } finally {
      for (const [p, g] of summed) p.grad = g;
    }
  }

  /** Whether nothing can overflow in its step; of an optimizer of the user's nobody knows. No step elsewhere keeps copies. */
  #isOrdinary(gain: number): boolean {
    if (readsLater(this.#parameters[0]!)) return true;
    if (!this.#isOurs || !this.#wasOrdinary || !isOrdinaryStep(gain, this.optimizer.lr, 1)) return false;
    return this.#parameters.every(p => {
      const g = borrowGrad(p);
      return g === null || isOrdinary(largest(g));
    });
  }

  /** Throws if its step has left something that is not finite. */
  #checkStepped(): void {
    let ordinary = true;
    for (const [key, value] of Object.entries(this.optimizer.stateDict())) {
      const size = largest(value);
      if (!Number.isFinite(size)) throw notFinite(this.#name, `new '${key}'`, 'the rest optimizer');
      ordinary &&= isOrdinary(size, 2);
    }
    for (const p of this.#parameters)
      if (!Number.isFinite(largest(p))) throw notFinite(this.#name, 'update', this.#nameOf(p));
    this.#wasOrdinary = ordinary;
  }
}

const copyOf = (state: StateDict): StateDict =>
  Object.fromEntries(Object.entries(state).map(([key, x]) => [key, x.clone()]));

/** The rest's step, outside of every scope. Throws a TypeError if it returns a promise: what it does later, nobody could take back. */
function stepSynchronously(name: string, rest: Optimizer): void {
  const returned: unknown = unscoped(() => rest.step());
  if (received(returned) !== 'a promise') return;
  // Its own failure would have nobody to catch it.
  Promise.resolve(returned).catch(() => {});
  throw new TypeError(`${name}: rest must be synchronous, and the step() of its optimizer returned a promise`);
}
