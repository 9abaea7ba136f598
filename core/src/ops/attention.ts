/** Attention of several heads as one operation (Vaswani et al. 2017, section 3.2). */

import type { DeviceKernels } from '../backends/backend.ts';
import { bring } from '../backends/bring.ts';
import * as reference from '../backends/reference/layers/attention.ts';
import * as wasm from '../backends/wasm/layers/attention.ts';
import { aCount, checkArgument } from '../check.ts';
import { isFloat, promote } from '../dtype.ts';
import { DTypeError, describe, ShapeError } from '../errors.ts';
import { emptyLike } from '../fill.ts';
import { isRecording } from '../graph.ts';
import { defineOp, notDifferentiable, type Op } from '../op.ts';
import { checkTensors, type Tensor } from '../tensor.ts';
import { cast } from './cast.ts';
import { mul, sub, where } from './elementwise.ts';
import { matmul } from './matmul.ts';
import { softmax, sum } from './reduce.ts';
import { permute, reshape, transpose, unsqueeze } from './view.ts';

bring<Required<Pick<DeviceKernels, 'attention' | 'attentionGrad'>>>(reference, wasm);

/** What kernels take: features of a head, and positions. */
const [MOST_FEATURES, MOST_POSITIONS] = [256, 16384];

/** `weights` is filled by the forward pass. */
type Heads = { readonly heads: number; readonly weights: Tensor };

/** Of q, k, v, and a mask if there is one. */
const attentionOp: Op<Heads> = defineOp<Heads>({
  name: 'attention',
  shape: ([q]) => q!,
  forward: (backend, [q, k, v, mask], out, { heads, weights }) =>
    backend.attention!(q!, k!, v!, mask ?? null, heads, weights, out),
  backward(gy, node) {
    const [q, k, v] = [node.input(0), node.input(1), node.input(2)];
    const mask = node.inputs.length === 4 ? [node.input(3)] : [];
    // The kernel has no gradient rule. Where a graph of the gradient is wanted, the same is written in tensor operations.
    if (isRecording()) return [...gradients(gy, q, k, v, mask[0] ?? null, node.attrs.heads), ...mask.map(() => null)];
    const [kGrad, vGrad] = [emptyLike(k), emptyLike(v)];
    const qGrad = attentionGrad([gy, q, k, v, ...mask], { ...node.attrs, kGrad, vGrad });
    return [qGrad, kGrad, vGrad, ...mask.map(() => null)];
  },
});

const attentionGrad = defineOp<Heads & { readonly kGrad: Tensor; readonly vGrad: Tensor }>({
  name: 'attentionGrad',
  shape: ([, q]) => q!,
  forward: (backend, [gy, q, k, v, mask], out, { heads, weights, kGrad, vGrad }) =>
    backend.attentionGrad!(gy!, q!, k!, v!, mask ?? null, heads, weights, out, kGrad, vGrad),
  backward: notDifferentiable,
});

/** [B, T, heads · D] → [B, heads, T, D] */
function split(x: Tensor, heads: number): Tensor {
  const [batch, length, features] = x.shape as [number, number, number];
  return permute(reshape(x, [batch, length, heads, features / heads]), [0, 2, 1, 3]);
}

/** [B, heads, T, D] → [B, T, heads · D] */
function join(x: Tensor): Tensor {
  const [batch, heads, length, features] = x.shape as [number, number, number, number];
  return reshape(permute(x, [0, 2, 1, 3]), [batch, length, heads * features]);
}

const scaleOf = (q: Tensor, heads: number) => 1 / Math.sqrt(q.shape[2]! / heads);
/** As it broadcasts to [B, heads, T, S]. */
const overHeads = (mask: Tensor) => (mask.rank === 3 ? unsqueeze(mask, 1) : mask);

/** Queries, scaled, and weights of each head. */
function weigh(q: Tensor, k: Tensor, mask: Tensor | null, heads: number): { queries: Tensor; weights: Tensor } {
  const queries = mul(split(q, heads), scaleOf(q, heads));
  const scores = matmul(queries, transpose(split(k, heads)));
  return { queries, weights: softmax(mask === null ? scores : where(overHeads(mask), scores, -Infinity)) };
}

function gradients(gy: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | null, heads: number): Tensor[] {
  const { queries, weights } = weigh(q, k, mask, heads);
  const grads = split(gy, heads);
  const rest = matmul(grads, transpose(split(v, heads)));
  const slopes = mul(weights, sub(rest, sum(mul(rest, weights), -1, { keepdim: true })));
  const scores = mask === null ? slopes : where(overHeads(mask), slopes, 0);
  return [
    join(mul(matmul(scores, split(k, heads)), scaleOf(q, heads))),
    join(matmul(transpose(scores), queries)),
    join(matmul(transpose(weights), grads)),
  ];
}

/**
 * Attention of `heads` heads: softmax(q kᵀ / √D) v in each, where head h has the features h · D … (h + 1) · D − 1 of all three.
 *
 * @param q [B, T, heads · D]
 * @param k [B, S, heads · D], as is `v`
 * @param mask bool, [T, S] or [B, T, S]: true where position t of q may attend to position s. One that may attend to nothing gets NaN.
 * What a mask hides at the ends of rows, as the causal mask does, costs nothing on the CPU.
 * @returns [B, T, heads · D]
 * @throws ShapeError, DTypeError if they do not fit
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, heads: number, mask: Tensor | null = null): Tensor {
  checkTensors('attention', q, k, v, mask ?? q);
  checkArgument('attention', 'heads', heads, aCount);
  if (q.rank !== 3 || q.shape[2]! % heads !== 0)
    throw new ShapeError(`attention: expected q [B, T, heads · D] for ${heads} heads, got ${describe(q)}`);
  const [batch, length, features] = q.shape as [number, number, number];
  const positions = k.shape[1]!;
  for (const [name, x] of [['k', k] as const, ['v', v] as const])
    if (x.shape.join() !== [batch, positions, features].join())
      throw new ShapeError(
        `attention: expected ${name} [${batch}, ${name === 'k' ? 'S' : positions}, ${features}], got ${describe(x)}`,
      );
  if (mask !== null) checkMask(mask, batch, length, positions);
  const dtype = [q, k, v].map(x => x.dtype).reduce(promote);
  if (!isFloat(dtype)) throw new DTypeError(`attention: expected floating tensors, got ${describe(q)}`);
  const [queries, keys, values] = [cast(q, dtype), cast(k, dtype), cast(v, dtype)];
  const fits = features <= heads * MOST_FEATURES && length <= MOST_POSITIONS && positions <= MOST_POSITIONS;
  if (q.storage.backend.attention === undefined || !fits)
    return join(matmul(weigh(queries, keys, mask, heads).weights, split(values, heads)));
  const weights = emptyLike(queries, [batch, heads, length, Math.ceil(positions / 8) * 8]);
  const inputs = [queries, keys, values, ...(mask === null ? [] : [mask])];
  return attentionOp(inputs, { heads, weights });
}

function checkMask(mask: Tensor, batch: number, length: number, positions: number): void {
  const shape = mask.rank === 3 ? [batch, length, positions] : [length, positions];
  if (mask.shape.join() !== shape.join())
    throw new ShapeError(
      `attention: expected a mask [${length}, ${positions}] or [${batch}, ${length}, ${positions}], got ${describe(mask)}`,
    );
  if (mask.dtype !== 'bool') throw new DTypeError(`attention: expected a bool mask, got ${describe(mask)}`);
}
