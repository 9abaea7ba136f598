/** Activations that @otimes/core has not, as functions. They take floating tensors, and integers become float32. */

import { describe, owningIntermediates, ShapeError, type Tensor, where } from '@otimes/core';
import { aNumber, anInteger, aPositive, aTensor, checkArgument, checkOptions } from '@otimes/core/extend';

/** The tensor itself, floating; throws in the name of the activation. */
function floating(op: string, x: Tensor): Tensor {
  checkArgument(op, 'x', x, aTensor);
  return x.dtype.startsWith('float') ? x : x.astype('float32');
}

const made = (op: string, x: Tensor, run: (x: Tensor) => Tensor): Tensor =>
  owningIntermediates(() => run(floating(op, x)));

/** `leakyRelu` with learned slopes (He et al. 2015): weight [1], or [channels] for x [N, channels, …]. */
export function prelu(x: Tensor, weight: Tensor): Tensor {
  checkArgument('prelu', 'x', x, aTensor);
  checkArgument('prelu', 'weight', weight, aTensor);
  const channels = x.rank < 2 ? 1 : x.shape[1]!;
  if (weight.rank !== 1 || (weight.size !== 1 && weight.size !== channels))
    throw new ShapeError(`prelu: expected a weight [1] or [${channels}] for ${describe(x)}, got ${describe(weight)}`);
  const slopes = weight.size === 1 ? weight : weight.reshape([channels, ...x.shape.slice(2).fill(1)]);
  return made('prelu', x, z => where(z.gt(0), z, z.mul(slopes)));
}

/** x where it is above 0, else α (e^(x/α) − 1), α 1 by default (Barron 2017): its derivative at 0 is 1 for every α. */
export function celu(x: Tensor, alpha = 1): Tensor {
  checkArgument('celu', 'alpha', alpha, aPositive);
  return made('celu', x, z => where(z.gt(0), z, z.clamp(-Infinity, 0).div(alpha).expm1().mul(alpha)));
}

/** x / (1 + |x|). */
export function softsign(x: Tensor): Tensor {
  return made('softsign', x, z => z.div(z.abs().add(1)));
}

/** x in [low, high], where the gradient at the ends is 0; that of `clamp` is 1. */
const cut = (x: Tensor, low: number, high: number): Tensor =>
  where(x.gt(low).logicalAnd(x.lt(high)), x, x.detach().clamp(low, high));

/** x limited to [minVal, maxVal], [−1, 1] by default. The gradient is 0 at the ends, as in PyTorch. RangeError unless minVal < maxVal. */
export function hardtanh(x: Tensor, o: { minVal?: number; maxVal?: number } = {}): Tensor {
  checkOptions('hardtanh', o, { minVal: aNumber, maxVal: aNumber });
  const { minVal = -1, maxVal = 1 } = o;
  if (!(minVal < maxVal)) throw new RangeError(`hardtanh: expected minVal < maxVal, got ${minVal} and ${maxVal}`);
  return made('hardtanh', x, z => cut(z, minVal, maxVal));
}

/** min(max(x, 0), 6). The gradient at 0 and at 6 is 0. */
export function relu6(x: Tensor): Tensor {
  return made('relu6', x, z => cut(z, 0, 6));
}

/** min(max(x + 3, 0), 6) / 6. */
export function hardsigmoid(x: Tensor): Tensor {
  return made('hardsigmoid', x, z => cut(z, -3, 3).add(3).div(6));
}

/** x · hardsigmoid(x) (Howard et al. 2019). */
export function hardswish(x: Tensor): Tensor {
  return made('hardswish', x, z => {
    const isLow = z.lt(-3);
    const inner = z.lt(3);
    const middle = where(inner.logicalAnd(isLow.logicalNot()), z, 0);
    return where(isLow, 0, where(inner, middle.mul(middle.add(3)).div(6), z));
  });
}

/** a σ(b) for the halves a and b of x along an axis, the last by default (Dauphin et al. 2017). */
export function glu(x: Tensor, dim = -1): Tensor {
  checkArgument('glu', 'x', x, aTensor);
  checkArgument('glu', 'dim', dim, anInteger);
  const axis = dim < 0 ? dim + x.rank : dim;
  const length = x.shape[axis];
  if (length === undefined) throw new ShapeError(`glu: axis ${dim} is out of range for a tensor of rank ${x.rank}`);
  if (length % 2 !== 0) throw new ShapeError(`glu: expected an even length along axis ${dim}, got ${describe(x)}`);
  return made('glu', x, z => {
    const half = length / 2;
    return z.narrow(axis, 0, half).mul(z.narrow(axis, half, half).sigmoid());
  });
}

/** eˣ / Σ eˣ along an axis, the last by default. */
export function softmax(x: Tensor, dim = -1): Tensor {
  checkArgument('softmax', 'dim', dim, anInteger);
  return floating('softmax', x).softmax(dim);
}

/** log softmax(x) along an axis, the last by default. */
export function logSoftmax(x: Tensor, dim = -1): Tensor {
  checkArgument('logSoftmax', 'dim', dim, anInteger);
  return floating('logSoftmax', x).logSoftmax(dim);
}
