/** Draws an index from logits. */

import { defaultGenerator, type Generator } from '@otimes/core';

/**
 * An index of `logits`, with probability softmax(logits / temperature) among the `topK` largest; those that equal the last of them are
 * among them, as in nanoGPT. With temperature 0 the first of the largest. Throws a RangeError for NaN or +∞.
 */
export function draw(
  logits: ArrayLike<number>,
  { temperature = 1, topK, rng = defaultGenerator() }: { temperature?: number; topK?: number; rng?: Generator },
): number {
  let best = 0;
  for (let i = 0; i < logits.length; i++) {
    const one = logits[i]!;
    if (!(one < Infinity)) throw new RangeError(`generate: expected finite logits, got ${one} for token ${i}`);
    if (one > logits[best]!) best = i;
  }
  if (temperature === 0) return best;
  const all = Array.from(logits);
  const least = topK === undefined || topK >= all.length ? -Infinity : [...all].sort((a, b) => b - a)[topK - 1]!;
  const weights = all.map(one => (one < least ? 0 : Math.exp((one - logits[best]!) / temperature)));
  let left = rng.uniform() * weights.reduce((a, b) => a + b, 0);
  for (let i = 0; i < weights.length; i++) {
    left -= weights[i]!;
    if (left < 0 && weights[i]! > 0) return i;
  }
  // Where rounding leaves something.
  return best;
}
