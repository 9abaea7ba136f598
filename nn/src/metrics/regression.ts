/** Metrics of numbers: means of losses, errors, and the coefficient of determination. */

import { describe, ShapeError, sameShape, Tensor, tensor } from '@otimes/core';
import { aNumber, aTensor, checkArgument } from '@otimes/core/extend';
import { MeanMetric, Metric } from './metric.ts';

/** In the widest float of the device. */
function wide(x: Tensor): Tensor {
  const { dtypes } = x.storage.backend;
  return x.astype(dtypes === undefined || dtypes.includes('float64') ? 'float64' : 'float32');
}

function pair(op: string, predictions: Tensor, targets: Tensor): [Tensor, Tensor] {
  checkArgument(op, 'predictions', predictions, aTensor);
  checkArgument(op, 'targets', targets, aTensor);
  if (!sameShape(predictions.shape, targets.shape))
    throw new ShapeError(`${op}: expected targets like ${describe(predictions)}, got ${describe(targets)}`);
  return [wide(predictions), wide(targets)];
}

/** The weighted mean of numbers, of losses say. NaN where there was none. */
export class Mean extends MeanMetric {
  static readonly builtIn: string = 'Mean';

  /**
   * @param value a number, or a tensor all of whose elements count
   * @param weight of each of them, default 1: the size of the batch for a mean loss
   */
  update(value: Tensor | number, weight = 1): void {
    checkArgument('Mean', 'weight', weight, aNumber);
    if (!(value instanceof Tensor)) checkArgument('Mean', 'value', value, aValue);
    this.add(() => {
      const x = wide(value instanceof Tensor ? value.detach() : tensor(value, { dtype: 'float64' }));
      const { dtype, device } = x;
      return [x.sum().mul(weight), tensor(x.size * weight, { dtype, device })];
    });
  }
}

const aValue = { ...aNumber, expected: 'a number or a tensor' };

/** The mean of a function of prediction and target over all elements. */
abstract class MeanError extends MeanMetric {
  readonly #name: string;

  constructor(name: string) {
    super();
    this.#name = name;
  }

  protected abstract errors(rest: Tensor): Tensor;

  /** @param predictions, targets of one shape */
  update(predictions: Tensor, targets: Tensor): void {
    this.add(() => {
      const [p, y] = pair(this.#name, predictions, targets);
      const { dtype, device } = p;
      return [this.errors(p.sub(y)).sum(), tensor(p.size, { dtype, device })];
    });
  }
}

/** The mean of |prediction − target| over all elements. NaN where there was none. */
export class MeanAbsoluteError extends MeanError {
  static readonly builtIn: string = 'MeanAbsoluteError';

  constructor() {
    super('MeanAbsoluteError');
  }

  protected override errors(rest: Tensor): Tensor {
    return rest.abs();
  }
}

/** The mean of (prediction − target)² over all elements. NaN where there was none. */
export class MeanSquaredError extends MeanError {
  static readonly builtIn: string = 'MeanSquaredError';

  constructor() {
    super('MeanSquaredError');
  }

  protected override errors(rest: Tensor): Tensor {
    return rest.square();
  }
}

/**
 * The coefficient of determination R² = 1 − Σ (y − p)² / Σ (y − ȳ)², the mean over the outputs where there are several. Means and squares
 * of batches are merged by the formulas of Chan, Golub & LeVeque (1983), so that a large mean costs no digits. NaN for fewer than two
 * targets; −∞, or 1 where the predictions are right, for targets that are all equal.
 */
export class R2Score extends Metric {
  static readonly builtIn: string = 'R2Score';
  protected readonly terms = 4;

  /** @param predictions, targets of one shape, [N] or [N, outputs] */
  update(predictions: Tensor, targets: Tensor): void {
    this.add(() => {
      const [p, y] = pair('R2Score', predictions, targets);
      if (p.rank < 1 || p.rank > 2 || p.size === 0)
        throw new ShapeError(
          `R2Score: expected predictions [N] or [N, outputs] of a batch, got ${describe(predictions)}`,
        );
      const { dtype, device } = p;
      const mean = y.mean(0, { keepdim: true });
      const count = tensor(p.shape[0]!, { dtype, device });
      return [count, mean.squeeze(0), y.sub(mean).square().sum(0), y.sub(p).square().sum(0)];
    });
  }

  protected override merge(a: readonly Tensor[], b: readonly Tensor[]): readonly Tensor[] {
    const [n, meanA, squaresA, restA] = a as [Tensor, Tensor, Tensor, Tensor];
    const [m, meanB, squaresB, restB] = b as [Tensor, Tensor, Tensor, Tensor];
    const count = n.add(m);
    const between = meanB.sub(meanA);
    return [
      count,
      meanA.add(between.mul(m.div(count))),
      squaresA.add(squaresB).add(between.square().mul(n.mul(m).div(count))),
      restA.add(restB),
    ];
  }

  protected override finish(sums: readonly ArrayLike<number>[] | null): number {
    if (sums === null || sums[0]![0]! < 2) return Number.NaN;
    const [total, rest] = [Array.from(sums[2]!), Array.from(sums[3]!)];
    const each = total.map((squares, i) => (rest[i] === 0 ? 1 : 1 - rest[i]! / squares));
    return each.reduce((a, b) => a + b, 0) / each.length;
  }
}
