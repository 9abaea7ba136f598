/** Normalisation on the `wasm` backend. */

import { normalize as module } from '@otimes/kernels';
import { type Shape, sizeOf } from '../../../shape.ts';
import type { Operand } from '../../backend.ts';
import { weightAxes } from '../../composed/norm.ts';
import * as reference from '../../reference/layers/norm.ts';
import { empty } from '../context.ts';
import { binary } from '../elementwise.ts';
import { contextIn, type WasmBackend } from '../index.ts';
import { rowMajor } from '../memory.ts';
import { reduce } from '../reduce.ts';
import { addressOf, inMemory } from '../region.ts';
import { kernelsOf } from './load.ts';

const kernels = kernelsOf(module, [
  'layerNorm',
  'layerNormBackward',
  'layerNormWeights',
  'batchStats',
  'batchNorm',
  'batchNormBackward',
]);

export function normalize(
  this: WasmBackend,
  x: Operand,
  weight: Operand,
  bias: Operand | null,
  eps: number,
  out: Operand,
  mean: Operand,
  variance: Operand,
): void {
  const c = contextIn(this);
  const groups = groupsOf(x.shape, mean.shape);
  if (groups === null || ![out, mean, variance].every(inMemory))
    return reference.normalize(x, weight, bias, eps, out, mean, variance);
  const affine = [weight, bias].every(p => p === null || groups.takes(p.shape));
  const source = rowMajor(c, x);
  const [w, b] = affine ? [rowMajor(c, weight), bias && rowMajor(c, bias)] : [null, null];
  const [px, pw, pb] = [addressOf(source), w === null ? 0 : addressOf(w), b === null ? 0 : addressOf(b)];
  const [po, pm, pv] = [addressOf(out), addressOf(mean), addressOf(variance)];
  if (groups.kind === 'rows') {
    const { rows, cols } = groups;
    kernels(c).layerNorm[x.dtype]!(rows, cols, px, pw, pb, eps, po, pm, pv);
  } else {
    const { outer, channels, inner } = groups;
    kernels(c).batchStats[x.dtype]!(outer, channels, inner, px, pm, pv);
    kernels(c).batchNorm[x.dtype]!(outer, channels, inner, px, pm, pv, eps, pw, pb, po);
  }
  if (affine) return;
  binary(c, 'mul', out, weight, out);
  if (bias !== null) binary(c, 'add', out, bias, out);
}

export function normalizeInputGrad(
  this: WasmBackend,
  gy: Operand,
  x: Operand,
  weight: Operand,
  eps: number,
  mean: Operand,
  variance: Operand,
  out: Operand,
): void {
  const c = contextIn(this);
  const groups = groupsOf(x.shape, mean.shape);
  if (groups === null || ![out, mean, variance].every(inMemory))
    return reference.normalizeInputGrad(gy, x, weight, eps, mean, variance, out);
  const affine = groups.takes(weight.shape);
  const source = rowMajor(c, x);
  const w = affine ? rowMajor(c, weight) : null;
  // Where the weight is not the kernel's, it is multiplied in first.
  const grads = affine ? rowMajor(c, gy) : empty(c, x);
  if (!affine) binary(c, 'mul', gy, weight, grads);
  const [pg, px, pw] = [addressOf(grads), addressOf(source), w === null ? 0 : addressOf(w)];
  const [po, pm, pv] = [addressOf(out), addressOf(mean), addressOf(variance)];
  if (groups.kind === 'rows') {
    const { rows, cols } = groups;
    kernels(c).layerNormBackward[x.dtype]!(rows, cols, pg, px, pw, eps, pm, pv, po);
  } else {
    const { outer, channels, inner } = groups;
    kernels(c).batchNormBackward[x.dtype]!(outer, channels, inner, pg, px, pm, pv, eps, pw, 1, po, 0, 0);
  }
}

export function normalizeWeightGrad(
  this: WasmBackend,
  gy: Operand,
  x: Operand,
  eps: number,
  mean: Operand,
  variance: Operand,
  out: Operand,
): void {
  const c = contextIn(this);
  const groups = groupsOf(x.shape, mean.shape);
  if (groups === null || ![out, mean, variance].every(inMemory))
    return reference.normalizeWeightGrad(gy, x, eps, mean, variance, out);
  if (!groups.takes(out.shape)) {
    // Group norm: rows have their statistics, channels their weights. x̂ again, times gy, summed to the weight's shape.
    if (groups.kind !== 'rows') return reference.normalizeWeightGrad(gy, x, eps, mean, variance, out);
    const [source, normal] = [rowMajor(c, x), empty(c, x)];
    const [px, pn, pm, pv] = [addressOf(source), addressOf(normal), addressOf(mean), addressOf(variance)];
    kernels(c).layerNorm[x.dtype]!(groups.rows, groups.cols, px, 0, 0, eps, pn, pm, pv);
    binary(c, 'mul', normal, gy, normal);
    return reduce(c, 'sum', normal, weightAxes(x, out), out);
  }
  const [grads, source] = [rowMajor(c, gy), rowMajor(c, x)];
  const [pg, px] = [addressOf(grads), addressOf(source)];
  const [po, pm, pv] = [addressOf(out), addressOf(mean), addressOf(variance)];
  if (groups.kind === 'rows') {
    const { rows, cols } = groups;
    kernels(c).layerNormWeights[x.dtype]!(rows, cols, pg, px, eps, pm, pv, po, 0);
  } else {
    const { outer, channels, inner } = groups;
    kernels(c).batchNormBackward[x.dtype]!(outer, channels, inner, pg, px, pm, pv, eps, 0, 1, 0, po, 0);
  }
}

/** One sweep over a channel for the sums of all three gradients, and one for that by x. */
export function normalizeGrads(
  this: WasmBackend,
  gy: Operand,
  x: Operand,
  weight: Operand,
  eps: number,
  mean: Operand,
  variance: Operand,
  out: Operand,
  weightGrad: Operand,
  biasGrad: Operand,
): void {
  const c = contextIn(this);
  const groups = groupsOf(x.shape, mean.shape);
  if (groups === null || ![out, mean, variance, weightGrad, biasGrad].every(inMemory))
    return reference.normalizeGrads(gy, x, weight, eps, mean, variance, out, weightGrad, biasGrad);
  if (!groups.takes(weight.shape)) {
    normalizeInputGrad.call(this, gy, x, weight, eps, mean, variance, out);
    normalizeWeightGrad.call(this, gy, x, eps, mean, variance, weightGrad);
    return reduce(c, 'sum', gy, weightAxes(x, biasGrad), biasGrad);
  }
  const [grads, source, w] = [rowMajor(c, gy), rowMajor(c, x), rowMajor(c, weight)];
  const [pg, px, pw] = [addressOf(grads), addressOf(source), addressOf(w)];
  const [po, pm, pv] = [addressOf(out), addressOf(mean), addressOf(variance)];
  const [dw, db] = [addressOf(weightGrad), addressOf(biasGrad)];
  if (groups.kind === 'rows') {
    const { rows, cols } = groups;
    kernels(c).layerNormBackward[x.dtype]!(rows, cols, pg, px, pw, eps, pm, pv, po);
    kernels(c).layerNormWeights[x.dtype]!(rows, cols, pg, px, eps, pm, pv, dw, db);
  } else {
    const { outer, channels, inner } = groups;
    kernels(c).batchNormBackward[x.dtype]!(outer, channels, inner, pg, px, pm, pv, eps, pw, 1, po, dw, db);
  }
}

/** How a shape splits into groups with a mean of their own, and whether a parameter of a shape is one of the kernel. */
type Groups = { readonly takes: (parameter: Shape) => boolean } & (
  | { readonly kind: 'rows'; readonly rows: number; readonly cols: number }
  | { readonly kind: 'channels'; readonly outer: number; readonly channels: number; readonly inner: number }
);

/** Groups that are rows (layer and group norm) or channels (batch norm), by the shape of their means; else null. */
function groupsOf(x: Shape, mean: Shape): Groups | null {
  const rank = x.length;
  /** Whether a shape that broadcasts to x is x's along the axes from … to − 1 and 1 elsewhere. */
  const spans = (shape: Shape, from: number, to: number) =>
    x.every((length, i) => (shape[i - rank + shape.length] ?? 1) === (i >= from && i < to ? length : 1));
  let split = rank;
  while (split > 0 && mean[split - 1] === 1) split--;
  if (spans(mean, 0, split)) {
    const takes = (parameter: Shape) => spans(parameter, split, rank);
    return { kind: 'rows', rows: sizeOf(x.slice(0, split)), cols: sizeOf(x.slice(split)), takes };
  }
  if (!spans(mean, 1, 2)) return null;
  const takes = (parameter: Shape) => spans(parameter, 1, 2);
  return { kind: 'channels', outer: x[0]!, channels: x[1]!, inner: sizeOf(x.slice(2)), takes };
}
