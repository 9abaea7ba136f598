/** Limits on gradients, between `backward` and `step`. */

import { describe, noGrad, scope, stack, type Tensor, where } from '@otimes/core';
import { borrowGrad, checkFinite, readsLater, received } from '@otimes/core/extend';
import { checkTensor, listOf } from './check.ts';

type Found = { readonly i: number; readonly g: Tensor };

/** The gradients there are, each once, with the position of their parameters. */
function gradients(op: string, parameters: Iterable<Tensor>): Found[] {
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
 * @returns the norm before; a promise of it where gradients are read with await, which are scaled all the same before that is
 * settled, by a norm in their dtype
 * @throws if that is NaN or infinite; the gradients are then as they were. The promise rejects with that
 */
export function clipGradNorm(parameters: Iterable<Tensor>, maxNorm: number): number | Promise<number> {
  checkLimit('clipGradNorm', 'maxNorm', maxNorm);
  const found = gradients('clipGradNorm', parameters);
  if (found.some(({ g }) => readsLater(g))) return clipLater(found, maxNorm);
  const norms = found.map(({ g }) => normOf(g));
  const total = Math.hypot(...norms);
  const bad = found[norms.findIndex(norm => !Number.isFinite(norm))];
  if (bad !== undefined) throw notFinite(total, bad);
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

async function clipLater(found: readonly Found[], maxNorm: number): Promise<number> {
  const total = noGrad(() =>
    scope(() => {
      const norms = stack(found.map(({ g }) => g.norm()));
      checkFinite(norms, (position, norm) => notFinite(norm, found[position]!));
      const total = norms.norm();
      const coefficient = total.add(total.minimum(1).mul(1e-6)).reciprocal().mul(maxNorm).minimum(1);
      const most = where(total.gt(0), coefficient, 1);
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
