/** Disjoint parts of labelled samples, in each of which the classes have the shares that they have in the whole. */

import { Generator } from '@otimes/core';

/**
 * Indices of disjoint parts of the given lengths, shuffled by a seed. In every part the number of samples of a class is what its share
 * says, up to one for each end of the part.
 *
 * @param parts the length of each, by the name of the option that says it
 * @throws RangeError for more than there are
 */
export function stratified(
  what: string,
  labels: ArrayLike<number>,
  parts: Readonly<Record<string, number>>,
  seed: number,
): Int32Array[] {
  const n = labels.length;
  const lengths = Object.values(parts);
  const wanted = lengths.reduce((a, b) => a + b, 0);
  if (wanted > n) {
    const asked = Object.entries(parts).map(([name, length]) => `${length} for ${name}`);
    throw new RangeError(
      `${what}: expected ${wanted} samples or more, ${asked.join(' and ')}, got ${n}; taskOptions ${Object.keys(parts).join(' and ')} of the experiment say how many are used`,
    );
  }
  const order = new Generator(seed).permutation(n);
  const counts = new Map<number, number>();
  for (let i = 0; i < n; i++) counts.set(labels[i]!, (counts.get(labels[i]!) ?? 0) + 1);
  // A sample's place among those of its class, in (0, 1): sorted by it, every stretch has the shares of the whole.
  const seen = new Map<number, number>();
  const places = Array.from(order, index => {
    const label = labels[index]!;
    const rank = seen.get(label) ?? 0;
    seen.set(label, rank + 1);
    return { index, place: (rank + 0.5) / counts.get(label)! };
  });
  places.sort((a, b) => a.place - b.place);
  let from = 0;
  return lengths.map(length => {
    const part = Int32Array.from(places.slice(from, from + length), ({ index }) => index);
    from += length;
    // Sorted by place a part would begin with all the classes in turn.
    return new Generator(seed + 1).permutation(length).map(i => part[i]!);
  });
}
