/** Connectionist temporal classification (Graves et al. 2006): labels for a sequence without an alignment. */

import {
  checkIndex,
  DTypeError,
  describe,
  grad,
  isRecording,
  noGrad,
  owningIntermediates,
  ShapeError,
  Tensor,
  tensor,
  where,
} from '@otimes/core';
import { aBoolean, checkArgument, defineBuiltIn, type Kind, readsLater } from '@otimes/core/extend';
import { composedCtc, type Lengths } from './ctc-composed.ts';
import { type Alignment, forwardBackward } from './ctc-host.ts';
import { checkElements, checkFloating, checkLoss, REDUCTION, type Reduction, reduce } from './reduction.ts';

const someLengths: Kind = {
  expected: 'an array of integers ≥ 0, or an int32 vector',
  is: v => v instanceof Tensor || (Array.isArray(v) && v.every(n => Number.isInteger(n) && n >= 0)),
};
const aClass: Kind = { expected: 'an integer ≥ 0', is: v => Number.isInteger(v) && Number(v) >= 0 };

type CtcAttrs = { readonly alignment: Alignment; readonly targets: Tensor; readonly o: Lengths };

/** −log of the probability of each target [N], by loops in float64 on devices whose values can be read at once. */
const onHost = /* @__PURE__ */ defineBuiltIn<CtcAttrs>({
  name: 'ctcLoss',
  shape: ([logP]) => ({ shape: [logP!.shape[1]!], dtype: logP!.dtype }),
  forward(backend, [logP], out, { alignment }) {
    backend.copy(tensor(alignment.losses, { dtype: logP!.dtype, device: logP!.device }), out);
  },
  backward(gy, node) {
    const logP = node.input(0);
    const { alignment, targets, o } = node.attrs;
    // The loops have no gradient rule. Where a graph of the gradient is wanted, the same is written in tensor operations.
    if (isRecording()) return grad(composedCtc(logP, targets, o), [logP], { gy, createGraph: true });
    const slopes = tensor(alignment.gradient(), { shape: logP.shape, dtype: logP.dtype, device: logP.device });
    return [slopes.mul(gy.unsqueeze(1))];
  },
});

/**
 * −log Σ P(alignment) over the alignments of a target with a sequence, in log space and on 'cpu' in float64. The gradient is that by
 * `logP` itself; behind a log-softmax it is PyTorch's, which adds what the softmax takes away.
 *
 * @param logP log-probabilities [time, batch, classes], of `logSoftmax(2)` say
 * @param targets int32 [batch, longest], of which the ends do not matter, or all targets one after the other [Σ targetLengths]
 * @param inputLengths by example, 1 … time; an array, or on a device that is read at once an int32 vector
 * @param targetLengths by example, ≥ 0, likewise
 * @param o blank: the class of no label, default 0; reduction: 'mean' (default) divides each loss by the length of its target (1 for an
 * empty one) and takes the mean, 'sum', 'none' [batch]; zeroInfinity (default false): a target that is too long for its input counts 0
 * with gradient 0, instead of ∞ with gradient NaN
 * @throws RangeError for a label out of range or equal to the blank, and for lengths out of range
 */
export function ctcLoss(
  logP: Tensor,
  targets: Tensor,
  inputLengths: readonly number[] | Tensor,
  targetLengths: readonly number[] | Tensor,
  o: { blank?: number; reduction?: Reduction; zeroInfinity?: boolean } = {},
): Tensor {
  checkLoss('ctcLoss', logP, targets, o, { ...REDUCTION, blank: aClass, zeroInfinity: aBoolean }, 'logP');
  checkFloating('ctcLoss', 'log-probabilities', logP);
  if (logP.rank !== 3 || logP.size === 0)
    throw new ShapeError(`ctcLoss: expected log-probabilities [time, batch, classes], got ${describe(logP)}`);
  if (targets.dtype !== 'int32')
    throw new DTypeError(`ctcLoss: expected int32 targets, got ${describe(targets)}; y.astype('int32') converts them`);
  const { blank = 0, reduction = 'mean', zeroInfinity = false } = o;
  const [time, batch, classes] = logP.shape as [number, number, number];
  if (blank >= classes) throw new RangeError(`ctcLoss: expected blank to be one of ${classes} classes, got ${blank}`);
  const inputs = lengthsOf('inputLengths', inputLengths, batch, 1, time);
  const isPadded = targets.rank === 2;
  const lengths = lengthsOf('targetLengths', targetLengths, batch, 0, isPadded ? targets.shape[1]! : targets.size);
  const total = lengths.reduce((sum, n) => sum + n, 0);
  if (isPadded ? targets.shape[0] !== batch : targets.rank !== 1 || targets.size !== total)
    throw new ShapeError(
      `ctcLoss: expected targets int32[${batch}, longest], or int32[${total}] one after the other, got ${describe(targets)}`,
    );
  return owningIntermediates(() => {
    const labels = noGrad(() => paddedTargets(targets, lengths, { blank, classes }));
    const all: Lengths = { inputs, targets: lengths, blank, zeroInfinity };
    const losses = readsLater(logP)
      ? composedCtc(logP, labels, all)
      : onHost([logP], { alignment: forwardBackward(logP, labels, all), targets: labels, o: all });
    if (reduction !== 'mean') return reduce(losses, reduction);
    const shares = lengths.map(n => 1 / (Math.max(1, n) * batch));
    return losses.mul(tensor(shares, { dtype: logP.dtype, device: logP.device })).sum();
  });
}

function lengthsOf(
  name: string,
  given: readonly number[] | Tensor,
  batch: number,
  least: number,
  most: number,
): number[] {
  checkArgument('ctcLoss', name, given, someLengths);
  if (given instanceof Tensor && readsLater(given))
    throw new TypeError(
      `ctcLoss: expected ${name} to be an array, since '${given.device}' is read with await: Array.from(await lengths.data())`,
    );
  if (given instanceof Tensor && given.dtype !== 'int32')
    throw new DTypeError(`ctcLoss: expected ${name} to be int32, got ${describe(given)}`);
  const lengths = given instanceof Tensor ? Array.from(given.dataSync()) : [...given];
  if (lengths.length !== batch)
    throw new ShapeError(`ctcLoss: expected ${batch} ${name}, one for each example, got ${lengths.length}`);
  const wrong = lengths.findIndex(n => n < least || n > most);
  if (wrong >= 0)
    throw new RangeError(`ctcLoss: expected ${name} in ${least} … ${most}, got ${lengths[wrong]} at position ${wrong}`);
  return lengths;
}

/** Checked labels [batch, longest], at least one column; 0 where a target has ended, or 1 if that is the blank. */
function paddedTargets(
  targets: Tensor,
  lengths: readonly number[],
  { blank, classes }: { blank: number; classes: number },
): Tensor {
  const longest = Math.max(1, ...lengths);
  const batch = lengths.length;
  const { device } = targets;
  const places = new Int32Array(batch * longest);
  const inside = new Int32Array(batch * longest);
  const stride = targets.rank === 2 ? targets.shape[1]! : 0;
  let start = 0;
  lengths.forEach((length, n) => {
    for (let s = 0; s < length; s++) {
      places[n * longest + s] = (stride > 0 ? n * stride : start) + s;
      inside[n * longest + s] = 1;
    }
    start += length;
  });
  const at = { dtype: 'int32', device } as const;
  if (targets.size === 0)
    return tensor(new Int32Array(batch * longest).fill(blank), { ...at, shape: [batch, longest] });
  const there = tensor(inside, at).eq(1);
  const labels = targets.reshape(-1).indexSelect(0, tensor(places, at));
  checkIndex('ctcLoss', where(there, labels, 0), classes, 'label');
  checkElements('ctcLoss', there.logicalAnd(labels.eq(blank)).logicalNot(), `labels other than the blank, ${blank}`);
  return where(there, labels, blank).reshape(batch, longest);
}
