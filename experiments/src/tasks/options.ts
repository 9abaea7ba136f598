/** What options of a task may be, and the least of each. */

import { aBoolean, aCount, checkOptions, type Kind, type OptionKinds, oneOf } from '@otimes/core/extend';
import type { JsonRecord } from '../experiment.ts';

/** Of layers, say. */
export const someSizes: Kind = {
  expected: 'a list of integers ≥ 1',
  is: v => Array.isArray(v) && v.every(n => Number.isInteger(n) && n >= 1),
};

export const aWhole: Kind = { expected: 'an integer ≥ 0', is: v => Number.isInteger(v) && Number(v) >= 0 };

export { aBoolean, aCount, oneOf };

/**
 * The defaults with the given options in their place.
 *
 * @throws TypeError or RangeError for a name or a value that the task does not know
 */
export function optionsFor<O extends object>(task: string, given: JsonRecord, defaults: O, kinds: OptionKinds<O>): O {
  checkOptions<object>(`task '${task}'`, given, kinds);
  return { ...defaults, ...given };
}
