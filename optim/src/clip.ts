/** Limits on gradients, between `backward` and `step`. */

import { describe, scope, type Tensor } from '@otimes/core';
import { borrowGrad, received } from '@otimes/core/extend';
import { checkTensor, listOf } from './check.ts';

/** The gradients there are, each once, with the position of their parameters. */
function gradients(op: string, parameters: Iterable<Tensor>): { i: number; g: Tensor }[] {
  return [...new Set(listOf(op, parameters))].flatMap((p, i) => {
    checkTensor(op, p, i);
    const g = borrowGrad(p);
    return g === null ? [] : [{ i, g }];
  });
}

/**
 * Scales the gradients together, in place, so that their common Euclidean norm is at most `maxNorm` (Pascanu et al.
 * 2013), as torch.nn.utils.clip_grad_norm_. `Infinity` only measures.
 *
 * @returns the norm before
 * @throws if that is NaN or infinite; the gradients are then as they were
 */
export function clipGradNorm(parameters: Iterable<Tensor>, maxNorm: number): number {
  checkLimit('clipGradNorm', 'maxNorm', maxNorm);
  const found = gradients('clipGradNorm', parameters);
  const norms = found.map(({ g }) => normOf(g));
  const total = Math.hypot(...norms);
  const bad = found[norms.findIndex(norm => !Number.isFinite(norm))];
  if (bad !== undefined)
    throw new Error(
      `clipGradNorm: the norm of the gradients is ${total}; the first such gradient is that of parameter ${bad.i}, ` +
        `${describe(bad.g)}. Nothing was scaled`,
    );
  // PyTorch adds 1e-6, which gradients that are all smaller would not survive.
  const coefficient = maxNorm / (total + 1e-6 * Math.min(1, total));
  if (coefficient < 1) for (const { g } of found) g.scale_(coefficient);
  return total;
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
