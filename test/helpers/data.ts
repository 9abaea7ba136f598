// Small datasets, and what loaders give of them.

import { arange, type Tensor, tensor } from '@otimes/core';
import { TensorDataset } from '@otimes/data';

/** Samples [x, y] with x = [i, 10 i] and y = i. */
export const numbered = (n: number) => {
  const y = arange(n);
  return new TensorDataset(
    y
      .astype('float32')
      .reshape(n, 1)
      .mul(tensor([[1, 10]])),
    y,
  );
};
export const ids = (batch: readonly Tensor[]): number[] => Array.from(batch[1]!.dataSync());
export const sorted = (values: readonly number[]): number[] => [...values].sort((a, b) => a - b);
export const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
