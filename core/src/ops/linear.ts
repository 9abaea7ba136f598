/** The affine map of a fully connected layer, as one operation. */

import { isFloat, promote } from '../dtype.ts';
import { DTypeError, describe, ShapeError } from '../errors.ts';
import { defineOp, type Op } from '../op.ts';
import { sizeOf } from '../shape.ts';
import { checkTensors, type Tensor } from '../tensor.ts';
import { cast } from './cast.ts';
import { add } from './elementwise.ts';
import { matmulOp } from './matmul.ts';
import { sum } from './reduce.ts';
import { reshape, transpose } from './view.ts';

const linearOp: Op<null> = defineOp<null>({
  name: 'linear',
  shape: ([x, weight]) => ({ shape: [...x!.shape.slice(0, -1), weight!.shape[0]!], dtype: x!.dtype }),
  forward: (backend, [x, weight, bias], out) => backend.linear(x!, weight!, bias ?? null, out),
  backward(gy, node) {
    const x = node.inputs[0]!;
    const rows = asRows(gy);
    return [
      node.needs(0) ? reshape(matmulOp([rows, node.input(1)], null), x.shape) : null,
      node.needs(1) ? matmulOp([transpose(rows), asRows(node.input(0))], null) : null,
      node.inputs.length === 3 && node.needs(2) ? sum(rows, 0) : null,
    ];
  },
});

/** [..., n] → [rows, n] */
function asRows(x: Tensor): Tensor {
  return x.rank === 2 ? x : reshape(x, [sizeOf(x.shape.slice(0, -1)), x.shape.at(-1)!]);
}

/**
 * x [..., in] · weightᵀ + bias for a weight [out, in] and a bias [out] → [..., out].
 *
 * @throws ShapeError, DTypeError if they do not fit
 */
export function linear(x: Tensor, weight: Tensor, bias: Tensor | null = null): Tensor {
  checkTensors('linear', x, weight, bias ?? x);
  if (weight.rank !== 2) throw new ShapeError(`linear: expected a weight [out, in], got ${describe(weight)}`);
  if (x.rank === 0 || x.shape[x.rank - 1] !== weight.shape[1])
    throw new ShapeError(`linear: expected an input [..., ${weight.shape[1]}], got ${describe(x)}`);
  if (bias !== null && (bias.rank !== 1 || bias.shape[0] !== weight.shape[0]))
    throw new ShapeError(`linear: expected a bias [${weight.shape[0]}], got ${describe(bias)}`);
  let dtype = promote(x.dtype, weight.dtype);
  if (bias !== null) dtype = promote(dtype, bias.dtype);
  if (!isFloat(dtype))
    throw new DTypeError(`linear: expected floating tensors, got ${describe(x)} and ${describe(weight)}`);
  const [input, w] = [cast(x, dtype), cast(weight, dtype)];
  return linearOp(bias === null ? [input, w] : [input, w, cast(bias, dtype)], null);
}

const gramOp: Op<null> = defineOp<null>({
  name: 'gram',
  shape: ([x]) => ({ shape: [x!.shape.at(-1)!, x!.shape.at(-1)!], dtype: x!.dtype }),
  forward: (backend, [x], out) => backend.gram(x!, out),
  backward: (gy, node) => [matmulOp([node.input(0), add(gy, transpose(gy))], null)],
});

/**
 * xᵀ x for a floating matrix x [M, N] → [N, N], or Σ_b x_bᵀ x_b for x [B, M, N]: exactly symmetric, in half the time of
 * `matmul`.
 *
 * @throws ShapeError for anything else
 */
export function gram(x: Tensor): Tensor {
  checkTensors('gram', x);
  if ((x.rank !== 2 && x.rank !== 3) || !isFloat(x.dtype))
    throw new ShapeError(`gram: expected a floating matrix or a batch of them, got ${describe(x)}`);
  return gramOp([x], null);
}
