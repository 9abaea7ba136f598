/** Losses whose forward and backward passes are one kernel each. The layers' losses in nn are made of them. */

import { aNumber, checkArgument } from '../check.ts';
import { isFloat } from '../dtype.ts';
import { DTypeError, describe, ShapeError } from '../errors.ts';
import { emptyLike } from '../fill.ts';
import { isRecording } from '../graph.ts';
import { defineOp, notDifferentiable, type Op } from '../op.ts';
import { sameShape } from '../shape.ts';
import { checkTensors, type Tensor } from '../tensor.ts';
import { mul, sub } from './elementwise.ts';
import { softmax } from './reduce.ts';
import { checkIndex, oneHot } from './select.ts';

/** `stats` is filled by the forward pass. */
type CrossEntropy = { readonly scale: number; readonly stats: Tensor };

const crossEntropyOp: Op<CrossEntropy> = defineOp<CrossEntropy>({
  name: 'crossEntropy',
  shape: ([x]) => ({ shape: [], dtype: x!.dtype }),
  forward: (backend, [x, labels], out, { stats, scale }) => backend.crossEntropy(x!, labels!, stats, scale, out),
  backward(gy, node) {
    const [x, labels] = [node.input(0), node.input(1)];
    // The kernel has no gradient rule. Where a graph of the gradient is wanted, the same is written in tensor operations.
    if (!isRecording()) return [crossEntropyGrad([gy, x, labels], node.attrs), null];
    const residual = sub(softmax(x, 1), oneHot(labels, x.shape[1]!, { dtype: x.dtype }));
    return [mul(residual, mul(gy, node.attrs.scale)), null];
  },
});

const crossEntropyGrad = defineOp<CrossEntropy>({
  name: 'crossEntropyGrad',
  shape: ([, x]) => x!,
  forward: (backend, [gy, x, labels], out, { stats, scale }) =>
    backend.crossEntropyGrad(gy!, x!, labels!, stats, scale, out),
  backward: notDifferentiable,
});

/** scale · Σ over the rows of −log softmax(x)[label], for logits x [N, C] and int32 labels [N] below C; a scalar. */
export function labelCrossEntropy(x: Tensor, labels: Tensor, scale: number): Tensor {
  checkTensors('crossEntropy', x, labels);
  checkArgument('crossEntropy', 'scale', scale, aNumber);
  if (x.rank !== 2 || !isFloat(x.dtype))
    throw new ShapeError(`crossEntropy: expected floating logits [N, C], got ${describe(x)}`);
  if (labels.rank !== 1 || labels.shape[0] !== x.shape[0])
    throw new ShapeError(`crossEntropy: expected labels int32[${x.shape[0]}], got ${describe(labels)}`);
  if (labels.dtype !== 'int32')
    throw new DTypeError(
      `crossEntropy: expected labels int32[${x.shape[0]}], got ${describe(labels)}; y.astype('int32') converts them`,
    );
  checkIndex('crossEntropy', labels, x.shape[1]!, 'label');
  const stats = emptyLike(x, [x.shape[0]!, 2]);
  return crossEntropyOp([x, labels], { stats, scale });
}

const squaredErrorOp: Op<number> = defineOp<number>({
  name: 'squaredError',
  shape: ([a]) => ({ shape: [], dtype: a!.dtype }),
  forward: (backend, [a, b], out, scale) => backend.squaredError(a!, b!, scale, out),
  backward: (gy, node) => [
    node.needs(0) ? squaredErrorGrad([gy, node.input(0), node.input(1)], 2 * node.attrs) : null,
    node.needs(1) ? squaredErrorGrad([gy, node.input(1), node.input(0)], 2 * node.attrs) : null,
  ],
});

const squaredErrorGrad: Op<number> = defineOp<number>({
  name: 'squaredErrorGrad',
  shape: ([, a]) => a!,
  forward: (backend, [gy, a, b], out, scale) => backend.squaredErrorGrad(gy!, a!, b!, scale, out),
  backward(ggx, node) {
    const [gy, a, b] = [node.input(0), node.input(1), node.input(2)];
    const scaled = mul(ggx, node.attrs);
    const byA = mul(scaled, gy);
    return [mul(scaled, sub(a, b)), byA, mul(byA, -1)];
  },
});

/** scale · Σ (a − b)² of two floating tensors of one shape and dtype; a scalar. */
export function squaredError(a: Tensor, b: Tensor, scale: number): Tensor {
  checkTensors('squaredError', a, b);
  if (typeof scale !== 'number') checkArgument('squaredError', 'scale', scale, aNumber);
  if (!sameShape(a.shape, b.shape) || a.dtype !== b.dtype)
    throw new ShapeError(`squaredError: expected a tensor like ${describe(a)}, got ${describe(b)}`);
  if (!isFloat(a.dtype)) throw new DTypeError(`squaredError: expected floating tensors, got ${describe(a)}`);
  return squaredErrorOp([a, b], scale);
}
