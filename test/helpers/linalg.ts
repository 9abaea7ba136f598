// Laws over random matrices, with the WebAssembly kernels and in plain TypeScript.

import { plainSolver, setSolver } from '@otimes/linalg';
import type fc from 'fast-check';
import t, { type Test } from 'tap';
import { type Dtype, sizes } from '../arbitraries/ndarray.ts';

/** A test of what has two implementations, with either. */
export function onEach(title: string, laws: (t: Test) => Promise<void>): void {
  for (const [name, solver] of [
    ['WebAssembly', null],
    ['TypeScript', plainSolver],
  ] as const)
    t.test(`${title}: ${name}`, async t => {
      setSolver(solver);
      t.teardown(() => setSolver(null));
      await laws(t);
    });
}

/** Several sizes, then several arbitraries that depend on them. */
export const sized = <T>(count: number, min: number, make: (...n: number[]) => fc.Arbitrary<T>): fc.Arbitrary<T> =>
  sizes(count, min).chain(n => make(...n));

/** float64 wherever a law is about more than rounding to float32. */
export const wide: readonly Dtype[] = ['float64', 'int32', 'array', 'generic'];
