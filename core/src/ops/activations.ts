/** Activations whose forward and backward passes are one kernel each on the CPU. ReLU, GELU, tanh and sigmoid are methods of Tensor. */

import { aNumber, aPositive, checkArgument, checkOptions } from '../check.ts';
import { checkTensors, type Tensor } from '../tensor.ts';
import {
  abs,
  add,
  div,
  exp,
  expm1,
  gt,
  log1p,
  lt,
  maximum,
  minimum,
  mul,
  neg,
  sigmoid,
  square,
  sub,
  where,
} from './elementwise.ts';
import { defineActivation, functionOf } from './math.ts';

/** log(1 + e^z), without overflow. */
const softplusOf = (z: Tensor) => add(maximum(z, 0), log1p(exp(neg(abs(z)))));
/** s (1 − s), the slope of the sigmoid. */
const bell = (z: Tensor) => mul(sigmoid(z), sigmoid(neg(z)));

const siluOp = defineActivation(
  'silu',
  x => mul(x, sigmoid(x)),
  x => add(mul(mul(x, sigmoid(neg(x))), sigmoid(x)), sigmoid(x)),
  x => mul(bell(x), add(mul(x, sub(sigmoid(neg(x)), sigmoid(x))), 2)),
);
/** x · sigmoid(x), the sigmoid linear unit, or swish (Hendrycks & Gimpel 2016; Elfwing et al. 2017). Integers give float32. */
export const silu: (x: Tensor) => Tensor = functionOf('silu', siluOp);

/** t = tanh(log(1 + eˣ)), and its slope (1 − t²) sigmoid(x), without cancellation: by e^−|x|. */
function mishParts(x: Tensor): { t: Tensor; slope: Tensor } {
  const e = exp(neg(abs(x)));
  const negative = lt(x, 0);
  const [twice, both] = [mul(e, 2), square(e)];
  const n = where(negative, add(both, twice), add(twice, 1));
  const rest = where(negative, 2, mul(both, 2));
  const d = add(n, rest);
  const t = div(n, d);
  return { t, slope: mul(mul(div(rest, d), add(t, 1)), sigmoid(x)) };
}

const mishOp = defineActivation(
  'mish',
  x => mul(x, mishParts(x).t),
  x => {
    const { t, slope } = mishParts(x);
    return add(t, mul(x, slope));
  },
  x => {
    const { t, slope } = mishParts(x);
    const second = mul(slope, sub(sigmoid(neg(x)), mul(mul(t, sigmoid(x)), 2)));
    return add(mul(slope, 2), mul(x, second));
  },
);
/** x · tanh(log(1 + eˣ)) (Misra 2019). Integers give float32. */
export const mish: (x: Tensor) => Tensor = functionOf('mish', mishOp);

const logSigmoidOp = defineActivation(
  'logSigmoid',
  x => neg(softplusOf(neg(x))),
  x => sigmoid(neg(x)),
  x => neg(bell(x)),
);
/** log(1 / (1 + e⁻ˣ)), without overflow. Integers give float32. */
export const logSigmoid: (x: Tensor) => Tensor = functionOf('logSigmoid', logSigmoidOp);

const softplusOp = defineActivation(
  'softplus',
  (x, { p, q }) => {
    const z = mul(x, p);
    return where(gt(z, q), x, div(softplusOf(z), p));
  },
  (x, { p, q }) => {
    const z = mul(x, p);
    return where(gt(z, q), 1, sigmoid(z));
  },
  (x, { p, q }) => {
    const z = mul(x, p);
    return where(gt(z, q), 0, mul(bell(z), p));
  },
);

/**
 * log(1 + e^(β x)) / β, and x itself where β x is above `threshold` (defaults: `beta` 1, `threshold` 20). Integers give float32.
 *
 * @throws RangeError unless 0 < beta < ∞
 */
export function softplus(x: Tensor, o: { beta?: number; threshold?: number } = {}): Tensor {
  checkTensors('softplus', x);
  checkOptions('softplus', o, { beta: aPositive, threshold: aNumber });
  const { beta = 1, threshold = 20 } = o;
  return softplusOp([x], { p: beta, q: threshold });
}

const eluOp = defineActivation(
  'elu',
  (x, { p, q }) => mul(where(gt(x, 0), x, mul(expm1(minimum(x, 0)), p)), q),
  (x, { p, q }) => mul(where(gt(x, 0), 1, mul(exp(minimum(x, 0)), p)), q),
  (x, { p, q }) => where(gt(x, 0), 0, mul(exp(minimum(x, 0)), p * q)),
);

/** x above 0, else α (eˣ − 1), the exponential linear unit (Clevert et al. 2015). `alpha` defaults to 1. Integers give float32. */
export function elu(x: Tensor, alpha = 1): Tensor {
  checkTensors('elu', x);
  checkArgument('elu', 'alpha', alpha, aNumber);
  return eluOp([x], { p: alpha, q: 1 });
}

/** Fixed points of mean 0 and variance 1 (Klambauer et al. 2017, equation 14). */
const [SELU_ALPHA, SELU_SCALE] = [1.6732632423543772, 1.0507009873554805];

/** λ · elu(x, α), with λ and α by which activations keep mean 0 and variance 1 (Klambauer et al. 2017). Integers give float32. */
export function selu(x: Tensor): Tensor {
  checkTensors('selu', x);
  return eluOp([x], { p: SELU_ALPHA, q: SELU_SCALE });
}

const leakyReluOp = defineActivation(
  'leakyRelu',
  (x, { p }) => where(gt(x, 0), x, mul(x, p)),
  (x, { p }) => where(gt(x, 0), 1, p, x),
  null,
);

/** x above 0, else `negativeSlope` · x (default 0.01). At 0 the gradient is `negativeSlope`. Integers give float32. */
export function leakyRelu(x: Tensor, negativeSlope = 0.01): Tensor {
  checkTensors('leakyRelu', x);
  checkArgument('leakyRelu', 'negativeSlope', negativeSlope, aNumber);
  return leakyReluOp([x], { p: negativeSlope, q: 0 });
}
