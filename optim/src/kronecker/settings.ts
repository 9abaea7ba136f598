/** What may be set between steps, and what follows from it for a step. */

import { gradientScale, type LossReduction, type Statistics } from '../curvature/factors.ts';
import type { Refresher } from '../curvature/refresh.ts';
import type { Route } from '../curvature/routes/route.ts';
import type { FisherKind, FisherLoss } from '../curvature/sources/fisher.ts';
import type { KroneckerOptions } from './options.ts';
import type { StepInfo } from './rule.ts';
import type { BlockState } from './state.ts';

export class StepSettings implements StepInfo {
  lr: number;
  weightDecay: number;
  factorDecay: number;
  factorEvery: number;
  /** What the loss was multiplied by; its gradients have been divided by it, and those of single examples have not. */
  lossScale = 1;
  readonly lossReduction: LossReduction;
  readonly fisher: FisherKind;
  /** Of 'sampled' and 'ggn'; null for 'empirical'. */
  readonly loss: FisherLoss | null;
  readonly route: Route | 'auto';
  readonly #refresher: Refresher<BlockState>;

  constructor(lr: number, o: KroneckerOptions, refresher: Refresher<BlockState>) {
    this.lr = lr;
    this.weightDecay = o.weightDecay ?? 0;
    this.factorDecay = o.factorDecay ?? 0.9;
    this.factorEvery = o.factorEvery ?? 1;
    this.lossReduction = o.lossReduction ?? 'mean';
    this.fisher = o.fisher ?? 'empirical';
    this.loss = this.fisher === 'empirical' ? null : o.loss!;
    this.route = o.route ?? 'auto';
    this.#refresher = refresher;
  }

  /** Whether the gradients of the loss itself are those that make the factors. */
  get fisherIsLoss(): boolean {
    return this.fisher === 'empirical';
  }

  get index(): number {
    return this.#refresher.steps;
  }

  get isStatisticsStep(): boolean {
    return this.#refresher.steps % this.factorEvery === 0;
  }

  isRefreshStep(state: BlockState): boolean {
    return this.#refresher.isDue(state);
  }

  /** What makes the gradients in the factors those of one example's loss. */
  scaleOf({ ownBatch }: Statistics): number {
    return this.fisherIsLoss ? gradientScale(ownBatch, this.lossReduction) / this.lossScale : 1;
  }
}
