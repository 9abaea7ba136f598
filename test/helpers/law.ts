// A test is a law: its title says what holds, its body throws where it does not.
import fc from 'fast-check';
import type { Test } from 'tap';

/**
 * A law. `holds` may use the test that it gets, for folders or clean-up say. `timeout` is in ms. What is returned is settled when
 * it was tested: await it before what the law needs is taken away.
 */
export function law(
  on: Test,
  title: string,
  holds: (t: Test) => void | Promise<void>,
  o: { timeout?: number } = {},
): Promise<unknown> {
  return on.test(title, o, async t => {
    await holds(t);
    t.pass('holds');
  });
}

/** What holds for random cases, the same ones in every run: `holds` throws, or returns false, where a case breaks it. */
export function property<T>(cases: fc.Arbitrary<T>, holds: (x: T) => void, numRuns = 100, seed = 42): void {
  fc.assert(fc.property(cases, holds), { seed, numRuns });
}

/** What holds for random seeds of generators. */
export const overSeeds = (numRuns: number, holds: (seed: number) => void): void =>
  property(fc.integer({ min: 1, max: 1e6 }), holds, numRuns);
