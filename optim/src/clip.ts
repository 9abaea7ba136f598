/** Limits on gradients, between `backward` and `step`. */

import { describe, noGrad, scope, stack, type Tensor, where, zeros } from '@otimes/core';
import { borrowGrad, checkFinite, readsLater, received } from '@otimes/core/extend';
import { checkTensor, listOf } from './check.ts';
import { judgedOf } from './trained.ts';

type Found = { readonly i: number; readonly p: Tensor; readonly g: Tensor };

/** The gradients there are, each once, with the position of their parameters. */
function gradients(op: string, parameters: Iterable<Tensor>): Found[] {
  return [...new Set(listOf(op, parameters))].flatMap((p, i) => {
    checkTensor(op, p, i);
    const g = borrowGrad(p);
    return g === null ? [] : [{ i, p, g }];
  });
}

/**
 * Scales the gradients together, in place, so that their common Euclidean norm is at most `maxNorm` (Pascanu et al.
 * 2013), as torch.nn.utils.clip_grad_norm_. `Infinity` only measures. After `unscale_` of a GradScaler that has found an overflow
 * nothing is scaled: the norm is not finite, and the scaler skips the step.
 *
 * @returns the norm before; a promise of it where gradients are read with await, which are scaled all the same before that is
 * settled, by a norm in their dtype
 * @throws if that is NaN or infinite, and no GradScaler has found it so before; the gradients are then as they were. The promise rejects with that
 */
export function clipGradNorm(parameters: Iterable<Tensor>, maxNorm: number): number | Promise<number> {
  checkLimit('clipGradNorm', 'maxNorm', maxNorm);
  const found = gradients('clipGradNorm', parameters);
  if (found.some(({ g }) => readsLater(g))) return clipLater(found, maxNorm);
  const norms = found.map(({ g }) => normOf(g));
  const total = Math.hypot(...norms);
  const bad = found.filter((_, i) => !Number.isFinite(norms[i]));
  const unjudged = bad.find(({ p }) => judgedOf(p) !== true);
  if (unjudged !== undefined) throw notFinite(total, unjudged);
  if (bad.length > 0) return total;
  const coefficient = maxNorm / margin(total);
  if (coefficient < 1) for (const { g } of found) g.scale_(coefficient);
  return total;
}

/** PyTorch adds 1e-6, which gradients that are all smaller would not survive. */
const margin = (total: number): number => total + 1e-6 * Math.min(1, total);

function notFinite(total: number, { i, g }: Found): Error {
  return new Error(
    `clipGradNorm: the norm of the gradients is ${total}; the first such gradient is that of parameter ${i}, ` +
      `${describe(g)}. Nothing was scaled`,
  );
}

const wordOf = (judged: boolean | Tensor | undefined, { device }: Tensor): Tensor =>
  typeof judged === 'object' ? judged : zeros([], { dtype: 'float32', device });

async function clipLater(found: readonly Found[], maxNorm: number): Promise<number> {
  const total = noGrad(() =>
    scope(() => {
      const norms = stack(found.map(({ g }) => g.norm()));
      const judged = found.map(({ p }) => judgedOf(p));
      const isJudged = judged.some(word => typeof word === 'object');
      // Of gradients that overflowed for a GradScaler its word counts.
      const unjudged = isJudged ? where(stack(judged.map(word => wordOf(word, norms))).gt(0), 0, norms) : norms;
      checkFinite(unjudged, (position, norm) => notFinite(norm, found[position]!));
      const total = norms.norm();
      const coefficient = total.add(total.minimum(1).mul(1e-6)).reciprocal().mul(maxNorm).minimum(1);
      const scales = isJudged ? total.gt(0).logicalAnd(total.isFinite()) : total.gt(0);
      const most = where(scales, coefficient, 1);
      if (maxNorm < Infinity) for (const { g } of found) g.copy_(g.mul(most));
      return total;
    }),
  );
  return total.number();
}

function checkLimit(op: string, name: string, value: unknown): void {
  if (!(typeof value === 'number' && value >= 0))
    throw new RangeError(`${op}: expected a ${name} ≥ 0, got ${received(value)}`);
}

/** The norm, in float64 where float32 does not hold it. */
function normOf(g: Tensor): number {
  return scope(() => {
    const norm = g.norm().item();
    return norm > 1e-30 && norm < Infinity ? norm : g.astype('float64').norm().item();
  });
}

/** Limits every element of the gradients to [−clipValue, clipValue], in place. */
export function clipGradValue(parameters: Iterable<Tensor>, clipValue: number): void {
  checkLimit('clipGradValue', 'clipValue', clipValue);
  for (const { g } of gradients('clipGradValue', parameters)) scope(() => g.copy_(g.clamp(-clipValue, clipValue)));
}
