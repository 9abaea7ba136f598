/** What a step is going to do. Everything that can fail for reasons of data is found here, and nothing is changed. */

import type { Tensor } from '@otimes/core';
import { borrowGrad, readsLater } from '@otimes/core/extend';
import type { Parameter } from '@otimes/nn';
import { goneError, isHeld } from '../check.ts';
import { checkFactor, type Kfe } from '../curvature/basis.ts';
import type { Factors } from '../curvature/factors.ts';
import type { RefreshJob } from '../curvature/refresh.ts';
import { basisGradient, isSameBasis } from '../curvature/routes/frame.ts';
import type { StepDemand } from './demand.ts';
import { finiteMagnitude, foundIn, isOrdinary, isOrdinaryStep } from './finite.ts';
import type { Rule } from './rule.ts';
import type { StepSettings } from './settings.ts';
import type { BlockState } from './state.ts';

/** A block with a gradient, and its statistics. */
export type Found = {
  readonly state: BlockState;
  /** The gradient [dOut, dIn]. */
  readonly raw: Tensor;
  /** Whether it is in the block's basis, or else in parameter coordinates. */
  readonly inBasis: boolean;
  /** Whether backward left it there, in all processes. */
  readonly cameInBasis: boolean;
  /** The factors of the batch; null where the step has none. */
  readonly fresh: Factors | null;
};

/** Such a block, whose numbers were checked. */
export type Active = Omit<Found, 'fresh'> & {
  /** At least the largest magnitude in it. */
  readonly size: number;
  /** The running averages with this step's factors in them; null where it has none. */
  readonly averages: Factors | null;
};

/** What a step is about to do to a block: nothing of it has happened yet. */
export type Plan = Active & {
  /** The basis of the step. */
  readonly basis: Kfe;
  /** A decomposition that begins with it. */
  readonly job: RefreshJob | null;
  /** The second moments of the examples' gradients in `basis`, if the step asks for them. */
  readonly squares: Tensor | null;
  /** Whether nothing can overflow. */
  readonly isOrdinary: boolean;
};

export class Planner {
  readonly #name: string;
  readonly #isOurs: boolean;
  readonly #paths: ReadonlyMap<Parameter, string>;
  readonly #rule: Rule;
  readonly #settings: StepSettings;
  readonly #demand: StepDemand;

  /**
   * @param name the optimizer's, for messages
   * @param isOurs whether no code of the program runs in a step
   * @param paths of the model's parameters
   */
  constructor(
    name: string,
    isOurs: boolean,
    paths: ReadonlyMap<Parameter, string>,
    rule: Rule,
    settings: StepSettings,
    demand: StepDemand,
  ) {
    this.#name = name;
    this.#isOurs = isOurs;
    this.#paths = paths;
    this.#rule = rule;
    this.#settings = settings;
    this.#demand = demand;
  }

  /** The block's gradient and running averages, if they are there and finite; null for a block without a gradient. */
  active(state: BlockState): Active | null {
    const found = this.found(state);
    return found === null ? null : this.checked(found);
  }

  /** The block's gradient and factors if they are there, whatever their numbers are; null for a block without a gradient. */
  found(state: BlockState): Found | null {
    const { parameters } = state.block;
    if (parameters.every(p => borrowGrad(p) === null)) return null;
    const { statistics } = state;
    const name = this.#name;
    for (const p of parameters) if (!isHeld(p)) throw goneError(name, `'${this.#paths.get(p)}'`, p);
    const without = parameters.filter(p => borrowGrad(p) === null);
    if (without.length > 0)
      throw new Error(
        `${name}: ${state.label} has gradients for some of its parameters, but none for ` +
          `${without.map(p => `'${this.#paths.get(p)}'`).join(', ')}. A block steps as a whole: freeze a part of ` +
          'it before the optimizer is made. A loss of derivatives alone gives the last bias none: add a term of the output itself, ' +
          `boundary values say, or leave the layer to rest, overrides: { '${state.block.path}': { skip: true } }`,
      );
    if (statistics?.isReached === false && this.#demand.isAny(state))
      throw new Error(
        `${name}: ${state.label} has a gradient, but none came to its output: the loss depends on it through derivatives alone, or the ` +
          'gradient is of a batch before. Its factors are those of gradients at its output: add a term of the output itself, boundary ' +
          `values say, leave the layer to rest with overrides: { '${state.block.path}': { skip: true } }, or call zeroGrad() before each batch`,
      );
    if (statistics === null && this.#demand.isAny(state))
      throw new Error(
        `${name}: ${state.label} has a gradient but no statistics: step() was called twice after one backward(), or the ` +
          'optimizer was made after the forward pass, or a state was loaded after it, or the layer did not run through ' +
          'call(). Call backward() before each step, make the optimizer before the forward pass, and run the model and its ' +
          'layers through call(), which runs the hooks',
      );
    const gradient = gradientOf(state);
    if (gradient === null) return null;
    const fresh = statistics === null ? null : statistics.factors(this.#settings.scaleOf(statistics));
    if (statistics !== null && (statistics.isOfNoExample || (fresh ?? state.A) === null))
      throw new RangeError(
        `${name}: the batch of ${state.label} is empty: there is no example to average over; no parameter was changed. ` +
          'Skip such batches',
      );
    return { state, ...gradient, cameInBasis: gradient.inBasis, fresh };
  }

  /** Throws unless gradient and factors are finite. The running averages take the factors' memory. */
  checked({ fresh, ...found }: Found): Active {
    const { state, raw } = found;
    if (fresh !== null) {
      this.#checkFactors(fresh, state);
    }
    const size = finiteMagnitude(raw, foundIn(this.#name, 'gradient', state.label));
    return { ...found, size, averages: fresh && state.blended(fresh, this.#settings.factorDecay) };
  }

  /** An active block after a wait: its gradient is made again, instead of being kept that long, and all checks are entered again. */
  again(one: Active): Active {
    const { state, averages } = one;
    const { inBasis, raw } = gradientOf(state)!;
    if (averages !== null) {
      this.#checkFactors(averages, state);
    }
    const size = finiteMagnitude(raw, foundIn(this.#name, 'gradient', state.label));
    return { ...one, inBasis, cameInBasis: inBasis, raw, size };
  }

  #checkFactors({ A, G }: Factors, { label }: BlockState): void {
    checkFactor(A, foundIn(this.#name, 'factor A', label));
    checkFactor(G, foundIn(this.#name, 'factor G', label));
  }

  /**
   * The step of a block in a basis.
   *
   * @param squares the second moments of the examples' gradients in it, where the step asks for them
   */
  plan(active: Active, basis: Kfe, job: RefreshJob | null, squares: Tensor | null): Plan {
    const { state, raw } = active;
    const most =
      squares === null
        ? 0
        : finiteMagnitude(squares, foundIn(this.#name, 'second moments of the gradients', state.label));
    const isOrdinary = (this.#isOurs && readsLater(raw)) || this.#isOrdinary(active, basis, most);
    return { ...active, basis, job, squares, isOrdinary };
  }

  /** The second moments of the gradients of this process's examples in a basis; null where the step does not ask for them. */
  squares(state: BlockState, basis: Kfe): Tensor | null {
    const { statistics } = state;
    if (!statistics?.hasSamples || !this.#demand.squares(state)) return null;
    return statistics.exampleSquares(basis, this.#settings.scaleOf(statistics));
  }

  /**
   * Whether the step of a block needs no copies: nothing can overflow, no code of the program runs, and the basis stays. A new
   * one is a long computation, of which copies are a small part and in which memory may end.
   *
   * @param squares at least the largest of the second moments
   */
  #isOrdinary({ state, size }: Active, basis: Kfe, squares: number): boolean {
    const { lr, weightDecay } = this.#settings;
    const own = lr * state.lrRatio;
    return (
      this.#isOurs &&
      basis === state.kfe &&
      state.isOrdinary &&
      typeof state.graft === 'number' &&
      state.graft <= 1e6 &&
      isOrdinaryStep(this.#rule.gain, own, 1 - own * weightDecay) &&
      isOrdinary(size) &&
      isOrdinary(squares, 2)
    );
  }
}

/** The gradient of a block: in its basis if it came in that, and as it is. Null where there is none. */
function gradientOf({ block, kfe }: BlockState): Pick<Found, 'inBasis' | 'raw'> | null {
  const found = block.layer === undefined ? null : basisGradient(block.layer);
  if (found !== null && kfe !== null && isSameBasis(found.frame, kfe)) return { inBasis: true, raw: found.D };
  const raw = block.gradient();
  return raw === null ? null : { inBasis: false, raw };
}
