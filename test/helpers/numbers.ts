// Numbers at the edges, on all devices.

import assert from 'node:assert/strict';
import type { Tensor } from '@otimes/core';

export type Values = ArrayLike<number>;
export const list = (x: Tensor): number[] => Array.from(x.contiguous().dataSync(), Number);

/** Equal up to `rtol` of the expected; infinite, NaN or 0 exactly where that is. The sign of 0 does not count. */
export function mustBe(actual: Tensor, expected: Values, rtol = 1e-6, what = ''): void {
  const values = list(actual);
  assert.equal(values.length, expected.length, what);
  for (const [i, x] of values.entries()) {
    const y = expected[i]!;
    if (x === y || (Number.isNaN(x) && Number.isNaN(y))) continue;
    if (!(Math.abs(x - y) <= rtol * Math.abs(y) && Math.abs(y) < Infinity))
      throw new Error(`${what} at ${i}: ${x}, expected ${y}, of [${values}]`);
  }
}
