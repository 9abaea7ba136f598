/** Writes the exports of the module `order`: the functions of sort.ts, once for each type. */
import { instances } from './elementwise.mjs';

const NAMES = ['sortWork', 'argsort', 'topk'];

/** The source of generated/order.ts. */
export function order() {
  const table = Object.fromEntries(NAMES.map(name => [name, ['f32', 'f64', 'i32']]));
  return [`import { ${NAMES.join(', ')} } from '../sort';`, ...instances('sort', table)].join('\n');
}
