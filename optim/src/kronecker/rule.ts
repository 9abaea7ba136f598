/** What a Kronecker optimizer does with gradients in the eigenbasis, or with the factors themselves. All else is the same for all of them. */

import type { Tensor } from '@otimes/core';
import type { Parameter } from '@otimes/nn';
import type { FixedBasis, Rotation } from '../curvature/basis.ts';
import type { Scalar } from '../curvature/scalar.ts';
import type { Optimizer } from '../optimizer.ts';
import type { BlockState } from './state.ts';

/** A step of `scale` times `update` that is proposed for a block. Gradient and update [dOut, dIn] are in its basis. */
export type Proposal = { readonly state: BlockState; readonly gradient: Tensor; update: Tensor; scale: Scalar };

/** What a rule may ask about the step that it is a part of. */
export interface StepInfo {
  /** Learning rate; that of a block is `lrRatio` times as large. */
  readonly lr: number;
  /** Steps made before this one. */
  readonly index: number;
  /** α of the running averages. */
  readonly factorDecay: number;
  /** Whether this step updates what comes from statistics. */
  readonly isStatisticsStep: boolean;
  /** Whether this step decomposes the factors of a block. */
  isRefreshStep(state: BlockState): boolean;
}

/** Numbers of a rule, saved as `rule.NAME`. */
export interface RuleNumbers {
  /** As they are now, by name; the names are always the same. */
  get(): Readonly<Record<string, Scalar>>;
  /** What makes such numbers impossible, in words for a list of problems; null for nothing. */
  problem(loaded: Readonly<Record<string, number>>): string | null;
  /** Takes them over, and cannot fail. */
  set(loaded: Readonly<Record<string, number>>): void;
}

export interface Rule {
  /** Names of the tensors [dOut, dIn] that it keeps in `state.slots` from a block's first step on. They are saved. */
  readonly slots: readonly string[];
  /** The shape of such a tensor of a block, where it is another one. */
  shapeOf?(slot: string, state: BlockState): readonly number[];
  /**
   * How many times the largest element of the gradient an element of the update may be: 1/λ or 1/ε, say. Where that is at most 1e15 and
   * nothing is enormous, a step cannot overflow and keeps no copies. Infinity where nobody knows, and where no multiple of the
   * gradient is a bound, as for signs.
   */
  readonly gain: number;
  /**
   * What it asks of a block's statistics in a step: the second moments of the examples' gradients, which are then in
   * `state.squares`; the number of examples, in `state.statistics.batch`; or nothing. Both are those of all processes that train
   * together. Called in forward and backward passes too.
   */
  needs(state: BlockState, step: StepInfo): 'squares' | 'batch' | 'nothing';
  /** Called after a block's basis changed; `rotation` leads from the old one, null at the first time. */
  refreshed(state: BlockState, rotation: Rotation | null): void;
  /** The update for the block's gradient D̃ [dOut, dIn] of the mean loss, both in the coordinates of `state.kfe`. */
  direction(state: BlockState, D: Tensor, step: StepInfo): Tensor;
  /**
   * Does the step of `direction` on a weight in the basis at once, W̃ ← keep W̃ − lr · direction, if it can. `lr` is the block's.
   * False if it has done nothing.
   */
  stepInBasis?(state: BlockState, D: Tensor, weight: Tensor, lr: number, keep: number, step: StepInfo): boolean;
  /** A last word on the updates of all blocks together (clipping, momentum). */
  together?(proposals: readonly Proposal[], step: StepInfo): void;
  /** Numbers that it keeps beside the slots of blocks, which are saved; null for none. */
  readonly numbers?: RuleNumbers | null;
  /** λ and the mean curvature that it is added to, for reports. */
  dampingOf?(state: BlockState): { readonly lambda: number; readonly mean: Scalar };
  /** How many directions of A and of G it takes for null, for reports; null where it makes no difference. */
  nullsOf?(state: BlockState): { readonly A: Scalar; readonly G: Scalar } | null;
}

/** What makes an optimizer of this kind another one than the others. */
export type Kind = {
  readonly rule: Rule;
  /** Default learning rate. */
  readonly lr: number;
  /** Makes the default optimizer of the parameters that no block has; `lr` is that of the blocks. */
  readonly rest: (unclaimed: Parameter[], lr: number) => Optimizer;
  /**
   * The one basis of each block, in the place of eigenbases: nothing is decomposed. The rule reads `state.A` and `state.G`, packed as
   * `state.sides` say; on the steps that `isRefreshStep` tells, the batch is in them. Options that speak of decompositions are for the
   * class to refuse. Default: eigenbases, every `refreshEvery` steps.
   */
  readonly fixedBasis?: FixedBasis | undefined;
  /**
   * Whether factors serve for bases alone, so that it is enough to take statistics when these are computed, where factors are so large
   * that 'auto' has structured some. Default false: `factorEvery` is 1.
   */
  readonly rareStatistics?: boolean;
};
