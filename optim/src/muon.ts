/**
 * Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon): momentum, of which each weight matrix gets the nearest
 * orthogonal one.
 */

import { gram, type Tensor } from '@otimes/core';
import {
  aBoolean,
  aCount,
  aNumber,
  checkArgument,
  checkOptions,
  checkRange,
  type Kind,
  type OptionKinds,
} from '@otimes/core/extend';
import { AdamW } from './adam.ts';
import type { AnyModule } from './kronecker/options.ts';
import type { Direction } from './matrix/direction.ts';
import { MatrixOptimizer } from './matrix/optimizer.ts';
import { MATRIX_OPTIONS, type MatrixOptions } from './matrix/options.ts';

export type MuonOptions = MatrixOptions & {
  /** Default 0.02. Each step moves a matrix by about lr √max(1, rows / columns) in the spectral norm. */
  lr?: number;
  /** β, the share of the last momentum that is kept; default 0.95. */
  momentum?: number;
  /** Look ahead along the momentum; default true. */
  nesterov?: boolean;
  /** Newton–Schulz steps, at most 100; default 5. */
  steps?: number;
};

const OPTIONS: OptionKinds<MuonOptions> = {
  ...MATRIX_OPTIONS,
  momentum: aNumber,
  nesterov: aBoolean,
  steps: aNumber,
};

/** Five do; a slip of the keyboard should not take hours. */
const someSteps: Kind = { ...aCount, expected: 'an integer from 1 to 100', is: v => aCount.is(v) && Number(v) <= 100 };

/** Of the default rest. */
const EPS = 1e-10;

/** Of p(x) = ax + bx³ + cx⁵, which is steep at 0: after five steps x ≥ .0016 lies in [.68, 1.21], and below it grows 485-fold. */
const [a, b, c] = [3.4445, -4.775, 2.0315];

/**
 * m ← m + (1−β)(g − m), then g + β(m − g) with `nesterov`, else m; that over its Frobenius norm + 1e-7 is X₀, and
 * X ← aX + (bA + cA²)X, A = X Xᵀ; the update is √max(1, rows / columns) X.
 */
export class Muon extends MatrixOptimizer {
  static readonly builtIn: string = 'Muon';
  readonly momentum: number;
  readonly nesterov: boolean;
  readonly newtonSchulzSteps: number;

  /** `rest` defaults to AdamW with lr 3e-4, betas [0.9, 0.95], eps 1e-10 and no weight decay, as in the authors' code. */
  constructor(model: AnyModule, o: MuonOptions = {}) {
    checkOptions<MuonOptions>(new.target.builtIn, o, OPTIONS);
    const { momentum = 0.95, nesterov = true, steps = 5, ...shared } = o;
    checkRange(new.target.builtIn, 'momentum', momentum, 0, 1);
    checkArgument(new.target.builtIn, 'steps', steps, someSteps);
    super(model, shared, {
      lr: 0.02,
      rest: unclaimed => new AdamW(unclaimed, { lr: 3e-4, betas: [0.9, 0.95], eps: EPS, weightDecay: 0 }),
      restGain: 1 / EPS,
      isBounded: true,
    });
    this.momentum = momentum;
    this.nesterov = nesterov;
    this.newtonSchulzSteps = steps;
  }

  protected override get slotNames(): readonly string[] {
    return ['m'];
  }

  protected override direction(g: Tensor, [before]: readonly Tensor[]): Direction {
    const beta = this.momentum;
    const m = g.sub(before!).addScaled_(before!, 1, 1 - beta);
    const direction = this.nesterov ? m.sub(g).addScaled_(g, 1, beta) : m;
    const [rows, columns] = g.shape as [number, number];
    const update = orthogonalized(direction, this.newtonSchulzSteps).mul(Math.sqrt(Math.max(1, rows / columns)));
    return { update, slots: [m] };
  }
}

/** Newton–Schulz steps on X over its norm. The long axis comes first, so that the Gram matrix is the smaller one: Xᵀ has the same steps. */
function orthogonalized(matrix: Tensor, steps: number): Tensor {
  const [rows, columns] = matrix.shape as [number, number];
  const unit = matrix.div(matrix.norm().add(1e-7));
  let X = rows < columns ? unit.transpose() : unit;
  for (let i = 0; i < steps; i++) {
    const A = gram(X);
    X = X.matmul(A.matmul(A).addScaled_(A, b, c)).addScaled_(X, a);
  }
  return rows < columns ? X.transpose() : X;
}
