/** Options of models, of which some are required. */

import { checkArgument, checkOptions, type Kind } from '@otimes/core/extend';
import { requiredOptions } from '../check.ts';

const later: Kind = { expected: 'anything', is: () => true };

/** Throws unless `o` is an object of options that are known, those of `kinds` of these. The constructor checks those of `names` itself. */
export function checkModelOptions(
  name: string,
  o: object,
  names: readonly string[],
  kinds: Readonly<Record<string, Kind>>,
): void {
  checkArgument(name, 'options', o, requiredOptions);
  checkOptions<Record<string, unknown>>(
    name,
    { ...o },
    { ...Object.fromEntries(names.map(one => [one, later])), ...kinds },
  );
}
