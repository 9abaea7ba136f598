/** Samples from given distributions. `random.ts` has the generator, and numbers that are alike. */

import { aBoolean, aCount, anInstance, checkArgument, checkOptions } from './check.ts';
import { fromArray, TENSOR } from './create.ts';
import { allocateArray, isFloat, type TypedArray } from './dtype.ts';
import { DTypeError, describe, ShapeError } from './errors.ts';
import { arrayLike } from './fill.ts';
import { noGrad } from './graph.ts';
import { readNow } from './ops/await.ts';
import { cast } from './ops/cast.ts';
import { and, ge, le, logicalNot, lt } from './ops/elementwise.ts';
import { defaultGenerator, Generator, type RandomOptions, rand } from './random.ts';
import { checkShape } from './shape.ts';
import { checkTensors, type Tensor } from './tensor.ts';
import { checkInRange } from './values.ts';

const RNG = { rng: anInstance(Generator, 'a Generator') };

/** 0 … n−1 in random order, int32 unless `dtype` says otherwise. */
export function randperm(n: number, o: RandomOptions = {}): Tensor {
  checkShape('randperm', [n]);
  checkOptions('randperm', o, { ...TENSOR, ...RNG });
  const { rng = defaultGenerator(), dtype = 'int32', ...rest } = o;
  if (dtype === 'bool' || (dtype === 'float32' && n > 16777216))
    throw new DTypeError(`randperm: expected a dtype that holds integers below ${n}, got ${dtype}`);
  const order: TypedArray = allocateArray(dtype, n);
  order.set(rng.permutation(n));
  return fromArray(order, [n], rest);
}

/**
 * 1 with the probability that each element of p says, else 0; of the shape and dtype of p, without gradient.
 *
 * @throws RangeError for a probability that is not in [0, 1]; a device that is read with await tells it at the next read
 */
export function bernoulli(p: Tensor, o: { rng?: Generator } = {}): Tensor {
  checkTensors('bernoulli', p);
  checkOptions('bernoulli', o, RNG);
  if (!isFloat(p.dtype)) throw new DTypeError(`bernoulli: expected floating probabilities, got ${describe(p)}`);
  return noGrad(() => {
    const outside = cast(logicalNot(and(ge(p, 0), le(p, 1))), 'int32');
    checkInRange(
      outside,
      1,
      position =>
        new RangeError(`bernoulli: expected probabilities in [0, 1], got another one at position ${position}`),
    );
    return cast(lt(rand(p.shape, { dtype: p.dtype, device: p.device, ...o }), p), p.dtype);
  });
}

/** `replacement` defaults to false, `rng` to the generator that `manualSeed` seeds. */
export type MultinomialOptions = { replacement?: boolean; rng?: Generator };

/**
 * `count` positions for each row of weights [n] or [rows, n], drawn in proportion to the weights, which need not sum to 1: int32 [count]
 * or [rows, count]. Without replacement each is drawn at most once, in the order of the draws. A TypeError on a device that is read with
 * await: there `await multinomialAsync(weights, count)`.
 *
 * @throws RangeError where a weight is negative or not finite, where all are 0, or where too few are not 0
 */
export function multinomial(weights: Tensor, count: number, o: MultinomialOptions = {}): Tensor {
  checkWeights('multinomial', weights, count, o);
  return drawn('multinomial', weights, readNow('multinomial', weights), count, o);
}

/** The same on every device. */
export async function multinomialAsync(weights: Tensor, count: number, o: MultinomialOptions = {}): Promise<Tensor> {
  checkWeights('multinomialAsync', weights, count, o);
  return drawn('multinomialAsync', weights, await weights.data(), count, o);
}

function checkWeights(op: string, weights: Tensor, count: number, o: MultinomialOptions): void {
  checkTensors(op, weights);
  checkArgument(op, 'count', count, aCount);
  checkOptions(op, o, { replacement: aBoolean, ...RNG });
  if (!isFloat(weights.dtype)) throw new DTypeError(`${op}: expected floating weights, got ${describe(weights)}`);
  if (weights.rank !== 1 && weights.rank !== 2)
    throw new ShapeError(`${op}: expected weights [n] or [rows, n], got ${describe(weights)}`);
}

function drawn(op: string, like: Tensor, weights: TypedArray, count: number, o: MultinomialOptions): Tensor {
  const { replacement = false, rng = defaultGenerator() } = o;
  const n = like.shape.at(-1)!;
  const rows = like.rank === 1 ? 1 : like.shape[0]!;
  const out = new Int32Array(rows * count);
  for (let r = 0; r < rows; r++) {
    const row = weights.subarray(r * n, (r + 1) * n);
    const bad = row.findIndex(w => !(w >= 0 && w < Infinity));
    if (bad >= 0) throw new RangeError(`${op}: expected finite weights ≥ 0, got ${row[bad]} in row ${r}`);
    const some = row.filter(w => w > 0).length;
    const least = replacement ? 1 : count;
    if (some < least)
      throw new RangeError(`${op}: expected at least ${least} weights above 0, got ${some} in row ${r}`);
    out.set(replacement ? withReplacement(row, count, rng) : withoutReplacement(row, count, rng), r * count);
  }
  return arrayLike(like, out, like.rank === 1 ? [count] : [rows, count]);
}

/** By the inverse of the cumulative distribution. */
function withReplacement(weights: TypedArray, count: number, rng: Generator): Int32Array {
  const sums = new Float64Array(weights.length);
  let total = 0;
  weights.forEach((w, i) => {
    total += w;
    sums[i] = total;
  });
  // A draw may round to the total, which is reached there.
  const last = sums.indexOf(total);
  return Int32Array.from({ length: count }, () => {
    const at = rng.uniform() * total;
    let [low, high] = [0, last];
    while (low < high) {
      const middle = (low + high) >> 1;
      // The first sum above: never one of weight 0.
      if (sums[middle]! > at) high = middle;
      else low = middle + 1;
    }
    return low;
  });
}

/** The first of exponential clocks whose rates are the weights (Efraimidis & Spirakis 2006). */
function withoutReplacement(weights: TypedArray, count: number, rng: Generator): Int32Array {
  const times = Float64Array.from(weights, w => (w > 0 ? -Math.log1p(-rng.uniform()) / w : Infinity));
  const order = Int32Array.from(weights.keys()).filter(i => weights[i]! > 0);
  return order.sort((i, j) => times[i]! - times[j]!).subarray(0, count);
}
