/** Training on a problem with one optimizer: when the error fell to the target, and how far weights have moved. */

import type { Tensor } from '@otimes/core';
import type { AnyModule } from '@otimes/nn';
import { Adam, KFAC, type Optimizer } from '@otimes/optim';
import type { Problem } from './problems.ts';

export type Make = (model: AnyModule) => Optimizer;

/** Steps between two looks at error and weights. */
const LOOK = 5;
/** Of Adam, here and as a contender. */
export const ADAM_LR = 0.01;
/** An error of so many times that at the start is a divergence. */
const FAR = 100;

export type Run = {
  readonly outcome: 'reached' | 'missed' | 'diverged';
  /** To the target, where it was reached; else as many as were made. */
  readonly steps: number;
  /** The error at the looks. */
  readonly errors: readonly { readonly step: number; readonly error: number }[];
  /** Of the groups of weights that Adam would have moved. */
  readonly least: Movement;
};

/** How far a group of weights came, over how far Adam would have brought it with the same gradients. */
export type Movement = { readonly ratio: number; readonly where: string };

/** Groups of weights that have a meaning of their own: what leaves an input of a layer, and what comes to an output of it. */
type Group = { readonly name: string; readonly distance: (moves: readonly Float64Array[]) => number };

/** Trains until the target is reached, or to the limit. */
export function run(problem: Problem, make: Make, seed: number, { toLimit = false } = {}): Run {
  const { model, loss, error } = problem.setup(seed);
  const optimizer = make(model);
  const moves = new Moves(model.parameters());
  const first = error();
  const errors: { step: number; error: number }[] = [];
  const ended = (outcome: Run['outcome'], steps: number): Run => ({ outcome, steps, errors, least: moves.least() });
  let reached: number | null = null;
  for (let step = 1; step <= problem.limit; step++) {
    optimizer.zeroGrad();
    try {
      const before = loss(step - 1);
      before.backward();
      moves.gradients();
      void optimizer.step();
      if (optimizer instanceof KFAC && optimizer.wantsLoss)
        void optimizer.observeLoss(before.item(), loss(step - 1).item());
    } catch (e) {
      // A number that is not finite, which the second-order optimizers refuse.
      if (!(e instanceof RangeError)) throw e;
      return ended('diverged', step);
    }
    if (step % LOOK !== 0) continue;
    moves.look();
    const now = error();
    errors.push({ step, error: now });
    if (!(now <= FAR * first)) return ended('diverged', step);
    if (reached === null && now <= problem.target) reached = step;
    if (reached !== null && !toLimit) break;
  }
  return reached === null ? ended('missed', problem.limit) : ended('reached', reached);
}

/** How far parameters come, and copies of them that Adam moves by the same gradients. */
class Moves {
  readonly #parameters: readonly Tensor[];
  readonly #copies: readonly Tensor[];
  readonly #adam: Adam;
  readonly #start: readonly Float64Array[];
  readonly #groups: readonly Group[];
  readonly #own: number[];
  readonly #adams: number[];

  constructor(parameters: readonly Tensor[]) {
    this.#parameters = parameters;
    this.#copies = parameters.map(p => {
      const copy = p.detach().clone();
      copy.requiresGrad = true;
      return copy;
    });
    this.#adam = new Adam(this.#copies, { lr: ADAM_LR });
    this.#start = valuesOf(parameters);
    this.#groups = groupsOf(parameters);
    this.#own = this.#groups.map(() => 0);
    this.#adams = this.#groups.map(() => 0);
  }

  /** After a backward pass. */
  gradients(): void {
    for (const [i, p] of this.#parameters.entries()) this.#copies[i]!.grad = p.grad?.clone() ?? null;
    void this.#adam.step();
  }

  look(): void {
    for (const [parameters, farthest] of [
      [this.#parameters, this.#own],
      [this.#copies, this.#adams],
    ] as const) {
      const moves = valuesOf(parameters).map((values, i) => values.map((x, j) => x - this.#start[i]![j]!));
      for (const [i, { distance }] of this.#groups.entries()) farthest[i] = Math.max(farthest[i]!, distance(moves));
    }
  }

  least(): Movement {
    let least: Movement = { ratio: Infinity, where: '' };
    for (const [i, { name }] of this.#groups.entries()) {
      const [own, adams] = [this.#own[i]!, this.#adams[i]!];
      if (adams >= ADAM_LR && own / adams < least.ratio) least = { ratio: own / adams, where: name };
    }
    return least;
  }
}

const valuesOf = (parameters: readonly Tensor[]) => parameters.map(p => Float64Array.from(p.detach().dataSync()));

/** Outputs and inputs of matrices [out, …], and the elements of a vector together. */
function groupsOf(parameters: readonly Tensor[]): Group[] {
  return parameters.flatMap((p, i) => {
    const [rows = 1] = p.shape;
    const columns = p.size / rows;
    const norm = (name: string, count: number, at: (k: number) => number): Group => ({
      name: `${i} ${name}`,
      distance: moves => {
        let sum = 0;
        for (let k = 0; k < count; k++) sum += moves[i]![at(k)]! ** 2;
        return Math.sqrt(sum);
      },
    });
    if (p.rank < 2) return [norm('bias', p.size, k => k)];
    return [
      ...Array.from({ length: rows }, (_, r) => norm(`output ${r}`, columns, k => r * columns + k)),
      ...Array.from({ length: columns }, (_, c) => norm(`input ${c}`, rows, k => k * columns + c)),
    ];
  });
}
