/** Writes the exports of the module `resample`: the functions of taps.ts, once for each type. */
import { instances } from './elementwise.mjs';

const NAMES = ['resample', 'resampleBackward'];

/** The source of generated/resample.ts. */
export function resample() {
  const table = Object.fromEntries(NAMES.map(name => [name, ['f32', 'f64']]));
  return [`import { ${NAMES.join(', ')} } from '../taps';`, ...instances('taps', table)].join('\n');
}
