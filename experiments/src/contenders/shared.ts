/** What the Kronecker optimizers of an experiment share, for those that have some of it alone. */

import { checkOptions } from '@otimes/core/extend';
import { KRONECKER_OPTIONS } from '@otimes/optim';
import type { JsonRecord } from '../experiment.ts';

/**
 * The options of `kronecker` that are among `own`.
 *
 * @throws TypeError for one that no Kronecker optimizer has
 */
export function sharedWith(name: string, kronecker: JsonRecord, own: readonly string[]): JsonRecord {
  checkOptions<object>(`${name}: kronecker`, kronecker, KRONECKER_OPTIONS);
  return Object.fromEntries(Object.entries(kronecker).filter(([option]) => own.includes(option)));
}
