/** Writes the exports of the module `depthwise`: the functions of planes.ts, once for each type. */
import { instances } from './elementwise.mjs';

const NAMES = ['depthwiseForward', 'depthwiseInputGrad', 'depthwiseWeightGrad'];

/** The source of generated/depthwise.ts. */
export function depthwise() {
  const table = Object.fromEntries(NAMES.map(name => [name, ['f32', 'f64']]));
  return [`import { ${NAMES.join(', ')} } from '../planes';`, ...instances('planes', table)].join('\n');
}
