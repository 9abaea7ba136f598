// What the tests of Winograd's convolutions share.

/** Seeded numbers of about a normal distribution, of mean 0 and variance 1. */
export function randomNumbers(count: number, seed: number): Float32Array {
  let state = (seed + 1) * 2654435761;
  const next = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state / 2 ** 31;
  };
  // The sum of three uniform numbers in [−1, 1) has variance 1.
  return Float32Array.from({ length: count }, () => next() + next() + next());
}
