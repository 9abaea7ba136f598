// Tensors with numbered elements, in any layout.

import type { DType } from '@otimes/core';
import type fc from 'fast-check';
import { type Layout, layout, shape } from '../arbitraries/tensor.ts';

export const DTYPES: readonly DType[] = ['bool', 'int32', 'float32', 'float64'];
export const runs = { seed: 7, numRuns: 100, includeErrorInReport: true };
export const sizeOf = (s: readonly number[]) => s.reduce((a, b) => a * b, 1);

/** Shape, whole numbers in row-major order, and a layout for them. */
export const numbered = (o?: { repeated: boolean }): fc.Arbitrary<{ s: number[]; values: number[]; how: Layout }> =>
  shape().chain(s =>
    layout(s.length, o).map(how => ({ s, values: Array.from({ length: sizeOf(s) }, (_, i) => i + 1), how })),
  );
