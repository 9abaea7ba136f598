/** The library's optimizers as trainers, and settings as their options. */

import type { StateDict, Tensor } from '@otimes/core';
import type { KroneckerPreconditioner, LBFGS, Optimizer, ScheduleFree, ScheduleFreeAdamW } from '@otimes/optim';
import type { Setting, Trainer, TrainerReport } from '../experiment.ts';

/** Steps with the gradient of one evaluation of the loss. */
export class GradientTrainer<O extends Optimizer = Optimizer> implements Trainer {
  protected readonly optimizer: O;

  constructor(optimizer: O) {
    this.optimizer = optimizer;
  }

  get lr(): number {
    return this.optimizer.lr;
  }

  set lr(lr: number) {
    this.optimizer.lr = lr;
  }

  step(closure: () => Tensor): void | Promise<void> {
    // Some optimizers count what they see of a forward pass from here on.
    this.optimizer.zeroGrad();
    closure();
    return this.optimizer.step();
  }

  stateDict(): StateDict {
    return this.optimizer.stateDict();
  }

  loadStateDict(state: StateDict): void {
    this.optimizer.loadStateDict(state);
  }
}

/** Shows the averaged weights to evaluations. */
export class AveragedTrainer<O extends ScheduleFreeAdamW | ScheduleFree> extends GradientTrainer<O> {
  eval(): void {
    this.optimizer.eval();
  }

  train(): void {
    this.optimizer.train();
  }
}

async function reportOf(optimizer: KroneckerPreconditioner): Promise<TrainerReport> {
  const { milliseconds, blocks } = await optimizer.readReport();
  return {
    milliseconds,
    blocks: blocks.map(({ path, spectrum }) => ({
      path,
      spectrum: spectrum && { A: Array.from(spectrum.A), G: Array.from(spectrum.G) },
    })),
  };
}

/** Has hooks in the model, and can say what its time went into. */
export class KroneckerTrainer<O extends KroneckerPreconditioner = KroneckerPreconditioner> extends GradientTrainer<O> {
  report(): Promise<TrainerReport> {
    return reportOf(this.optimizer);
  }

  detach(): void {
    this.optimizer.detach();
  }
}

/** The same with averaged weights for evaluations. */
export class AveragedKroneckerTrainer extends AveragedTrainer<ScheduleFree<KroneckerPreconditioner>> {
  report(): Promise<TrainerReport> {
    return reportOf(this.optimizer.base);
  }

  detach(): void {
    this.optimizer.base.detach();
  }
}

/** Evaluates the loss several times a step. */
export class ClosureTrainer implements Trainer {
  readonly #optimizer: LBFGS;

  constructor(optimizer: LBFGS) {
    this.#optimizer = optimizer;
  }

  get lr(): number {
    return this.#optimizer.lr;
  }

  set lr(lr: number) {
    this.#optimizer.lr = lr;
  }

  step(closure: () => Tensor): void | Promise<void> {
    const done = this.#optimizer.step(() => {
      this.#optimizer.zeroGrad();
      return closure();
    });
    if (typeof done !== 'number') return done.then(() => {});
  }

  stateDict(): StateDict {
    return this.#optimizer.stateDict();
  }

  loadStateDict(state: StateDict): void {
    this.#optimizer.loadStateDict(state);
  }
}

/**
 * Options from a setting, whose values are no lists: `beta1` and `beta2` become `betas`. Whatever else it has goes to the optimizer, which
 * refuses what it does not know.
 *
 * @throws TypeError for one of the two betas without the other
 */
export function optionsOf(name: string, { beta1, beta2, ...rest }: Setting): Record<string, unknown> {
  if (beta1 === undefined && beta2 === undefined) return rest;
  if (beta1 === undefined || beta2 === undefined)
    throw new TypeError(`${name}: expected beta1 and beta2, got ${beta1 === undefined ? 'beta2' : 'beta1'} alone`);
  return { ...rest, betas: [beta1, beta2] };
}

/** A number of a setting that is no option of the optimizer itself, as the learning rate of the others' optimizer. */
export function numberOf(name: string, setting: Setting, key: string, or: number): number {
  const value = setting[key] ?? or;
  if (typeof value !== 'number') throw new TypeError(`${name}: expected ${key} to be a number, got '${value}'`);
  return value;
}
