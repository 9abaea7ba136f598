/** Disjoint parts of labelled samples, in each of which the classes have the shares that they have in the whole. */

import { Generator } from '@otimes/core';

/**
 * Indices of disjoint parts of the lengths in `parts`, in their order, shuffled by a seed. In every part the number of samples of a class is what its share
 * says, up to one for each end of the part.
 *
 * @param of what there are n of, for the message
 * @throws RangeError for more than there are
 */
export function stratified(
  what: string,
  labels: ArrayLike<number>,
  seed: number,
  { of, parts }: { readonly of: string; readonly parts: Readonly<Record<string, number>> },
): Int32Array[] {
  const n = labels.length;
  const lengths = Object.values(parts);
  const wanted = lengths.reduce((a, b) => a + b, 0);
  if (wanted > n) {
    const sums = Object.entries(parts).map(([name, length]) => `${name} ${length}`);
    throw new RangeError(
      `${what}: there are ${n} ${of}, and the options ask for ${sums.join(' and ')}, ${wanted} in all: give fewer in taskOptions, or more data`,
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
