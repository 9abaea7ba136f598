/** L-BFGS (Nocedal 1980; Liu & Nocedal 1989), as torch.optim.LBFGS: for smooth losses of a whole data set, such as those of physics. */

import {
  concat,
  DTypeError,
  describe,
  noGrad,
  ShapeError,
  type StateDict,
  scope,
  stack,
  Tensor,
  unscoped,
  zeros,
} from '@otimes/core';
import {
  aFunction,
  aNumber,
  anInteger,
  borrowGrad,
  checkArgument,
  checkNone,
  checkOptions,
  checkRange,
  checkTrained,
  dropPromise,
  inspect,
  orNull,
  readsLater,
  received,
} from '@otimes/core/extend';
import { checkLr, checkParameters, goneError, isHeld, listOf } from './check.ts';
import { type Point, strongWolfe } from './line-search.ts';
import { StateReader, scalar } from './state-dict.ts';

export type LBFGSOptions = {
  /** The step, and the first one that a line search tries; default 1. */
  lr?: number;
  /** Iterations of a `step`; default 20. */
  maxIter?: number;
  /** Evaluations of the closure in a `step`, after which no second iteration begins; default 1.25 maxIter. */
  maxEval?: number;
  /** A `step` ends where no element of the gradient is larger; default 1e-7. */
  toleranceGrad?: number;
  /** It ends where loss and weights change by less; default 1e-9. */
  toleranceChange?: number;
  /** How many differences of weights and gradients are remembered; default 100. */
  historySize?: number;
  /** How long the step is: `'strongWolfe'`, which is what to take, or lr as it is (default, null, as in PyTorch). */
  lineSearch?: 'strongWolfe' | null;
};

/** Computes the loss with its gradient: `zeroGrad`, the forward pass, `backward`. Returns the loss, a scalar. */
export type Closure = () => Tensor | number;

/** One difference: s of weights and y of gradients, [n] each, and ρ = 1 / yᵀs, a scalar. */
type Pair = { readonly s: Tensor; readonly y: Tensor; readonly rho: Tensor };

type State = {
  readonly iterations: number;
  readonly evaluations: number;
  /** The first H is this times the identity. */
  readonly scale: number;
  readonly pairs: readonly Pair[];
  /** Direction, step and the gradient before it of the last iteration; null before the first. */
  readonly last: { readonly d: Tensor; readonly t: number; readonly gradient: Tensor } | null;
};

const FRESH: State = { iterations: 0, evaluations: 0, scale: 1, pairs: [], last: null };
const aLineSearch = {
  expected: "'strongWolfe' or null",
  is: (v: unknown) => v === 'strongWolfe',
  hint: (v: unknown) => (v === 'strong_wolfe' ? "here it is 'strongWolfe'" : ''),
};

/**
 * Quasi-Newton steps p ← p + t d, d = −H ∇f, with H from the last `historySize` differences (two-loop recursion; Nocedal & Wright 2006,
 * Algorithm 7.4).
 *
 *     const optimizer = new LBFGS(model.parameters(), { lineSearch: 'strongWolfe' });
 *     const loss = await optimizer.step(() => { optimizer.zeroGrad(); const loss = …; loss.backward(); return loss; });
 *
 * One `step` makes up to `maxIter` iterations and calls the closure several times; it must give the same loss for the same weights, so
 * without dropout and with the same batch. It is no `Optimizer`, whose `step` takes no closure; schedules and checkpoints take it. All parameters have one dtype, and lie on one device; float64 is worth its time here. Each
 * iteration reads some numbers: on a device that is read with await `step` is a promise.
 */
export class LBFGS {
  static readonly builtIn: string = 'LBFGS';
  readonly #parameters: readonly Tensor[];
  readonly #o: Required<Omit<LBFGSOptions, 'lr'>>;
  #lr: number;
  #state: State = FRESH;
  #isRunning = false;

  constructor(parameters: Iterable<Tensor>, options: LBFGSOptions = {}) {
    checkOptions<LBFGSOptions>('LBFGS', options, {
      lr: aNumber,
      maxIter: anInteger,
      maxEval: anInteger,
      toleranceGrad: aNumber,
      toleranceChange: aNumber,
      historySize: anInteger,
      lineSearch: orNull(aLineSearch),
    });
    const { lr = 1, maxIter = 20, historySize = 100, lineSearch = null } = options;
    const { maxEval = Math.floor((maxIter * 5) / 4), toleranceGrad = 1e-7, toleranceChange = 1e-9 } = options;
    checkLr('LBFGS', lr);
    for (const [name, value] of Object.entries({ maxIter, maxEval, historySize }))
      checkRange('LBFGS', name, value, 1, Infinity);
    for (const [name, value] of Object.entries({ toleranceGrad, toleranceChange }))
      checkRange('LBFGS', name, value, 0, Infinity);
    this.#lr = lr;
    this.#o = { maxIter, maxEval, toleranceGrad, toleranceChange, historySize, lineSearch };
    this.#parameters = listOf('LBFGS', parameters);
    checkParameters('LBFGS', this.#parameters);
    const [first] = this.#parameters as [Tensor];
    const other = this.#parameters.find(p => p.dtype !== first.dtype || p.device !== first.device);
    if (other !== undefined)
      throw new DTypeError(
        `LBFGS: expected parameters of one dtype on one device, got ${describe(first)} on '${first.device}' and ${describe(other)} ` +
          `on '${other.device}'`,
      );
  }

  /** As the option; a schedule sets it. */
  get lr(): number {
    return this.#lr;
  }

  set lr(lr: number) {
    checkLr('LBFGS', lr);
    this.#lr = lr;
  }

  /** How often a closure was evaluated. */
  get evaluations(): number {
    return this.#state.evaluations;
  }

  /**
   * Up to `maxIter` iterations. If the closure throws, or gives a loss that is not finite at the first weights or without a line search,
   * parameters and memory are what they were before.
   *
   * @param closure see `Closure`
   * @returns the first loss: a number, or a promise of it on a device that is read with await
   */
  step(closure: Closure): number | Promise<number> {
    checkArgument('LBFGS.step', 'the closure', closure, aClosure);
    if (this.#isRunning) throw new Error('LBFGS: a step is not finished; await it before the next one');
    checkTrained(this, this.#parameters);
    for (const [i, p] of this.#parameters.entries()) if (!isHeld(p)) throw goneError('LBFGS', `parameter ${i}`, p);
    const start = computed(() => flat(this.#parameters));
    const run = this.#iterate(closure, start);
    const undo = (error: unknown): never => {
      this.#set(start);
      throw error;
    };
    this.#isRunning = true;
    const end = () => {
      start.storage.release();
      this.#isRunning = false;
    };
    if (this.#parameters.some(readsLater)) return drive(run).catch(undo).finally(end);
    try {
      let next = run.next();
      while (!next.done) next = run.next(next.value.item());
      return next.value;
    } catch (error) {
      return undo(error);
    } finally {
      end();
    }
  }

  /** One step from the weights `start`, as a generator of the numbers that it reads. Nothing is remembered before it ends. */
  *#iterate(closure: Closure, start: Tensor): Generator<Tensor, number, number> {
    const { maxIter, maxEval, toleranceGrad, toleranceChange, lineSearch } = this.#o;
    const most = function* (x: Tensor): Generator<Tensor, number, number> {
      return yield computed(() => x.abs().max());
    };
    let [state, x, evaluations] = [this.#state, start, 1];
    let { loss, gradient } = yield* this.#evaluate(closure);
    const first = loss;
    if (!Number.isFinite(loss)) throw new Error(`LBFGS: expected a finite loss at the first weights, got ${loss}`);
    let largest = yield* most(gradient);
    for (let i = 1; i <= maxIter && (i === 1 || evaluations < maxEval) && !(largest <= toleranceGrad); i++) {
      const { d, ...memory } = yield* this.#direction(state, gradient);
      const sum = state.last === null ? yield computed(() => gradient.abs().sum()) : 1;
      let t = (state.last === null ? Math.min(1, 1 / sum) : 1) * this.#lr;
      state = { ...memory, iterations: state.iterations + 1, evaluations: state.evaluations, last: { d, t, gradient } };
      const slope = yield computed(() => gradient.mul(d).sum());
      if (slope > -toleranceChange) break;
      const [before, longest, from] = [loss, yield* most(d), x];
      const move = (step: number) => {
        x = computed(() => from.add(d.mul(step)));
        this.#set(x);
      };
      if (lineSearch !== null) {
        const self = this;
        const evaluate = function* (step: number): Generator<Tensor, Point, number> {
          move(step);
          const { loss: f, gradient: there } = yield* self.#evaluate(closure);
          return { t: step, f, slope: yield computed(() => there.mul(d).sum()), gradient: there };
        };
        const found = yield* strongWolfe(evaluate, { t: 0, f: loss, slope, gradient }, t, longest, toleranceChange);
        evaluations += found.evaluations;
        ({ t, f: loss, gradient } = found.point);
        move(t);
      } else {
        move(t);
        if (i < maxIter) {
          ({ loss, gradient } = yield* this.#evaluate(closure));
          evaluations++;
          if (!Number.isFinite(loss))
            throw new Error(
              `LBFGS: expected a finite loss, got ${loss} after a step of lr ${t}; a line search may help`,
            );
        }
      }
      state = { ...state, last: { ...state.last!, t } };
      largest = yield* most(gradient);
      if (longest * t <= toleranceChange || Math.abs(loss - before) < toleranceChange) break;
    }
    this.#state = { ...state, evaluations: state.evaluations + evaluations };
    return first;
  }

  /** −H ∇f, and what is remembered from here on. */
  *#direction(
    state: State,
    gradient: Tensor,
  ): Generator<Tensor, Pick<State, 'scale' | 'pairs'> & { d: Tensor }, number> {
    const { last } = state;
    if (last === null) return { d: computed(() => gradient.neg()), scale: 1, pairs: [] };
    let { scale, pairs } = state;
    const y = computed(() => gradient.sub(last.gradient));
    const s = computed(() => last.d.mul(last.t));
    const product = computed(() => y.mul(s).sum());
    const curvature = yield product;
    if (curvature > 1e-10) {
      const pair = { s, y, rho: computed(() => product.reciprocal()) };
      pairs = [...(pairs.length === this.#o.historySize ? pairs.slice(1) : pairs), pair];
      scale = curvature / (yield computed(() => y.square().sum()));
    }
    const d = computed(() => {
      let q = gradient.neg();
      const alphas = pairs.map(() => q);
      for (let i = pairs.length - 1; i >= 0; i--) {
        const { s, y, rho } = pairs[i]!;
        alphas[i] = s.mul(q).sum().mul(rho);
        q = q.sub(y.mul(alphas[i]!));
      }
      q = q.mul(scale);
      for (const [i, { s, y, rho }] of pairs.entries()) q = q.add(s.mul(alphas[i]!.sub(y.mul(q).sum().mul(rho))));
      return q;
    });
    return { d, scale, pairs };
  }

  /** Loss and gradient at the weights of now. */
  *#evaluate(closure: Closure): Generator<Tensor, { loss: number; gradient: Tensor }, number> {
    const value: unknown = closure();
    if (dropPromise(value))
      throw new TypeError('LBFGS: expected the closure to return the loss, got a promise; closures are synchronous');
    if (!(typeof value === 'number' || value instanceof Tensor))
      throw new TypeError(`LBFGS: expected the closure to return the loss, got ${received(value)}`);
    if (value instanceof Tensor && value.size !== 1)
      throw new ShapeError(`LBFGS: expected the closure to return a scalar loss, got ${describe(value)}`);
    if (this.#parameters.every(p => borrowGrad(p) === null))
      throw new Error('LBFGS: no parameter has a gradient after the closure; does it call backward()?');
    const gradient = computed(() =>
      flat(this.#parameters.map(p => borrowGrad(p) ?? zeros(p.shape, { dtype: p.dtype, device: p.device }))),
    );
    return { loss: typeof value === 'number' ? value : yield value.detach(), gradient };
  }

  /** Gives the parameters the elements of a vector. */
  #set(x: Tensor): void {
    computed(() => {
      let at = 0;
      for (const p of this.#parameters) {
        p.copy_(x.narrow(0, at, p.size).reshape(p.shape));
        at += p.size;
      }
    });
  }

  /** Lets go of the gradients, before the next backward pass. */
  zeroGrad(...none: readonly never[]): void {
    if (none.length > 0) checkNone('LBFGS.zeroGrad', none, 'gradients become null');
    for (const p of this.#parameters) p.grad = null;
  }

  /** Counters, the learning rate, the differences [pairs, n] and the last direction: all that is needed to go on bit for bit. */
  stateDict(): StateDict {
    const { iterations, evaluations, scale, pairs, last } = this.#state;
    const numbers = { lr: this.#lr, iterations, evaluations, scale, pairs: pairs.length, step: last?.t ?? 0 };
    const state: StateDict = Object.fromEntries(Object.entries(numbers).map(([name, x]) => [name, scalar(x)]));
    if (last !== null) Object.assign(state, { direction: last.d.clone(), gradient: last.gradient.clone() });
    for (const name of ['s', 'y', 'rho'] as const)
      if (pairs.length > 0) state[name] = stack(pairs.map(pair => pair[name]));
    return state;
  }

  /** Takes over such a state. All or nothing: entries that are missing, unexpected or misshapen are listed. */
  loadStateDict(state: StateDict): void {
    if (this.#isRunning) throw new Error('LBFGS: loadStateDict() within a step; await it first');
    const reader = new StateReader('LBFGS', state);
    const { dtype, device } = this.#parameters[0]!;
    const n = this.#parameters.reduce((sum, p) => sum + p.size, 0);
    const read = (name: string, ...shape: number[]) => reader.tensor(name, { shape, dtype, device });
    const [lr, t, scale] = [reader.rate('lr'), reader.rate('step'), reader.rate('scale')];
    const [iterations, evaluations, count] = [
      reader.count('iterations'),
      reader.count('evaluations'),
      reader.count('pairs'),
    ];
    const last = iterations === 0 ? null : { d: read('direction', n), t, gradient: read('gradient', n) };
    const [s, y, rho] = count === 0 ? [] : [read('s', count, n), read('y', count, n), read('rho', count)];
    reader.finish();
    const pairs = Array.from({ length: count }, (_, i) => {
      const row = (x: Tensor) => computed(() => x.narrow(0, i, 1).squeeze(0).clone());
      return { s: row(s!), y: row(y!), rho: row(rho!) };
    });
    this.#lr = lr;
    this.#state = { iterations, evaluations, scale, last, pairs: pairs.slice(-this.#o.historySize) };
  }

  toString(): string {
    const n = this.#parameters.reduce((sum, p) => sum + p.size, 0).toLocaleString('en');
    const shown = Object.entries(this.#o).map(([key, value]) => `, ${key} ${value}`);
    return `LBFGS(lr ${this.#lr}${shown.join('')})\n  ${n} numbers in ${this.#parameters.length} parameters`;
  }

  /** As `toString`: `JSON.stringify` shows what there is and does not save it; see `stateDict`. */
  toJSON(): string {
    return this.toString();
  }

  [inspect](): string {
    return this.toString();
  }
}

const aClosure = {
  ...aFunction,
  expected: 'a function that computes the loss with its gradient and returns it',
};

/** Without a graph, and outside of every scope, because it may be remembered; temporaries go back. */
const computed = <R>(run: () => R): R => unscoped(() => noGrad(() => scope(run)));

/** All elements in one vector, a copy. */
const flat = (list: readonly Tensor[]): Tensor => concat(list.map(x => x.detach().reshape(-1)));

/** Runs a step on a device that is read with await. */
async function drive(run: Generator<Tensor, number, number>): Promise<number> {
  let next = run.next();
  while (!next.done) next = run.next(await next.value.number());
  return next.value;
}
