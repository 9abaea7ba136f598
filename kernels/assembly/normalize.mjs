/** Writes the exports of the module `normalize`: the functions of norm.ts that are layers, once for each type. */
import { instances } from './elementwise.mjs';

const NAMES = ['layerNorm', 'layerNormBackward', 'layerNormWeights', 'batchStats', 'batchNorm', 'batchNormBackward'];

/** The source of generated/normalize.ts. */
export function normalize() {
  const table = Object.fromEntries(NAMES.map(name => [name, ['f32', 'f64']]));
  return [`import { ${NAMES.join(', ')} } from '../norm';`, ...instances('norm', table)].join('\n');
}
