// Eigensolvers that tests inject.
import type { Eigensolver } from '@otimes/optim';
import ndarray from 'ndarray';

/** Takes every factor for the identity. */
export const identitySolver: Eigensolver = a => {
  const n = a.shape[0]!;
  const vectors = new Float64Array(n * n);
  for (let i = 0; i < n; i++) vectors[i * n + i] = 1;
  return { values: ndarray(new Float64Array(n).fill(1), [n]), vectors: ndarray(vectors, [n, n]) };
};
