/** The forward–backward algorithm of CTC by loops in float64, for devices whose values can be read at once. */

import type { Tensor } from '@otimes/core';
import type { Lengths } from './ctc-composed.ts';

/** Losses [N], and their gradients by logP [T, N, C] when asked for. */
export type Alignment = { readonly losses: Float64Array; gradient(): Float64Array };

/** log(eᵃ + eᵇ + eᶜ), −∞ for three of −∞. */
function logSum(a: number, b: number, c: number): number {
  const most = Math.max(a, b, c);
  if (most === -Infinity) return most;
  return most + Math.log(Math.exp(a - most) + Math.exp(b - most) + Math.exp(c - most));
}

/**
 * For logP [T, N, C] and labels [N, longest]. The states of an example with S labels are 2S+1: a blank before, between and behind them.
 * forward[t, s] is the log-probability of all beginnings that are in state s at time t.
 */
export function forwardBackward(
  logP: Tensor,
  labels: Tensor,
  { inputs, targets, blank, zeroInfinity }: Lengths,
): Alignment {
  const [time, batch, classes] = logP.shape as [number, number, number];
  const p = logP.detach().dataSync();
  const y = labels.dataSync();
  const longest = labels.shape[1]!;
  const at = (t: number, n: number, c: number) => p[(t * batch + n) * classes + c]!;
  const losses = new Float64Array(batch);
  const examples = Array.from({ length: batch }, (_, n) => {
    const states = 2 * targets[n]! + 1;
    const classOf = Int32Array.from({ length: states }, (_, s) =>
      s % 2 === 0 ? blank : y[n * longest + (s - 1) / 2]!,
    );
    /** Whether a state may follow that two before it: between different labels no blank is needed. */
    const skips = Array.from(classOf, (c, s) => s > 1 && c !== blank && c !== classOf[s - 2]);
    const steps = inputs[n]!;
    const forward = new Float64Array(steps * states).fill(-Infinity);
    for (let s = 0; s < Math.min(2, states); s++) forward[s] = at(0, n, classOf[s]!);
    for (let t = 1; t < steps; t++)
      for (let s = 0; s < states; s++) {
        const before = (t - 1) * states + s;
        const one = s > 0 ? forward[before - 1]! : -Infinity;
        const two = skips[s] ? forward[before - 2]! : -Infinity;
        forward[t * states + s] = logSum(forward[before]!, one, two) + at(t, n, classOf[s]!);
      }
    const last = steps * states - 1;
    losses[n] = -logSum(forward[last]!, states > 1 ? forward[last - 1]! : -Infinity, -Infinity);
    return { states, classOf, skips, steps, forward, loss: losses[n]! };
  });
  if (zeroInfinity) for (let n = 0; n < batch; n++) if (losses[n] === Infinity) losses[n] = 0;

  /** −P(state of class c at time t | target), added up over states. */
  const gradient = () => {
    const slopes = new Float64Array(time * batch * classes);
    examples.forEach(({ states, classOf, skips, steps, forward, loss }, n) => {
      if (loss === Infinity) {
        if (!zeroInfinity)
          for (let t = 0; t < steps; t++)
            slopes.fill(Number.NaN, (t * batch + n) * classes, (t * batch + n + 1) * classes);
        return;
      }
      /** The log-probability of all ends from state s on, without that of s itself. */
      let rest = new Float64Array(states).fill(-Infinity);
      rest.fill(0, Math.max(0, states - 2));
      for (let t = steps - 1; t >= 0; t--) {
        for (let s = 0; s < states; s++)
          slopes[(t * batch + n) * classes + classOf[s]!]! -= Math.exp(forward[t * states + s]! + rest[s]! + loss);
        if (t === 0) break;
        const into = (s: number) => (s < states ? rest[s]! + at(t, n, classOf[s]!) : -Infinity);
        rest = Float64Array.from(rest, (_, s) => logSum(into(s), into(s + 1), skips[s + 2] ? into(s + 2) : -Infinity));
      }
    });
    return slopes;
  };
  return { losses, gradient };
}
