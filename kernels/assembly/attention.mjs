/** Writes the exports of the module `attention`: the functions of attend.ts, once for each type. */
import { instances } from './elementwise.mjs';

/** The source of generated/attention.ts. */
export function attention() {
  const table = { attention: ['f32', 'f64'], attentionBackward: ['f32', 'f64'] };
  return ["import { attention, attentionBackward } from '../attend';", ...instances('attend', table)].join('\n');
}
